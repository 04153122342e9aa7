/* Tiles of rows: packing, checksums, raw access without other ranks. */
#include "io/store_private.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/log.h"
#include "io/codes.h"

/* A tile's place and sizes. */
struct tile {
    const struct sq_store_layer *layer;
    int64_t first_row, rows, row_bytes, groups;
    int64_t checksum_row;
};

static struct tile tile_of(const struct sq_store *store, int l, int64_t t)
{
    const struct sq_store_layer *layer = &store->index.layers[l];
    int64_t first_row = t * SQ_STORE_TILE_ROWS, rest = layer->out_features - first_row;
    return (struct tile){
        .layer = layer,
        .first_row = first_row,
        .rows = rest < SQ_STORE_TILE_ROWS ? rest : SQ_STORE_TILE_ROWS,
        .row_bytes = sq_codes_row_bytes(layer->in_features, layer->grid.bits),
        .groups = sq_store_layer_groups(layer),
        .checksum_row = store->first_tile[l] + t,
    };
}

/* XXH3 of packed codes, scales' bit patterns and zeros, one after the other. */
static uint64_t tile_hash(const struct tile *tile, const uint8_t *packed, const uint16_t *halves, const uint8_t *zeros)
{
    XXH3_state_t state;
    XXH3_64bits_reset(&state);
    XXH3_64bits_update(&state, packed, (size_t)(tile->rows * tile->row_bytes));
    XXH3_64bits_update(&state, halves, (size_t)(tile->rows * tile->groups) * sizeof *halves);
    XXH3_64bits_update(&state, zeros, (size_t)(tile->rows * tile->groups));
    return XXH3_64bits_digest(&state);
}

/* --- the datasets of one layer, kept open while its tiles come one after the other ------------------------------- */

void sq_store_close_layer(struct sq_store *store)
{
    if (store->codes >= 0) H5Dclose(store->codes);
    if (store->scales >= 0) H5Dclose(store->scales);
    if (store->zeros >= 0) H5Dclose(store->zeros);
    store->codes = store->scales = store->zeros = -1;
    store->open_layer = -1;
}

static enum sq_status open_datasets(struct sq_store *store, hid_t group)
{
    SQ_TRY(sq_h5_dataset_open(group, "codes", &store->codes));
    SQ_TRY(sq_h5_dataset_open(group, "scales", &store->scales));
    return sq_h5_dataset_open(group, "zeros", &store->zeros);
}

static enum sq_status open_layer(struct sq_store *store, int l)
{
    if (store->open_layer == l) return SQ_OK;
    sq_store_close_layer(store);
    hid_t layers = H5Gopen2(store->file, "layers", H5P_DEFAULT);
    hid_t group = layers >= 0 ? H5Gopen2(layers, store->index.layers[l].name, H5P_DEFAULT) : -1;
    enum sq_status status = SQ_ERR_INPUT;
    if (group >= 0) {
        status = open_datasets(store, group);
        H5Gclose(group);
    } else {
        sq_h5_error(store->file, "open layer", store->index.layers[l].name);
    }
    if (layers >= 0) H5Gclose(layers);
    if (status == SQ_OK) store->open_layer = l;
    return status;
}

/* --- tiles ------------------------------------------------------------------------------------------------------- */

enum sq_status sq_store_write_tile(struct sq_store *store, int layer, int64_t t, const struct sq_store_rows *rows)
{
    struct tile tile = tile_of(store, layer, t);
    int64_t in_features = tile.layer->in_features;
    SQ_TRY(open_layer(store, layer));
    for (int64_t i = 0; i < tile.rows; i++)
        sq_codes_pack_row(rows->codes + i * in_features, in_features, tile.layer->grid.bits,
                          store->packed + i * tile.row_bytes);
    sq_dtype_from_f32(rows->scales, tile.rows * tile.groups, tile.layer->grid.scale_dtype, store->halves);
    uint64_t hash = tile_hash(&tile, store->packed, store->halves, rows->zeros);
    SQ_TRY(sq_h5_write_rows(store->codes, H5T_NATIVE_UINT8, tile.first_row, tile.rows, store->packed));
    SQ_TRY(sq_h5_write_rows(store->scales, H5T_NATIVE_UINT16, tile.first_row, tile.rows, store->halves));
    SQ_TRY(sq_h5_write_rows(store->zeros, H5T_NATIVE_UINT8, tile.first_row, tile.rows, rows->zeros));
    return sq_h5_write_rows(store->checksums, H5T_NATIVE_UINT64, tile.checksum_row, 1, &hash);
}

static enum sq_status check_hash(const struct sq_store *store, const struct tile *tile, uint64_t stored,
                                 uint64_t computed)
{
    if (stored == computed) return SQ_OK;
    sq_error("%s: layer %s, rows %lld ... %lld: the checksum of the data is %016llx, the stored one %016llx",
             store->path, tile->layer->name, (long long)tile->first_row, (long long)(tile->first_row + tile->rows - 1),
             (unsigned long long)computed, (unsigned long long)stored);
    return SQ_ERR_INPUT;
}

enum sq_status sq_store_read_tile(struct sq_store *store, int layer, int64_t t, struct sq_store_rows *rows)
{
    struct tile tile = tile_of(store, layer, t);
    int64_t in_features = tile.layer->in_features;
    uint64_t hash;
    SQ_TRY(open_layer(store, layer));
    SQ_TRY(sq_h5_read_rows(store->codes, H5T_NATIVE_UINT8, tile.first_row, tile.rows, store->packed));
    SQ_TRY(sq_h5_read_rows(store->scales, H5T_NATIVE_UINT16, tile.first_row, tile.rows, store->halves));
    SQ_TRY(sq_h5_read_rows(store->zeros, H5T_NATIVE_UINT8, tile.first_row, tile.rows, rows->zeros));
    SQ_TRY(sq_h5_read_rows(store->checksums, H5T_NATIVE_UINT64, tile.checksum_row, 1, &hash));
    SQ_TRY(check_hash(store, &tile, hash, tile_hash(&tile, store->packed, store->halves, rows->zeros)));
    for (int64_t i = 0; i < tile.rows; i++)
        sq_codes_unpack_row(store->packed + i * tile.row_bytes, in_features, tile.layer->grid.bits,
                            rows->codes + i * in_features);
    sq_dtype_to_f32(tile.layer->grid.scale_dtype, store->halves, tile.rows * tile.groups, rows->scales);
    return SQ_OK;
}
