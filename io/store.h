/* The store: one HDF5 file per job that keeps every finished layer.
 *
 *   /                       attributes: format, config (resolved YAML), fingerprint (YAML), versions, n_layers,
 *                           checksum (XXH3 of these texts, names, and the layers' attributes and shapes)
 *   /layers/NAME/codes      u8  [out_features, row_bytes]   each row a little-endian bit stream of `bits` bits per code
 *   /layers/NAME/scales     u16 [out_features, groups]      bit patterns of f16 or bf16
 *   /layers/NAME/zeros      u8  [out_features, groups]
 *   /layers/NAME            attributes: bits, group_size (resolved), symmetric, in_features, scale_dtype, transposed
 *   /names                  u8                              names of the layers in their order, a zero byte after each
 *   /checksums              u64 [total row tiles]           XXH3 of each tile's codes, scales, zeros
 *   /reports                one record per layer (struct sq_layer_report), meaningful where progress is 1
 *   /report_checksums       u64 [n_layers]                  XXH3 of each report
 *   /progress               u8  [n_layers]                  1: the layer is complete
 *
 * Everything is made up front by rank 0 alone (contiguous datasets, early allocation, no fill, no times), so the
 * metadata is written once and is the same for any number of ranks; the file's whole size is reserved on the disk at
 * once. Afterwards all ranks open it through MPI-IO and do raw writes only: rows, then their checksum, then (after all
 * ranks agree) the report and the progress mark.
 * A job that writes holds a lock on PATH.lock. One thread of a process may use a store at a time, unless
 * said otherwise. */
#ifndef SQ_IO_STORE_H
#define SQ_IO_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "mpi/comm.h"
#include "tensor/grid.h"

/* Rows of one checksummed piece of a layer; pieces are written by one rank each. */
#define SQ_STORE_TILE_ROWS 32

struct sq_store_layer {
    char *name; /* "model.layers.0.self_attn.q_proj" */
    int64_t out_features, in_features;
    struct sq_grid grid;
    bool is_transposed; /* the model has its weights as [in_features, out_features] */
};

/* Figures kept per layer; nothing in it depends on time or the number of ranks. */
struct sq_layer_report {
    double error;      /* tr((W-Q) H (W-Q)') / tr(W H W') */
    double error_rtn;  /* the same for plain rounding */
    double damping;    /* what was used */
    int64_t n_rungs;   /* raises of the damping; -1: diagonal only */
    int64_t n_dead;    /* dead inputs */
    int64_t n_limited; /* scales at the limits of their type */
    int64_t n_tokens;  /* calibration tokens seen */
    int64_t n_routed;  /* of an expert: tokens that the router sends to it; else as n_tokens */
    double rounds;     /* of refinement, the mean over rows */
};

/* What one tile of rows holds, unpacked; arrays are the caller's. */
struct sq_store_rows {
    uint8_t *codes; /* [rows, in_features] */
    float *scales;  /* [rows, groups] */
    uint8_t *zeros; /* [rows, groups] */
};

struct sq_store;

/* Makes a new store; the path must not exist (SQ_ERR_USAGE says --resume). config_yaml: the resolved configuration;
 * fingerprint: lines "key: value" of everything that changes bytes. Collective; same arguments on every rank.
 * A full disk is found here: SQ_ERR_IO. No file is left when it fails. */
enum sq_status sq_store_create(const struct sq_comm *comm, const char *path, const struct sq_store_layer *layers,
                               int n_layers, const char *config_yaml, const char *fingerprint,
                               struct sq_store **store_p) SQ_MUST_CHECK;

/* Opens a store that is there, for writing (resume; takes the lock: SQ_ERR_BUSY when another job has it) or reading.
 * fingerprint not NULL: SQ_ERR_USAGE naming each line that differs. layers not NULL: SQ_ERR_INPUT on any difference.
 * Collective. */
enum sq_status sq_store_open(const struct sq_comm *comm, const char *path, bool writable,
                             const struct sq_store_layer *layers, int n_layers, const char *fingerprint,
                             struct sq_store **store_p) SQ_MUST_CHECK;

/* Whether a write to it has failed on some rank. HDF5 may then wait for ever in closing it, as the ranks take different
 * ways through what it has left to do: the job has to be aborted instead. Collective. */
bool sq_store_is_broken(const struct sq_store *store);

/* Closes; Collective. NULL is fine. */
void sq_store_close(struct sq_store *store);

/* The layers as the file has them; owned by the store. */
const struct sq_store_layer *sq_store_layers(const struct sq_store *store, int *n_layers_p);
const char *sq_store_config(const struct sq_store *store);
const char *sq_store_fingerprint(const struct sq_store *store);
const char *sq_store_versions(const struct sq_store *store); /* lines: program and libraries that made it */

/* Whether the layer is complete. Local (progress is read once on opening and kept up by sq_store_finish_layers). */
bool sq_store_is_done(const struct sq_store *store, int layer);

/* Writes tile t (rows [t * 32, ...)) of a layer and its checksum, together with its neighbours: at the latest
 * sq_store_finish_layers() brings it into the file. Local: each tile by one rank. */
enum sq_status sq_store_write_tile(struct sq_store *store, int layer, int64_t tile,
                                   const struct sq_store_rows *rows) SQ_MUST_CHECK;

/* Brings tiles [tile, tile + *count_p) of a layer into memory, as many as are kept there at a time: until the next call
 * of any other function several threads may read them with sq_store_read_tile(). Local. */
enum sq_status sq_store_load_tiles(struct sq_store *store, int layer, int64_t tile, int64_t *count_p) SQ_MUST_CHECK;

/* Reads tile t of a layer, and ahead, and checks its checksum (SQ_ERR_INPUT naming file, layer and rows). Local. */
enum sq_status sq_store_read_tile(struct sq_store *store, int layer, int64_t tile,
                                  struct sq_store_rows *rows) SQ_MUST_CHECK;

/* Reads the rows of all complete layers, shared out among the ranks: one with a wrong checksum, also of its report, is
 * warned of by name, and is no longer complete. The store must be writable. SQ_ERR_IO. Collective. */
enum sq_status sq_store_recheck(struct sq_store *store) SQ_MUST_CHECK;

/* After every rank has written its tiles of these layers: rank 0 writes the reports, all flush and agree, then rank 0
 * writes the marks. `status` is this rank's own; any failure ends it for all; reports are the same everywhere.
 * Collective. */
enum sq_status sq_store_finish_layers(struct sq_store *store, enum sq_status status, const int *layers, int count,
                                      const struct sq_layer_report *reports) SQ_MUST_CHECK;

/* The report of a complete layer. Local. */
const struct sq_layer_report *sq_store_report(const struct sq_store *store, int layer);

/* Bytes the file will take on the disk. Local, no file needed. */
int64_t sq_store_predict_bytes(const struct sq_store_layer *layers, int n_layers);

#endif
