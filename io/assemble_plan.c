#include "io/assemble_plan.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "io/scales.h"

#define COPY_PIECE_BYTES ((int64_t)64 << 20) /* copied tensors are shared among ranks in pieces of this size */

/* --- the list of tensors ------------------------------------------------------------------------------------------ */

static enum sq_status add_output(struct sq_assemble_plan *plan, int layer, int part, const char *prefix,
                                 const struct sq_safetensors_entry *entry)
{
    struct sq_output *output = &plan->outputs[plan->n_outputs];
    SQ_TRY(sq_string_format(&output->name, "%s%s", prefix, entry->name));
    output->layer = layer;
    output->part = part;
    output->entry = *entry;
    output->entry.name = output->name;
    plan->n_outputs++;
    return SQ_OK;
}

static enum sq_status add_copy(struct sq_assemble_plan *plan, const struct sq_tensor *tensor)
{
    struct sq_safetensors_entry entry = {.name = "", .dtype = sq_assemble_kept_dtype(tensor), .n_dims = tensor->n_dims};
    memcpy(entry.shape, tensor->shape, sizeof entry.shape);
    SQ_TRY(add_output(plan, -1, 0, tensor->name, &entry));
    plan->outputs[plan->n_outputs - 1].source = tensor;
    return SQ_OK;
}

static enum sq_status add_layer(struct sq_assemble_plan *plan, const struct sq_format_writer *format, int l,
                                const struct sq_store_layer *layer, enum sq_dtype source)
{
    struct sq_safetensors_entry parts[SQ_FORMAT_MAX_PARTS];
    int n_parts = format->list(layer, source, parts);
    for (int part = 0; part < n_parts; part++)
        SQ_TRY(add_output(plan, l, part, layer->name, &parts[part]));
    return SQ_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Whether the tensor is NAME.weight of a layer; names [n_layers] sorted. */
static bool is_layer_weight(const struct sq_tensor *tensor, const char **names, int n_layers, char *prefix)
{
    size_t length = strlen(tensor->name), ending = strlen(".weight");
    if (length <= ending || strcmp(tensor->name + length - ending, ".weight")) return false;
    memcpy(prefix, tensor->name, length - ending);
    prefix[length - ending] = '\0';
    return bsearch(&prefix, names, (size_t)n_layers, sizeof *names, compare_names) != NULL;
}

static enum sq_status add_copies(struct sq_assemble_plan *plan, const struct sq_checkpoint *checkpoint,
                                 const struct sq_store_layer *layers, int n_layers)
{
    const char **names = NULL;
    char *prefix = NULL;
    size_t longest = 0;
    int64_t n_tensors = sq_checkpoint_n_tensors(checkpoint);
    for (int64_t i = 0; i < n_tensors; i++)
        if (strlen(sq_checkpoint_tensor(checkpoint, i)->name) > longest)
            longest = strlen(sq_checkpoint_tensor(checkpoint, i)->name);
    enum sq_status status = sq_alloc("layer names", n_layers, sizeof *names, (void **)&names);
    if (status == SQ_OK) status = sq_alloc("a tensor name", (int64_t)longest + 1, 1, (void **)&prefix);
    for (int l = 0; l < n_layers && status == SQ_OK; l++)
        names[l] = layers[l].name;
    if (status == SQ_OK) qsort(names, (size_t)n_layers, sizeof *names, compare_names);
    for (int64_t i = 0; i < n_tensors && status == SQ_OK; i++) {
        const struct sq_tensor *tensor = sq_checkpoint_tensor(checkpoint, i);
        bool is_gone = is_layer_weight(tensor, names, n_layers, prefix) || sq_scales_is_auxiliary(checkpoint, tensor);
        if (!is_gone) status = add_copy(plan, tensor);
    }
    sq_free(prefix);
    sq_free(names);
    return status;
}

static enum sq_status list_outputs(const struct sq_checkpoint *checkpoint, const struct sq_store_layer *layers,
                                   int n_layers, const struct sq_format_writer *format, struct sq_assemble_plan *plan)
{
    int64_t most = sq_checkpoint_n_tensors(checkpoint) + SQ_FORMAT_MAX_PARTS * (int64_t)n_layers;
    SQ_TRY(sq_alloc("the list of tensors", most, sizeof *plan->outputs, (void **)&plan->outputs));
    SQ_TRY(add_copies(plan, checkpoint, layers, n_layers));
    for (int l = 0; l < n_layers; l++)
        SQ_TRY(add_layer(plan, format, l, &layers[l],
                         sq_assemble_kept_dtype(sq_assemble_find_source(checkpoint, &layers[l]))));
    return SQ_OK;
}

/* --- files -------------------------------------------------------------------------------------------------------- */

static int compare_outputs_by_name(const void *a, const void *b)
{
    return strcmp(((const struct sq_output *)a)->name, ((const struct sq_output *)b)->name);
}

/* Largest elements first: then every tensor begins at a multiple of its element size, which readers want. */
static int compare_outputs_in_file(const void *a, const void *b)
{
    const struct sq_output *x = a, *y = b;
    size_t size_x = sq_dtype_size(x->entry.dtype), size_y = sq_dtype_size(y->entry.dtype);
    if (size_x != size_y) return size_x > size_y ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* Fills files with runs of outputs in the order of name. */
static enum sq_status divide_into_files(struct sq_assemble_plan *plan, int64_t shard_bytes)
{
    SQ_TRY(sq_alloc("the list of files", plan->n_outputs + 1, sizeof *plan->files, (void **)&plan->files));
    qsort(plan->outputs, (size_t)plan->n_outputs, sizeof *plan->outputs, compare_outputs_by_name);
    int64_t used = SQ_SAFETENSORS_EMPTY_BOUND;
    plan->n_files = 1;
    for (int64_t i = 0; i < plan->n_outputs; i++) {
        struct sq_output_file *file = &plan->files[plan->n_files - 1];
        int64_t bound = sq_safetensors_entry_bound(&plan->outputs[i].entry);
        if (file->count > 0 && used + bound > shard_bytes) {
            file = &plan->files[plan->n_files++];
            file->first = i;
            used = SQ_SAFETENSORS_EMPTY_BOUND;
        }
        used += bound;
        file->count++;
        plan->outputs[i].file = plan->n_files - 1;
    }
    return SQ_OK;
}

static enum sq_status lay_out_file(struct sq_output *outputs, struct sq_output_file *file)
{
    struct sq_safetensors_entry *entries;
    SQ_TRY(sq_alloc("the tensors of a file", file->count, sizeof *entries, (void **)&entries));
    for (int64_t i = 0; i < file->count; i++)
        entries[i] = outputs[i].entry;
    enum sq_status status = sq_safetensors_layout(entries, file->count, &file->header);
    for (int64_t i = 0; i < file->count && status == SQ_OK; i++)
        outputs[i].entry.offset = entries[i].offset;
    sq_free(entries);
    return status;
}

static enum sq_status lay_out_files(struct sq_assemble_plan *plan)
{
    for (int f = 0; f < plan->n_files; f++) {
        struct sq_output_file *file = &plan->files[f];
        if (plan->n_files == 1)
            SQ_TRY(sq_string_copy("model.safetensors", &file->name));
        else
            SQ_TRY(sq_string_format(&file->name, "model-%05d-of-%05d.safetensors", f + 1, plan->n_files));
        qsort(plan->outputs + file->first, (size_t)file->count, sizeof *plan->outputs, compare_outputs_in_file);
        SQ_TRY(lay_out_file(plan->outputs + file->first, file));
    }
    return SQ_OK;
}

static enum sq_status index_layers(struct sq_assemble_plan *plan, int n_layers)
{
    int64_t count = (int64_t)n_layers * SQ_FORMAT_MAX_PARTS;
    SQ_TRY(sq_alloc("the list of layers", count, sizeof *plan->layer_outputs, (void **)&plan->layer_outputs));
    for (int64_t i = 0; i < count; i++)
        plan->layer_outputs[i] = -1;
    for (int64_t i = 0; i < plan->n_outputs; i++)
        if (plan->outputs[i].layer >= 0)
            plan->layer_outputs[plan->outputs[i].layer * SQ_FORMAT_MAX_PARTS + plan->outputs[i].part] = i;
    return SQ_OK;
}

/* --- who does what ------------------------------------------------------------------------------------------------ */

static int64_t n_pieces(const struct sq_output *output)
{
    return (sq_safetensors_entry_bytes(&output->entry) + COPY_PIECE_BYTES - 1) / COPY_PIECE_BYTES;
}

static void list_jobs(const struct sq_store_layer *layers, int n_layers, struct sq_assemble_plan *plan, int64_t *costs)
{
    for (int l = 0; l < n_layers; l++) {
        costs[plan->n_jobs] = layers[l].out_features * layers[l].in_features;
        plan->jobs[plan->n_jobs++] = (struct sq_output_job){.layer = l, .output = -1};
    }
    for (int64_t i = 0; i < plan->n_outputs; i++) {
        int64_t bytes = sq_safetensors_entry_bytes(&plan->outputs[i].entry);
        for (int64_t offset = 0; plan->outputs[i].layer < 0 && offset < bytes;) {
            int64_t piece = bytes - offset < COPY_PIECE_BYTES ? bytes - offset : COPY_PIECE_BYTES;
            costs[plan->n_jobs] = piece / 4; /* a byte copied is that much cheaper than a code unpacked and packed */
            plan->jobs[plan->n_jobs++] =
                (struct sq_output_job){.layer = -1, .output = i, .offset = offset, .bytes = piece};
            offset += piece;
        }
    }
}

/* Each job to the rank that has least so far. */
static void spread_jobs(struct sq_assemble_plan *plan, const int64_t *costs, int64_t *loads, int n_ranks)
{
    for (int64_t j = 0; j < plan->n_jobs; j++) {
        int least = 0;
        for (int r = 1; r < n_ranks; r++)
            if (loads[r] < loads[least]) least = r;
        plan->jobs[j].rank = least;
        loads[least] += costs[j];
    }
}

static enum sq_status make_jobs(const struct sq_store_layer *layers, int n_layers, int n_ranks,
                                struct sq_assemble_plan *plan)
{
    int64_t most = n_layers, *costs = NULL, *loads = NULL;
    for (int64_t i = 0; i < plan->n_outputs; i++)
        if (plan->outputs[i].layer < 0) most += n_pieces(&plan->outputs[i]);
    enum sq_status status = sq_alloc("the list of jobs", most, sizeof *plan->jobs, (void **)&plan->jobs);
    if (status == SQ_OK) status = sq_alloc("costs", most, sizeof *costs, (void **)&costs);
    if (status == SQ_OK) status = sq_alloc("loads", n_ranks, sizeof *loads, (void **)&loads);
    if (status == SQ_OK) {
        list_jobs(layers, n_layers, plan, costs);
        spread_jobs(plan, costs, loads, n_ranks);
    }
    sq_free(loads);
    sq_free(costs);
    return status;
}

/* --- the whole ---------------------------------------------------------------------------------------------------- */

enum sq_status sq_assemble_plan_make(const struct sq_checkpoint *checkpoint, const struct sq_store *store,
                                     const struct sq_assemble_options *options, int n_ranks,
                                     struct sq_assemble_plan *plan_p)
{
    struct sq_assemble_plan plan = {0};
    const struct sq_format_writer *format = sq_format_writer_find(options->format, options->dequantized);
    int n_layers;
    const struct sq_store_layer *layers = sq_store_layers(store, &n_layers);
    enum sq_status status = list_outputs(checkpoint, layers, n_layers, format, &plan);
    if (status == SQ_OK) status = divide_into_files(&plan, options->shard_bytes);
    if (status == SQ_OK) status = lay_out_files(&plan);
    if (status == SQ_OK) status = index_layers(&plan, n_layers);
    if (status == SQ_OK) status = make_jobs(layers, n_layers, n_ranks, &plan);
    if (status != SQ_OK) {
        sq_assemble_plan_release(&plan);
        return status;
    }
    *plan_p = plan;
    return SQ_OK;
}

void sq_assemble_plan_release(struct sq_assemble_plan *plan)
{
    for (int64_t i = 0; i < plan->n_outputs; i++)
        sq_free(plan->outputs[i].name);
    for (int f = 0; f < plan->n_files; f++) {
        sq_free(plan->files[f].name);
        sq_safetensors_header_release(&plan->files[f].header);
    }
    sq_free(plan->outputs);
    sq_free(plan->files);
    sq_free(plan->jobs);
    sq_free(plan->layer_outputs);
    *plan = (struct sq_assemble_plan){0};
}
