/* sq_store_write FILE LAYERS ROWS COLUMNS: makes a store and fills it from all ranks, as a run does when its layers are
 * there: a layer's tiles shared out, marked after every block of 7 layers, all of it on the disk before the end. Prints
 * one JSON object: bytes of the file, seconds of making it, seconds of filling it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/memory.h"
#include "io/store.h"
#include "mpi/split.h"

#define LAYERS_OF_BLOCK 7

struct job {
    struct sq_comm comm;
    const char *path;
    struct sq_store_layer *layers;
    int n_layers;
    struct sq_store_rows rows; /* of any tile */
    struct sq_store *store;
};

static enum sq_status make_layers(struct job *job, int64_t rows, int64_t columns)
{
    void *memory = NULL;
    SQ_TRY(sq_alloc("layers", job->n_layers, sizeof *job->layers, &memory));
    job->layers = memory;
    for (int i = 0; i < job->n_layers; i++) {
        char *name = NULL;
        SQ_TRY(sq_string_format(&name, "model.layers.%d.linear_%d", i / LAYERS_OF_BLOCK, i % LAYERS_OF_BLOCK));
        job->layers[i] =
            (struct sq_store_layer){.name = name,
                                    .out_features = rows,
                                    .in_features = columns,
                                    .grid = {.bits = 4, .symmetric = true, .group_size = 128, .scale_dtype = SQ_F16}};
    }
    return SQ_OK;
}

/* Contents do not matter to a disk, unless it compresses: they are no pattern. */
static enum sq_status make_rows(struct job *job, int64_t columns)
{
    void *codes = NULL, *scales = NULL, *zeros = NULL;
    int64_t groups = sq_grid_n_groups(&job->layers[0].grid, columns);
    uint32_t state = 1;
    SQ_TRY(sq_alloc("codes", SQ_STORE_TILE_ROWS * columns, 1, &codes));
    SQ_TRY(sq_alloc("scales", SQ_STORE_TILE_ROWS * groups, sizeof(float), &scales));
    SQ_TRY(sq_alloc("zeros", SQ_STORE_TILE_ROWS * groups, 1, &zeros));
    job->rows = (struct sq_store_rows){.codes = codes, .scales = scales, .zeros = zeros};
    for (int64_t i = 0; i < SQ_STORE_TILE_ROWS * columns; i++)
        job->rows.codes[i] = (uint8_t)((state = state * 1664525u + 1013904223u) >> 28);
    return SQ_OK;
}

static enum sq_status write_layer(const struct job *job, int layer)
{
    int64_t n_tiles = (job->layers[layer].out_features + SQ_STORE_TILE_ROWS - 1) / SQ_STORE_TILE_ROWS;
    struct sq_range share = sq_split(n_tiles, job->comm.rank, job->comm.size);
    for (int64_t t = share.first; t < share.first + share.count; t++)
        SQ_TRY(sq_store_write_tile(job->store, layer, t, &job->rows));
    return SQ_OK;
}

static enum sq_status write_all(const struct job *job)
{
    static const struct sq_layer_report reports[LAYERS_OF_BLOCK];
    int layers[LAYERS_OF_BLOCK];
    for (int first = 0; first < job->n_layers; first += LAYERS_OF_BLOCK) {
        int count = job->n_layers - first < LAYERS_OF_BLOCK ? job->n_layers - first : LAYERS_OF_BLOCK;
        enum sq_status status = SQ_OK;
        for (int i = 0; i < count; i++) {
            layers[i] = first + i;
            if (status == SQ_OK) status = write_layer(job, first + i);
        }
        SQ_TRY(sq_store_finish_layers(job->store, status, layers, count, reports));
    }
    return SQ_OK;
}

static enum sq_status run(struct job *job, char **words)
{
    struct stat info;
    int64_t columns = atoll(words[4]);
    job->n_layers = atoi(words[2]);
    SQ_TRY(make_layers(job, atoll(words[3]), columns));
    SQ_TRY(make_rows(job, columns));
    double began = sq_seconds();
    SQ_TRY(sq_store_create(&job->comm, job->path, job->layers, job->n_layers, "", "", &job->store));
    double made = sq_seconds();
    SQ_TRY(write_all(job));
    sq_store_close(job->store);
    double done = sq_seconds();
    if (job->comm.rank == 0 && stat(job->path, &info) == 0)
        printf("{\"bytes\": %lld, \"making\": %.4f, \"filling\": %.4f}\n", (long long)info.st_size, made - began,
               done - made);
    return SQ_OK;
}

int main(int argc, char **argv)
{
    struct job job = {.path = argc > 1 ? argv[1] : NULL};
    if (argc != 5 || atoi(argv[2]) < 1 || atoll(argv[3]) < 1 || atoll(argv[4]) < 1) {
        fputs("usage: sq_store_write FILE LAYERS ROWS COLUMNS\n", stderr);
        return 2;
    }
    if (sq_comm_init(&argc, &argv, &job.comm) != SQ_OK) return 1;
    enum sq_status status = sq_comm_agree(&job.comm, run(&job, argv));
    if (status != SQ_OK) sq_comm_abort(1);
    sq_comm_finalize();
    return 0;
}
