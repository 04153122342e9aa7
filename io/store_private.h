/* What the files of the store share. */
#ifndef SQ_IO_STORE_PRIVATE_H
#define SQ_IO_STORE_PRIVATE_H

#include "io/h5.h"
#include "io/store.h"

#define SQ_STORE_FORMAT "shardq store 6"

/* Progress of a layer that is marked complete, but whose report has not its checksum: only in memory. */
#define SQ_STORE_BAD_REPORT 2

/* Everything a store holds beside rows and checksums: read by rank 0, then the same on every rank. */
struct sq_store_index {
    int n_layers;
    struct sq_store_layer *layers; /* [n_layers], names point into `names` */
    char *names;                   /* [names_bytes]: each name with its zero byte, in the order of layers */
    int64_t names_bytes;
    char *config, *fingerprint, *versions;
    uint8_t *progress;               /* [n_layers]: 1 complete; SQ_STORE_BAD_REPORT; else not */
    struct sq_layer_report *reports; /* [n_layers] */
};

/* Neighbouring tiles of one layer in memory: read ahead, or still to be written. One access of the file takes them all.
 */
struct sq_store_run {
    int layer;
    int64_t first, count; /* tiles */
    bool is_pending;      /* to be written */
    uint8_t *packed, *zeros;
    uint16_t *halves; /* scales as stored */
    uint64_t *hashes;
};

struct sq_store {
    struct sq_comm comm;
    char *path;
    bool writable, is_broken; /* a write has failed on this rank */
    int lock;                 /* rank 0 of a writable store; else -1 */
    struct sq_store_index index;
    int64_t *first_tile; /* [n_layers]: where a layer's tiles start in /checksums */
    hid_t file, checksums, reports, report_checksums, progress;
    int open_layer; /* the one whose datasets are open; -1: none */
    hid_t codes, scales, zeros;
    struct sq_store_run run;
};

/* Sizes that follow from a layer. */
static inline int64_t sq_store_layer_tiles(const struct sq_store_layer *layer)
{
    return (layer->out_features + SQ_STORE_TILE_ROWS - 1) / SQ_STORE_TILE_ROWS;
}

static inline int64_t sq_store_layer_groups(const struct sq_store_layer *layer)
{
    return sq_grid_n_groups(&layer->grid, layer->in_features);
}

/* --- store_make.c: rank 0 alone ---------------------------------------------------------------------------------- */

/* Writes a whole new store under another name and gives it its own; nothing is left when it fails. */
enum sq_status sq_store_make(const struct sq_comm *comm, const char *path, const struct sq_store_layer *layers,
                             int n_layers, const char *config_yaml, const char *fingerprint) SQ_MUST_CHECK;

/* --- store_index.c ----------------------------------------------------------------------------------------------- */

/* The type of a record of /reports, in memory or in the file (little-endian). To be closed. */
hid_t sq_store_report_type(bool in_file);

/* The checksum of a report. */
uint64_t sq_store_report_hash(const struct sq_layer_report *report);

/* The checksum of config, fingerprint, versions and layers. */
uint64_t sq_store_index_hash(const struct sq_store_index *index);

/* Reads and checks everything but rows. Rank 0 alone. An index is released in any state, also after a failure. */
enum sq_status sq_store_index_read(const char *path, struct sq_store_index *index_p) SQ_MUST_CHECK;

/* Gives rank 0's index to all others. Collective. */
enum sq_status sq_store_index_share(const struct sq_comm *comm, struct sq_store_index *index) SQ_MUST_CHECK;
void sq_store_index_release(struct sq_store_index *index);

/* --- store_check.c ----------------------------------------------------------------------------------------------- */

/* SQ_ERR_USAGE naming each line that differs. Local. */
enum sq_status sq_store_check_fingerprint(const char *path, const char *stored, const char *wanted) SQ_MUST_CHECK;

/* SQ_ERR_INPUT naming the first difference. Local. */
enum sq_status sq_store_check_layers(const char *path, const struct sq_store_index *index,
                                     const struct sq_store_layer *layers, int n_layers) SQ_MUST_CHECK;

/* --- store_tile.c ------------------------------------------------------------------------------------------------ */

/* Memory for a run of any layer; given back in any state. */
enum sq_status sq_store_run_alloc(struct sq_store *store) SQ_MUST_CHECK;
void sq_store_run_release(struct sq_store *store);

/* Writes the tiles that are still in memory. Local. */
enum sq_status sq_store_run_flush(struct sq_store *store) SQ_MUST_CHECK;

/* Whether tile t of a layer has its checksum. Local. */
enum sq_status sq_store_check_tile(struct sq_store *store, int layer, int64_t tile, bool *good_p) SQ_MUST_CHECK;

void sq_store_close_layer(struct sq_store *store);

#endif
