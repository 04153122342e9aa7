/* What the threads of a rank do together. */
#include <omp.h>

#include "base/memory.h"
#include "io/assemble_private.h"

enum sq_status sq_assembly_parallel(const struct sq_assembly *assembly, int64_t count, sq_item_fn *fn, void *context)
{
    int worst = SQ_OK;
#pragma omp parallel for schedule(dynamic, 1) num_threads(assembly->options->n_threads) reduction(max : worst)
    for (int64_t i = 0; i < count; i++) {
        if (worst > SQ_OK) continue; /* a thread's own: it begins below every status */
        int status = (int)fn(context, i, omp_get_thread_num());
        if (status > worst) worst = status;
    }
    return (enum sq_status)worst;
}

/* --- tiles -------------------------------------------------------------------------------------------------------- */

static enum sq_status alloc_tile(const struct sq_store_layer *layer, struct sq_assemble_tile *tile)
{
    int64_t in = layer->in_features, groups = sq_grid_n_groups(&layer->grid, in), rows = SQ_STORE_TILE_ROWS;
    SQ_TRY(sq_alloc("codes of a tile", rows * in, 1, (void **)&tile->rows.codes));
    SQ_TRY(sq_alloc("scales of a tile", rows * groups, 4, (void **)&tile->rows.scales));
    SQ_TRY(sq_alloc("zeros of a tile", rows * groups, 1, (void **)&tile->rows.zeros));
    SQ_TRY(sq_alloc("weights of a tile", rows * in, 4, (void **)&tile->weights));
    return sq_alloc("weights read back", rows * in, 4, (void **)&tile->found);
}

static void release_tile(struct sq_assemble_tile *tile)
{
    sq_free(tile->rows.codes);
    sq_free(tile->rows.scales);
    sq_free(tile->rows.zeros);
    sq_free(tile->weights);
    sq_free(tile->found);
}

/* Those tiles of a layer that are in memory, as the parallel items see them. */
struct loaded {
    const struct sq_assembly *assembly;
    int layer;
    int64_t first;
    struct sq_assemble_tile *rooms; /* one for each thread */
    sq_assembly_tile_fn *fn;
    void *context;
};

static enum sq_status do_tile(void *context, int64_t index, int thread)
{
    const struct loaded *loaded = context;
    struct sq_assemble_tile *tile = &loaded->rooms[thread];
    int64_t t = loaded->first + index;
    SQ_TRY(sq_store_read_tile(loaded->assembly->store, loaded->layer, t, &tile->rows));
    return loaded->fn(loaded->context, loaded->layer, t, tile);
}

static enum sq_status do_tiles(struct loaded *loaded, int64_t n_tiles)
{
    for (int64_t count; loaded->first < n_tiles; loaded->first += count) {
        SQ_TRY(sq_store_load_tiles(loaded->assembly->store, loaded->layer, loaded->first, &count));
        SQ_TRY(sq_assembly_parallel(loaded->assembly, count, do_tile, loaded));
    }
    return SQ_OK;
}

enum sq_status sq_assembly_each_tile(const struct sq_assembly *assembly, int l, sq_assembly_tile_fn *fn, void *context)
{
    int n_layers, n_threads = assembly->options->n_threads;
    const struct sq_store_layer *layer = &sq_store_layers(assembly->store, &n_layers)[l];
    struct loaded loaded = {.assembly = assembly, .layer = l, .fn = fn, .context = context};
    SQ_TRY(sq_alloc("tiles of a layer", n_threads, sizeof *loaded.rooms, (void **)&loaded.rooms));
    enum sq_status status = SQ_OK;
    for (int i = 0; i < n_threads && status == SQ_OK; i++)
        status = alloc_tile(layer, &loaded.rooms[i]);
    if (status == SQ_OK) status = do_tiles(&loaded, sq_assemble_n_tiles(layer));
    for (int i = 0; i < n_threads; i++)
        release_tile(&loaded.rooms[i]);
    sq_free(loaded.rooms);
    return status;
}
