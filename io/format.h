/* The formats a checkpoint is written in, one row of a table each: which tensors a layer becomes, how its rows are
 * packed into them, and what config.json says of it. A new format is a row in io/format.c and the functions it names.
 */
#ifndef SQ_IO_FORMAT_H
#define SQ_IO_FORMAT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "config/config.h"
#include "io/safetensors_write.h"
#include "io/store.h"

#define SQ_FORMAT_MAX_PARTS 4

/* A layer as it will stand in the file. */
struct sq_packed_layer {
    const struct sq_store_layer *layer;
    struct sq_safetensors_entry parts[SQ_FORMAT_MAX_PARTS]; /* name: what follows the layer's, ".qweight" */
    void *data[SQ_FORMAT_MAX_PARTS];                        /* of the parts */
    int n_parts;
    uint8_t *zeros; /* [groups, out_features]: zero points as stored, for those that pack them last */
};

struct sq_description; /* io/describe.h */

struct sq_format_writer {
    const char *name;
    const char
        *mark; /* key of quantization_config that has the name in a checkpoint of this format; NULL: no such object */
    bool has_quantize_config; /* the object stands in quantize_config.json, too */
    /* The tensors of a layer whose weights had type `source`; returns their number. */
    int (*list)(const struct sq_store_layer *layer, enum sq_dtype source, struct sq_safetensors_entry *parts);
    /* Puts rows [row, row + rows) of the layer where they belong; weights: room for rows * in_features floats. */
    void (*pack_rows)(const struct sq_packed_layer *packed, int64_t row, int64_t rows, const struct sq_store_rows *tile,
                      float *weights);
    /* What can be made only after all rows. */
    void (*finish)(const struct sq_packed_layer *packed);
    /* Adds to config.json what the format says there. */
    enum sq_status (*describe)(const struct sq_description *description, json_t *config);
};

/* The row of a format that is not SQ_FORMAT_AUTO; `dequantized`: that of plain rounded weights. */
const struct sq_format_writer *sq_format_writer_find(enum sq_format format, bool dequantized);

int sq_gptq_list(const struct sq_store_layer *layer, enum sq_dtype source, struct sq_safetensors_entry *parts);
void sq_gptq_pack_rows(const struct sq_packed_layer *packed, int64_t row, int64_t rows,
                       const struct sq_store_rows *tile, float *weights);
void sq_gptq_finish_v1(const struct sq_packed_layer *packed);
void sq_gptq_finish_v2(const struct sq_packed_layer *packed);

int sq_packed_list(const struct sq_store_layer *layer, enum sq_dtype source, struct sq_safetensors_entry *parts);
void sq_packed_pack_rows(const struct sq_packed_layer *packed, int64_t row, int64_t rows,
                         const struct sq_store_rows *tile, float *weights);
void sq_packed_finish(const struct sq_packed_layer *packed);

#endif
