#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"
#include "io/assemble_private.h"
#include "io/pack.h"

#define CHECKED_BYTES ((int64_t)1 << 18) /* copied at a time: still in cache when it is written */

/* The output files of this rank; each is opened when it is first needed. */
struct writer {
    const struct sq_assembly *assembly;
    char **paths; /* [n_files] */
    int *fds;     /* [n_files]; -1: not open */
};

/* A quantized layer as it will stand in the file. K = in_features, N = out_features, G = groups. */
struct packed_layer {
    uint32_t *qweight; /* [ceil(K * bits / 32), N] */
    uint32_t *qzeros;  /* [G, ceil(N * bits / 32)] */
    uint16_t *scales;  /* [G, N] bits of the stored type */
    int32_t *g_idx;    /* [K] */
    uint8_t *zeros;    /* [G, N], before they are packed */
};

static enum sq_status make_writer(const struct sq_assembly *assembly, struct writer *writer)
{
    int n_files = assembly->plan.n_files;
    *writer = (struct writer){.assembly = assembly};
    SQ_TRY(sq_alloc("file names", n_files, sizeof *writer->paths, (void **)&writer->paths));
    SQ_TRY(sq_alloc("open files", n_files, sizeof *writer->fds, (void **)&writer->fds));
    for (int f = 0; f < n_files; f++)
        writer->fds[f] = -1;
    return SQ_OK;
}

/* Closes all files; `status` is what happened before, and stays when it is an error: then the files are given up, and
 * need not reach the disk. */
static enum sq_status close_writer(struct writer *writer, enum sq_status status)
{
    for (int f = 0; f < writer->assembly->plan.n_files && writer->fds; f++) {
        int fd = writer->fds[f];
        if (fd >= 0 && status == SQ_OK)
            status = sq_file_close_synced(fd, writer->paths[f]);
        else if (fd >= 0)
            close(fd);
        sq_free(writer->paths[f]);
    }
    sq_free(writer->paths);
    sq_free(writer->fds);
    return status;
}

static enum sq_status write_part(struct writer *writer, int64_t output, int64_t offset, const void *data, int64_t bytes)
{
    const struct sq_output *target = &writer->assembly->plan.outputs[output];
    int f = target->file;
    if (!writer->paths[f])
        SQ_TRY(sq_path_join(writer->assembly->tmp, writer->assembly->plan.files[f].name, &writer->paths[f]));
    if (writer->fds[f] < 0) SQ_TRY(sq_file_open_write(writer->paths[f], &writer->fds[f]));
    return sq_file_write_at(writer->fds[f], writer->paths[f], target->entry.offset + offset, data, (size_t)bytes);
}

/* --- quantized layers --------------------------------------------------------------------------------------------- */

static void release_packed(struct packed_layer *packed)
{
    sq_free(packed->qweight);
    sq_free(packed->qzeros);
    sq_free(packed->scales);
    sq_free(packed->g_idx);
    sq_free(packed->zeros);
}

static enum sq_status alloc_packed(const struct sq_store_layer *layer, struct packed_layer *packed)
{
    int64_t in = layer->in_features, out = layer->out_features, groups = sq_grid_n_groups(&layer->grid, in);
    int bits = layer->grid.bits;
    SQ_TRY(sq_alloc("qweight", sq_pack_words(in, bits) * out, 4, (void **)&packed->qweight));
    SQ_TRY(sq_alloc("qzeros", groups * sq_pack_words(out, bits), 4, (void **)&packed->qzeros));
    SQ_TRY(sq_alloc("scales", groups * out, 2, (void **)&packed->scales));
    SQ_TRY(sq_alloc("zeros", groups * out, 1, (void **)&packed->zeros));
    return sq_alloc("g_idx", in, 4, (void **)&packed->g_idx);
}

/* Puts rows [row, row + rows) into their columns. */
static void pack_tile(const struct sq_store_layer *layer, int64_t row, int64_t rows, const struct sq_store_rows *tile,
                      struct packed_layer *packed)
{
    int64_t out = layer->out_features, groups = sq_grid_n_groups(&layer->grid, layer->in_features);
    sq_pack_codes(layer->grid.bits, rows, layer->in_features, tile->codes, packed->qweight + row, out);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t g = 0; g < groups; g++) {
            sq_dtype_from_f32(&tile->scales[r * groups + g], 1, layer->grid.scale_dtype,
                              &packed->scales[g * out + row + r]);
            packed->zeros[g * out + row + r] = tile->zeros[r * groups + g];
        }
}

/* The stored zero points, less one in format gptq. */
static void pack_zeros(const struct sq_store_layer *layer, bool v2, struct packed_layer *packed)
{
    int64_t out = layer->out_features, groups = sq_grid_n_groups(&layer->grid, layer->in_features);
    int64_t words = sq_pack_words(out, layer->grid.bits);
    for (int64_t i = 0; i < groups * out && !v2; i++)
        packed->zeros[i]--;
    for (int64_t g = 0; g < groups; g++)
        sq_pack_codes(layer->grid.bits, 1, out, packed->zeros + g * out, packed->qzeros + g * words, 1);
}

static enum sq_status pack_layer(const struct sq_assembly *assembly, int l, struct packed_layer *packed)
{
    int n_layers;
    const struct sq_store_layer *layer = &sq_store_layers(assembly->store, &n_layers)[l];
    struct sq_assemble_tile tile;
    SQ_TRY(sq_assemble_tile_alloc(layer, &tile));
    enum sq_status status = SQ_OK;
    for (int64_t t = 0; t < sq_assemble_n_tiles(layer) && status == SQ_OK; t++) {
        status = sq_store_read_tile(assembly->store, l, t, &tile.rows);
        if (status == SQ_OK)
            pack_tile(layer, t * SQ_STORE_TILE_ROWS, sq_assemble_tile_rows(layer, t), &tile.rows, packed);
    }
    sq_assemble_tile_release(&tile);
    if (status != SQ_OK) return status;
    pack_zeros(layer, assembly->options->v2, packed);
    for (int64_t k = 0; k < layer->in_features; k++)
        packed->g_idx[k] = (int32_t)(k / layer->grid.group_size);
    return SQ_OK;
}

static enum sq_status write_packed(struct writer *writer, int l, const struct packed_layer *packed)
{
    const struct sq_assemble_plan *plan = &writer->assembly->plan;
    const void *const parts[] = {[SQ_OUTPUT_QWEIGHT] = packed->qweight,
                                 [SQ_OUTPUT_QZEROS] = packed->qzeros,
                                 [SQ_OUTPUT_SCALES] = packed->scales,
                                 [SQ_OUTPUT_G_IDX] = packed->g_idx};
    for (int kind = 0; kind < (int)(sizeof parts / sizeof *parts); kind++) {
        int64_t output = plan->layer_outputs[l * SQ_OUTPUT_KINDS + kind];
        int64_t bytes = sq_safetensors_entry_bytes(&plan->outputs[output].entry);
        SQ_TRY(write_part(writer, output, 0, parts[kind], bytes));
    }
    return SQ_OK;
}

static enum sq_status write_quantized(struct writer *writer, int l)
{
    int n_layers;
    struct packed_layer packed = {0};
    enum sq_status status = alloc_packed(&sq_store_layers(writer->assembly->store, &n_layers)[l], &packed);
    if (status == SQ_OK) status = pack_layer(writer->assembly, l, &packed);
    if (status == SQ_OK) status = write_packed(writer, l, &packed);
    release_packed(&packed);
    return status;
}

/* --- dequantized layers and copies -------------------------------------------------------------------------------- */

static enum sq_status write_dequantized_tile(struct writer *writer, int l, int64_t t, struct sq_assemble_tile *tile,
                                             void *rounded)
{
    int n_layers;
    struct sq_store *store = writer->assembly->store;
    const struct sq_store_layer *layer = &sq_store_layers(store, &n_layers)[l];
    int64_t output = writer->assembly->plan.layer_outputs[l * SQ_OUTPUT_KINDS + SQ_OUTPUT_WEIGHT];
    enum sq_dtype dtype = writer->assembly->plan.outputs[output].entry.dtype;
    int64_t rows = sq_assemble_tile_rows(layer, t), count = rows * layer->in_features;
    int64_t offset = t * SQ_STORE_TILE_ROWS * layer->in_features * (int64_t)sq_dtype_size(dtype);
    SQ_TRY(sq_store_read_tile(store, l, t, &tile->rows));
    sq_grid_dequantize(&layer->grid, rows, layer->in_features, tile->rows.codes, tile->rows.scales, tile->rows.zeros,
                       tile->weights);
    sq_dtype_from_f32(tile->weights, count, dtype, rounded);
    return write_part(writer, output, offset, rounded, count * (int64_t)sq_dtype_size(dtype));
}

static enum sq_status write_dequantized(struct writer *writer, int l)
{
    int n_layers;
    const struct sq_store_layer *layer = &sq_store_layers(writer->assembly->store, &n_layers)[l];
    struct sq_assemble_tile tile;
    void *rounded = NULL;
    SQ_TRY(sq_assemble_tile_alloc(layer, &tile));
    enum sq_status status = sq_alloc("rounded weights", SQ_STORE_TILE_ROWS * layer->in_features, 4, &rounded);
    for (int64_t t = 0; t < sq_assemble_n_tiles(layer) && status == SQ_OK; t++)
        status = write_dequantized_tile(writer, l, t, &tile, rounded);
    sq_free(rounded);
    sq_assemble_tile_release(&tile);
    return status;
}

static enum sq_status write_copy(struct writer *writer, const struct sq_output_job *job)
{
    const struct sq_tensor *source = writer->assembly->plan.outputs[job->output].source;
    int64_t size = (int64_t)sq_dtype_size(source->dtype), end = job->offset + job->bytes;
    for (int64_t offset = job->offset; offset < end; offset += CHECKED_BYTES) {
        int64_t bytes = end - offset < CHECKED_BYTES ? end - offset : CHECKED_BYTES;
        if (!sq_tensor_is_finite(source, offset / size, bytes / size)) return SQ_ERR_NUMERIC;
        SQ_TRY(write_part(writer, job->output, offset, (const char *)source->data + offset, bytes));
    }
    sq_tensor_give_back(source);
    return SQ_OK;
}

static enum sq_status write_job(void *context, const struct sq_output_job *job)
{
    struct writer *writer = context;
    if (job->layer < 0) return write_copy(writer, job);
    return writer->assembly->options->dequantized ? write_dequantized(writer, job->layer)
                                                  : write_quantized(writer, job->layer);
}

enum sq_status sq_assembly_write(const struct sq_assembly *assembly)
{
    struct writer writer;
    const struct sq_comm *comm = assembly->comm;
    enum sq_status status = sq_comm_agree(comm, make_writer(assembly, &writer));
    if (status == SQ_OK)
        status = sq_assembly_each_job(assembly, comm->rank, "writing the checkpoint", write_job, &writer);
    return sq_comm_agree(comm, close_writer(&writer, status));
}

void sq_assembly_report_not_finite(const struct sq_assembly *assembly)
{
    for (int64_t i = 0; i < assembly->plan.n_outputs; i++) {
        const struct sq_tensor *source = assembly->plan.outputs[i].source;
        if (source && sq_tensor_report_not_finite(source)) return;
    }
}
