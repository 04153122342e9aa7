/* Tiles of rows: packing, checksums, raw access without other ranks. */
#include "io/store_private.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "io/codes.h"

#define RUN_BYTES ((int64_t)1 << 20) /* of packed codes, or one tile */
#define RUN_TILES 64                 /* at most */

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

/* --- runs of tiles ----------------------------------------------------------------------------------------------- */

static int64_t tile_bytes(const struct sq_store_layer *layer)
{
    return SQ_STORE_TILE_ROWS * sq_codes_row_bytes(layer->in_features, layer->grid.bits);
}

static int64_t run_capacity(const struct sq_store_layer *layer)
{
    int64_t tiles = RUN_BYTES / tile_bytes(layer);
    return tiles < 1 ? 1 : tiles < RUN_TILES ? tiles : RUN_TILES;
}

enum sq_status sq_store_run_alloc(struct sq_store *store)
{
    struct sq_store_run *run = &store->run;
    int64_t bytes = 0, groups = 0;
    *run = (struct sq_store_run){.layer = -1};
    for (int l = 0; l < store->index.n_layers; l++) {
        const struct sq_store_layer *layer = &store->index.layers[l];
        int64_t tiles = run_capacity(layer), rows = tiles * SQ_STORE_TILE_ROWS;
        if (tiles * tile_bytes(layer) > bytes) bytes = tiles * tile_bytes(layer);
        if (rows * sq_store_layer_groups(layer) > groups) groups = rows * sq_store_layer_groups(layer);
    }
    SQ_TRY(sq_alloc("tiles of codes", bytes, 1, (void **)&run->packed));
    SQ_TRY(sq_alloc("tiles of scales", groups, sizeof *run->halves, (void **)&run->halves));
    SQ_TRY(sq_alloc("tiles of zeros", groups, 1, (void **)&run->zeros));
    return sq_alloc("checksums of tiles", RUN_TILES, sizeof *run->hashes, (void **)&run->hashes);
}

void sq_store_run_release(struct sq_store *store)
{
    sq_free(store->run.packed);
    sq_free(store->run.halves);
    sq_free(store->run.zeros);
    sq_free(store->run.hashes);
}

/* Where a tile of the run lies in memory. */
struct place {
    uint8_t *packed, *zeros;
    uint16_t *halves;
    uint64_t *hash;
};

static struct place place_of(const struct sq_store *store, const struct tile *tile, int64_t t)
{
    const struct sq_store_run *run = &store->run;
    int64_t slot = t - run->first, groups = slot * SQ_STORE_TILE_ROWS * tile->groups;
    return (struct place){.packed = run->packed + slot * tile_bytes(tile->layer),
                          .zeros = run->zeros + groups,
                          .halves = run->halves + groups,
                          .hash = run->hashes + slot};
}

static int64_t run_rows(const struct sq_store *store, const struct tile *first)
{
    int64_t rows = store->run.count * SQ_STORE_TILE_ROWS, rest = first->layer->out_features - first->first_row;
    return rows < rest ? rows : rest;
}

static enum sq_status write_run(struct sq_store *store)
{
    const struct sq_store_run *run = &store->run;
    struct tile first = tile_of(store, run->layer, run->first);
    int64_t rows = run_rows(store, &first);
    SQ_TRY(open_layer(store, run->layer));
    SQ_TRY(sq_h5_write_rows(store->codes, H5T_NATIVE_UINT8, first.first_row, rows, run->packed));
    SQ_TRY(sq_h5_write_rows(store->scales, H5T_NATIVE_UINT16, first.first_row, rows, run->halves));
    SQ_TRY(sq_h5_write_rows(store->zeros, H5T_NATIVE_UINT8, first.first_row, rows, run->zeros));
    return sq_h5_write_rows(store->checksums, H5T_NATIVE_UINT64, first.checksum_row, run->count, run->hashes);
}

enum sq_status sq_store_run_flush(struct sq_store *store)
{
    if (!store->run.is_pending) return SQ_OK;
    store->run.is_pending = false;
    enum sq_status status = write_run(store);
    store->is_broken = store->is_broken || status != SQ_OK;
    return status;
}

/* Tiles from t on, as many as there is room for. */
static enum sq_status read_run(struct sq_store *store, int layer, int64_t t)
{
    struct sq_store_run *run = &store->run;
    struct tile first = tile_of(store, layer, t);
    int64_t rest = sq_store_layer_tiles(first.layer) - t, capacity = run_capacity(first.layer);
    SQ_TRY(sq_store_run_flush(store));
    run->layer = -1;
    run->first = t;
    run->count = rest < capacity ? rest : capacity;
    int64_t rows = run_rows(store, &first);
    SQ_TRY(open_layer(store, layer));
    SQ_TRY(sq_h5_read_rows(store->codes, H5T_NATIVE_UINT8, first.first_row, rows, run->packed));
    SQ_TRY(sq_h5_read_rows(store->scales, H5T_NATIVE_UINT16, first.first_row, rows, run->halves));
    SQ_TRY(sq_h5_read_rows(store->zeros, H5T_NATIVE_UINT8, first.first_row, rows, run->zeros));
    SQ_TRY(sq_h5_read_rows(store->checksums, H5T_NATIVE_UINT64, first.checksum_row, run->count, run->hashes));
    run->layer = layer; /* only what is whole may be used */
    return SQ_OK;
}

/* --- tiles ------------------------------------------------------------------------------------------------------- */

/* Makes tile t the last one of the run that is to be written. */
static enum sq_status extend_run(struct sq_store *store, int layer, int64_t t)
{
    struct sq_store_run *run = &store->run;
    bool is_next = run->is_pending && run->layer == layer && t == run->first + run->count;
    if (!is_next || run->count == run_capacity(&store->index.layers[layer])) {
        SQ_TRY(sq_store_run_flush(store));
        run->first = t;
        run->count = 0;
    }
    run->layer = layer;
    run->count++;
    run->is_pending = true;
    return SQ_OK;
}

enum sq_status sq_store_write_tile(struct sq_store *store, int layer, int64_t t, const struct sq_store_rows *rows)
{
    SQ_TRY(extend_run(store, layer, t));
    struct tile tile = tile_of(store, layer, t);
    struct place place = place_of(store, &tile, t);
    int64_t in_features = tile.layer->in_features;
    for (int64_t i = 0; i < tile.rows; i++)
        sq_codes_pack_row(rows->codes + i * in_features, in_features, tile.layer->grid.bits,
                          place.packed + i * tile.row_bytes);
    sq_dtype_from_f32(rows->scales, tile.rows * tile.groups, tile.layer->grid.scale_dtype, place.halves);
    memcpy(place.zeros, rows->zeros, (size_t)(tile.rows * tile.groups));
    *place.hash = tile_hash(&tile, place.packed, place.halves, place.zeros);
    return SQ_OK;
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

/* Brings tile t of a layer into the run. */
static enum sq_status have_tile(struct sq_store *store, int layer, int64_t t)
{
    const struct sq_store_run *run = &store->run;
    bool is_there = run->layer == layer && !run->is_pending && t >= run->first && t < run->first + run->count;
    return is_there ? SQ_OK : read_run(store, layer, t);
}

enum sq_status sq_store_check_tile(struct sq_store *store, int layer, int64_t t, bool *good_p)
{
    SQ_TRY(have_tile(store, layer, t));
    struct tile tile = tile_of(store, layer, t);
    struct place place = place_of(store, &tile, t);
    *good_p = *place.hash == tile_hash(&tile, place.packed, place.halves, place.zeros);
    return SQ_OK;
}

enum sq_status sq_store_load_tiles(struct sq_store *store, int layer, int64_t t, int64_t *count_p)
{
    SQ_TRY(have_tile(store, layer, t));
    *count_p = store->run.first + store->run.count - t;
    return SQ_OK;
}

enum sq_status sq_store_read_tile(struct sq_store *store, int layer, int64_t t, struct sq_store_rows *rows)
{
    SQ_TRY(have_tile(store, layer, t));
    struct tile tile = tile_of(store, layer, t);
    struct place place = place_of(store, &tile, t);
    int64_t in_features = tile.layer->in_features;
    SQ_TRY(check_hash(store, &tile, *place.hash, tile_hash(&tile, place.packed, place.halves, place.zeros)));
    for (int64_t i = 0; i < tile.rows; i++)
        sq_codes_unpack_row(place.packed + i * tile.row_bytes, in_features, tile.layer->grid.bits,
                            rows->codes + i * in_features);
    memcpy(rows->zeros, place.zeros, (size_t)(tile.rows * tile.groups));
    sq_dtype_to_f32(tile.layer->grid.scale_dtype, place.halves, tile.rows * tile.groups, rows->scales);
    return SQ_OK;
}
