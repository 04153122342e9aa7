/* Damage that happened to a store between two runs: what the checksums find is quantized again. */
#include "io/store_private.h"

#include "base/log.h"
#include "base/memory.h"
#include "mpi/split.h"

/* Where the tiles of a layer begin that this rank reads, when the tiles of all complete layers are dealt out in a row.
 */
struct walk {
    struct sq_range mine;
    int64_t at;
};

static int64_t n_complete_tiles(const struct sq_store *store)
{
    int64_t tiles = 0;
    for (int l = 0; l < store->index.n_layers; l++)
        if (sq_store_is_done(store, l)) tiles += sq_store_layer_tiles(&store->index.layers[l]);
    return tiles;
}

/* *damage_p: 0, or the more the earlier the first damaged tile of the layer comes, among those that are this rank's. */
static enum sq_status look_at_layer(struct sq_store *store, int layer, struct walk *walk, int64_t *damage_p)
{
    int64_t tiles = sq_store_layer_tiles(&store->index.layers[layer]), start = walk->at;
    int64_t first = walk->mine.first > start ? walk->mine.first - start : 0;
    int64_t end = walk->mine.first + walk->mine.count - start;
    walk->at += tiles;
    for (int64_t t = first; t < tiles && t < end; t++) {
        bool is_good;
        SQ_TRY(sq_store_check_tile(store, layer, t, &is_good));
        if (is_good) continue;
        *damage_p = tiles - t;
        return SQ_OK;
    }
    return SQ_OK;
}

static enum sq_status look(struct sq_store *store, int64_t *damage)
{
    struct walk walk = {.mine = sq_split(n_complete_tiles(store), store->comm.rank, store->comm.size)};
    for (int l = 0; l < store->index.n_layers; l++)
        if (sq_store_is_done(store, l)) SQ_TRY(look_at_layer(store, l, &walk, &damage[l]));
    return SQ_OK;
}

/* Rank 0 says what is wrong, and writes it down for a run that ends before the layer is whole again. */
static enum sq_status take_back(struct sq_store *store, int layer, int64_t damage)
{
    static const uint8_t undone = 0;
    const struct sq_store_layer *damaged = &store->index.layers[layer];
    int64_t row = (sq_store_layer_tiles(damaged) - damage) * SQ_STORE_TILE_ROWS;
    if (damage > 0)
        sq_warning(SQ_WARNING_DAMAGE,
                   "%s: layer %s is damaged (by its checksum, from row %lld on) and is quantized again", store->path,
                   damaged->name, (long long)row);
    else
        sq_warning(SQ_WARNING_DAMAGE,
                   "%s: the report of layer %s is damaged (by its checksum); the layer is quantized again", store->path,
                   damaged->name);
    return sq_h5_write_rows(store->progress, H5T_NATIVE_UINT8, layer, 1, &undone);
}

static enum sq_status take_back_all(struct sq_store *store, const int64_t *damage)
{
    enum sq_status status = SQ_OK;
    for (int l = 0; l < store->index.n_layers; l++) {
        if (damage[l] == 0 && store->index.progress[l] != SQ_STORE_BAD_REPORT) continue;
        store->index.progress[l] = 0;
        if (store->comm.rank == 0 && status == SQ_OK) status = take_back(store, l, damage[l]);
    }
    return status;
}

enum sq_status sq_store_recheck(struct sq_store *store)
{
    int64_t *damage = NULL, count = store->index.n_layers;
    SQ_TRY(sq_comm_agree(&store->comm, sq_alloc("damaged layers", count, sizeof *damage, (void **)&damage)));
    for (int64_t l = 0; l < count; l++)
        damage[l] = 0;
    enum sq_status status = sq_comm_agree(&store->comm, look(store, damage));
    store->run.layer = -1; /* no rank may hold on to tiles that another one writes again */
    if (status == SQ_OK) status = sq_comm_max_i64(&store->comm, damage, count);
    if (status == SQ_OK) status = sq_comm_agree(&store->comm, take_back_all(store, damage));
    store->is_broken = store->is_broken || status == SQ_ERR_IO;
    sq_free(damage);
    return status;
}
