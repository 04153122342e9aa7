/* A small store whose contents follow from layer, row and column. */
#ifndef SQ_TESTS_STORE_FIXTURE_H
#define SQ_TESTS_STORE_FIXTURE_H

#include <hdf5.h>

#include "base/half.h"
#include "base/memory.h"
#include "io/store.h"
#include "ranks.h"

#define N_LAYERS 6
#define MAX_IN 200
#define CONFIG "bits: 4\nmodel: x\n"
#define FINGERPRINT "model: 0123\nbits: 4\norder: activation\n"

static inline void fixture_layers(struct sq_store_layer layers[N_LAYERS])
{
    static char names[N_LAYERS][32];
    static const int bits[N_LAYERS] = {4, 3, 2, 8, 4, 4};
    static const int64_t out[N_LAYERS] = {64, 37, 1, 100, 33, 96}, in[N_LAYERS] = {64, 172, 5, 96, 200, 128},
                         group[N_LAYERS] = {32, 32, 5, 96, 64, 128};
    for (int l = 0; l < N_LAYERS; l++) {
        snprintf(names[l], sizeof names[l], "model.layers.%d.up_proj", l);
        layers[l] = (struct sq_store_layer){
            names[l], out[l], in[l], {bits[l], l % 2 == 0, group[l], l % 3 == 0 ? SQ_BF16 : SQ_F16}, l == 3};
    }
}

static inline int64_t fixture_tiles(const struct sq_store_layer *layer)
{
    return (layer->out_features + SQ_STORE_TILE_ROWS - 1) / SQ_STORE_TILE_ROWS;
}

struct fixture_tile {
    uint8_t codes[SQ_STORE_TILE_ROWS * MAX_IN], zeros[SQ_STORE_TILE_ROWS * MAX_IN];
    float scales[SQ_STORE_TILE_ROWS * MAX_IN];
    int64_t rows, n_codes, n_groups;
};

static inline struct sq_store_rows fixture_rows(struct fixture_tile *tile)
{
    return (struct sq_store_rows){tile->codes, tile->scales, tile->zeros};
}

/* What tile t of layer l holds. */
static inline void fixture_tile(const struct sq_store_layer *layers, int l, int64_t t, struct fixture_tile *tile)
{
    const struct sq_store_layer *layer = &layers[l];
    int64_t groups = sq_grid_n_groups(&layer->grid, layer->in_features), rest = layer->out_features - t * 32;
    memset(tile, 0, sizeof *tile);
    tile->rows = rest < SQ_STORE_TILE_ROWS ? rest : SQ_STORE_TILE_ROWS;
    tile->n_codes = tile->rows * layer->in_features;
    tile->n_groups = tile->rows * groups;
    uint32_t x = (uint32_t)(l * 7919 + t * 104729 + 1);
    for (int64_t i = 0; i < tile->n_codes; i++)
        tile->codes[i] = (uint8_t)((x = x * 1664525u + 1013904223u) >> 24 & (uint32_t)sq_grid_max_code(&layer->grid));
    for (int64_t i = 0; i < tile->n_groups; i++) {
        float scale = 0.001f * (float)((x = x * 1664525u + 1013904223u) >> 20);
        bool f16 = layer->grid.scale_dtype == SQ_F16;
        tile->scales[i] = f16 ? sq_f16_to_f32(sq_f32_to_f16(scale)) : sq_bf16_to_f32(sq_f32_to_bf16(scale));
        tile->zeros[i] = (uint8_t)(x >> 8 & 0xff);
    }
}

static inline struct sq_layer_report fixture_report(int l)
{
    return (struct sq_layer_report){0.125 * l, 0.5 * l, 0.01, l % 3 - 1, l, 2 * l, 1000 + l, 900 + l, 0.25 * l};
}

/* Writes this rank's tiles of a layer (t modulo the number of ranks). Local. */
static inline enum sq_status fixture_write(struct sq_store *store, const struct sq_store_layer *layers, int l, int rank,
                                           int size)
{
    struct fixture_tile tile;
    for (int64_t t = rank; t < fixture_tiles(&layers[l]); t += size) {
        fixture_tile(layers, l, t, &tile);
        struct sq_store_rows rows = fixture_rows(&tile);
        SQ_TRY(sq_store_write_tile(store, l, t, &rows));
    }
    return SQ_OK;
}

/* Writes and finishes layer l on all ranks of comm. Collective. */
static inline enum sq_status fixture_finish(struct sq_store *store, const struct sq_comm *comm,
                                            const struct sq_store_layer *layers, int l)
{
    struct sq_layer_report report = fixture_report(l);
    enum sq_status status = fixture_write(store, layers, l, comm->rank, comm->size);
    return sq_store_finish_layers(store, status, &l, 1, &report);
}

/* Whether layer l, read back, is what it should be. Local. */
static inline bool fixture_holds(struct sq_store *store, const struct sq_store_layer *layers, int l)
{
    static struct fixture_tile wanted, found;
    struct sq_layer_report report = fixture_report(l);
    bool same = memcmp(sq_store_report(store, l), &report, sizeof report) == 0;
    for (int64_t t = 0; t < fixture_tiles(&layers[l]); t++) {
        fixture_tile(layers, l, t, &wanted);
        memset(&found, 0, sizeof found);
        struct sq_store_rows rows = fixture_rows(&found);
        same = same && sq_store_read_tile(store, l, t, &rows) == SQ_OK &&
               memcmp(found.codes, wanted.codes, sizeof wanted.codes) == 0 &&
               memcmp(found.zeros, wanted.zeros, sizeof wanted.zeros) == 0 &&
               memcmp(found.scales, wanted.scales, sizeof wanted.scales) == 0;
    }
    return same;
}

/* --- what tests of the store have in common ---------------------------------------------------------------------- */

static struct sq_store_layer layers[N_LAYERS];

/* HDF5 loses some memory of its own over damaged files: the leak checker need not report it. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libhdf5\n";
}

/* Ends a test; no handle of HDF5 may be left. Collective. */
static inline void end_test(void)
{
    CHECK(H5Fget_obj_count((hid_t)H5F_OBJ_ALL, H5F_OBJ_ALL) == 0);
    ranks_end_test();
}

static inline enum sq_status create(const struct sq_comm *comm, const char *path, struct sq_store **store_p)
{
    return sq_store_create(comm, path, layers, N_LAYERS, CONFIG, FINGERPRINT, store_p);
}

static inline enum sq_status open_again(const char *path, bool writable, struct sq_store **store_p)
{
    return sq_store_open(&ranks.comm, path, writable, layers, N_LAYERS, FINGERPRINT, store_p);
}

/* Makes a store with all layers complete. Collective. */
static inline void make_full(const struct sq_comm *comm, const char *path)
{
    struct sq_store *store = NULL;
    if (!CHECK(create(comm, path, &store) == SQ_OK)) return;
    for (int l = 0; l < N_LAYERS; l++)
        CHECK(fixture_finish(store, comm, layers, l) == SQ_OK);
    sq_store_close(store);
}

static inline void remove_file(const char *name)
{
    char path[1024];
    ranks_barrier();
    if (ranks.comm.rank == 0) unlink(ranks_file(name, path));
    ranks_barrier();
}

static inline bool exists(const char *path, const char *ending)
{
    char name[4096];
    snprintf(name, sizeof name, "%s%s", path, ending);
    return access(name, F_OK) == 0;
}

#endif
