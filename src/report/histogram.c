/* Weights and codes of the layers with the largest errors, counted. */
#include <math.h>
#include <stdbool.h>

#include "base/log.h"
#include "base/memory.h"
#include "io/pack.h"
#include "report/report_private.h"

#define BINS 65
#define MOST_WEIGHTS ((int64_t)4 << 20) /* of a layer that are looked at: rows are left out evenly */
#define MOST_ROWS SQ_STORE_TILE_ROWS

struct counts {
    double range; /* bins go from -range to range; what is outside is in the outermost */
    int64_t original[BINS], quantized[BINS], codes[256];
};

/* A layer that is shown, and the rows of it that are read at a time. */
struct shown {
    const struct sq_report_run *run;
    bool has_original; /* the model before is there, and has the layer under its name */
    struct sq_checkpoint_linear linear;
    int index, bits;
    float *weights; /* [MOST_ROWS, in_features] */
};

static int64_t rows_at(const struct shown *shown, int64_t row)
{
    int64_t left = shown->linear.out_features - row;
    return left < MOST_ROWS ? left : MOST_ROWS;
}

/* From one piece of rows to the next that is looked at. */
static int64_t step_of(const struct shown *shown)
{
    int64_t weights = shown->linear.out_features * shown->linear.in_features;
    int64_t every = (weights + MOST_WEIGHTS - 1) / MOST_WEIGHTS;
    return every * MOST_ROWS;
}

static void count(const struct shown *shown, int64_t rows, double range, int64_t bins[BINS])
{
    for (int64_t i = 0; i < rows * shown->linear.in_features; i++) {
        double place = ((double)shown->weights[i] / range + 1) / 2 * BINS;
        int bin = place < 0 ? 0 : place >= BINS ? BINS - 1 : (int)place;
        bins[bin]++;
    }
}

/* --- codes and rounded weights ------------------------------------------------------------------------------------ */

static enum sq_status read_store_rows(const struct shown *shown, int64_t row, struct counts *counts)
{
    int n_layers;
    const struct sq_store_layer *layer = &sq_store_layers(shown->run->store, &n_layers)[shown->index];
    int64_t groups = sq_grid_n_groups(&layer->grid, layer->in_features), rows = rows_at(shown, row);
    struct sq_store_rows tile = {0};
    enum sq_status status = sq_alloc("codes", MOST_ROWS, (size_t)layer->in_features, (void **)&tile.codes);
    if (status == SQ_OK) status = sq_alloc("scales", MOST_ROWS * groups, sizeof(float), (void **)&tile.scales);
    if (status == SQ_OK) status = sq_alloc("zeros", MOST_ROWS, (size_t)groups, (void **)&tile.zeros);
    if (status == SQ_OK) status = sq_store_read_tile(shown->run->store, shown->index, row / MOST_ROWS, &tile);
    for (int64_t i = 0; status == SQ_OK && i < rows * layer->in_features; i++) {
        int64_t cell = i / layer->in_features * groups + i % layer->in_features / layer->grid.group_size;
        counts->codes[tile.codes[i]]++;
        shown->weights[i] = tile.scales[cell] * (float)(tile.codes[i] - tile.zeros[cell]);
    }
    sq_free(tile.codes);
    sq_free(tile.scales);
    sq_free(tile.zeros);
    return status;
}

static void count_unpacked(const uint8_t *codes, int64_t n, struct counts *counts)
{
    for (int64_t i = 0; i < n; i++)
        counts->codes[codes[i]]++;
}

/* Codes of rows, from qweight [words of in_features, out_features] or weight_packed [out_features, words]. */
static enum sq_status count_folder_codes(const struct shown *shown, int64_t row, struct counts *counts)
{
    const struct sq_tensor *down = sq_checkpoint_find_part(shown->run->made, shown->linear.name, "qweight");
    const struct sq_tensor *along = sq_checkpoint_find_part(shown->run->made, shown->linear.name, "weight_packed");
    int64_t in = shown->linear.in_features, rows = rows_at(shown, row), words = sq_pack_words(in, shown->bits);
    uint8_t *codes = NULL;
    if (!down && !along) return SQ_OK; /* a dequantized checkpoint */
    SQ_TRY(sq_alloc("codes", MOST_ROWS, (size_t)in, (void **)&codes));
    if (down) {
        sq_unpack_codes(shown->bits, rows, 0, in, (const char *)down->data + 4 * row, shown->linear.out_features,
                        codes);
        count_unpacked(codes, rows * in, counts);
    }
    for (int64_t r = row; along && r < row + rows; r++) {
        sq_unpack_codes(shown->bits, 1, 0, in, (const char *)along->data + 4 * r * words, 1, codes);
        count_unpacked(codes, in, counts);
    }
    sq_free(codes);
    return SQ_OK;
}

static enum sq_status read_quantized(const struct shown *shown, int64_t row, struct counts *counts)
{
    if (shown->run->store) return read_store_rows(shown, row, counts);
    SQ_TRY(count_folder_codes(shown, row, counts));
    return sq_checkpoint_read_linear(shown->run->made, &shown->linear, row, rows_at(shown, row), shown->weights);
}

/* --- one layer ---------------------------------------------------------------------------------------------------- */

/* Six standard deviations of the rounded weights, found from the first rows. */
static enum sq_status find_range(const struct shown *shown, struct counts *counts)
{
    double sum = 0;
    struct counts unused = {0};
    int64_t n = rows_at(shown, 0) * shown->linear.in_features;
    SQ_TRY(read_quantized(shown, 0, &unused));
    for (int64_t i = 0; i < n; i++)
        sum += (double)shown->weights[i] * (double)shown->weights[i];
    counts->range = sum > 0 ? 6 * sqrt(sum / (double)n) : 1;
    return SQ_OK;
}

static enum sq_status count_layer(const struct shown *shown, struct counts *counts)
{
    SQ_TRY(find_range(shown, counts));
    for (int64_t row = 0; row < shown->linear.out_features; row += step_of(shown)) {
        SQ_TRY(read_quantized(shown, row, counts));
        count(shown, rows_at(shown, row), counts->range, counts->quantized);
        if (!shown->has_original) continue;
        SQ_TRY(sq_checkpoint_read_linear(shown->run->source, &shown->linear, row, rows_at(shown, row), shown->weights));
        count(shown, rows_at(shown, row), counts->range, counts->original);
    }
    return SQ_OK;
}

static json_t *numbers(const int64_t *values, int n)
{
    json_t *list = json_array();
    for (int i = 0; list && i < n; i++)
        if (json_array_append_new(list, json_integer(values[i]))) break;
    return list;
}

static json_t *describe(const struct shown *shown, const struct counts *counts)
{
    int64_t n_codes = 0;
    for (int i = 0; i < 256; i++)
        n_codes += counts->codes[i];
    return json_pack("{s:i, s:f, s:o, s:o, s:o}", "layer", shown->index, "range", counts->range, "original",
                     shown->has_original ? numbers(counts->original, BINS) : json_null(), "quantized",
                     numbers(counts->quantized, BINS), "codes",
                     n_codes ? numbers(counts->codes, 1 << shown->bits) : json_null());
}

/* Whether a checkpoint's tensors are what its record says of the layer. */
static enum sq_status check_folder(const struct shown *shown)
{
    int64_t words = sq_pack_words(shown->linear.in_features, shown->bits);
    const struct sq_checkpoint_linear *linear = &shown->linear;
    const struct sq_tensor *down = sq_checkpoint_find_part(shown->run->made, linear->name, "qweight");
    const struct sq_tensor *along = sq_checkpoint_find_part(shown->run->made, linear->name, "weight_packed");
    SQ_TRY(sq_checkpoint_check_linear(shown->run->made, linear));
    if ((!down || down->shape[0] == words) && (!along || along->shape[1] == words)) return SQ_OK;
    sq_error("%s: %s has not the %d bits that shardq.json says", sq_checkpoint_folder(shown->run->made), linear->name,
             shown->bits);
    return SQ_ERR_INPUT;
}

static bool find_original(const struct shown *shown)
{
    const struct sq_tensor *weight =
        shown->run->source ? sq_checkpoint_find_part(shown->run->source, shown->linear.name, "weight") : NULL;
    return weight && weight->n_dims == 2 &&
           weight->shape[0] * weight->shape[1] == shown->linear.in_features * shown->linear.out_features;
}

static int64_t number(const json_t *layer, const char *key)
{
    return json_integer_value(json_object_get(layer, key));
}

/* Where a plain weight lies transposed: its first dimension is in_features. Square ones are told by the store alone. */
static bool is_transposed(const struct sq_report_run *run, int index, const struct sq_checkpoint_linear *linear)
{
    int n_layers;
    if (run->store) return sq_store_layers(run->store, &n_layers)[index].is_transposed;
    const struct sq_tensor *weight = run->source ? sq_checkpoint_find_part(run->source, linear->name, "weight") : NULL;
    return weight && weight->n_dims == 2 && weight->shape[0] == linear->in_features &&
           linear->in_features != linear->out_features;
}

static enum sq_status show(struct sq_report_run *run, int index, json_t *list)
{
    const json_t *layer = json_array_get(run->layers, (size_t)index);
    struct shown shown = {.run = run, .index = index, .bits = (int)number(layer, "bits")};
    struct counts counts = {0};
    shown.linear = (struct sq_checkpoint_linear){.name = json_string_value(json_object_get(layer, "name")),
                                                 .out_features = number(layer, "out"),
                                                 .in_features = number(layer, "in")};
    shown.linear.is_transposed = is_transposed(run, index, &shown.linear);
    shown.has_original = find_original(&shown);
    if (run->made) SQ_TRY(check_folder(&shown));
    SQ_TRY(sq_alloc("weights", MOST_ROWS * shown.linear.in_features, sizeof(float), (void **)&shown.weights));
    enum sq_status status = count_layer(&shown, &counts);
    if (status == SQ_ERR_NUMERIC) sq_error("%s has weights that are not finite", shown.linear.name);
    if (status == SQ_OK && json_array_append_new(list, describe(&shown, &counts))) {
        sq_error("cannot describe %s: out of memory", shown.linear.name);
        status = SQ_ERR_MEMORY;
    }
    sq_free(shown.weights);
    return status;
}

/* --- the worst ---------------------------------------------------------------------------------------------------- */

static double error_of(const json_t *layers, int index)
{
    return json_number_value(json_object_get(json_array_get(layers, (size_t)index), "error"));
}

/* Indices of the layers with the largest errors, largest first; those that are not complete have none. */
static int find_worst(const json_t *layers, int worst[SQ_REPORT_WORST])
{
    int count = 0;
    for (int i = 0; i < (int)json_array_size(layers); i++) {
        if (!json_is_number(json_object_get(json_array_get(layers, (size_t)i), "error"))) continue;
        int at = count < SQ_REPORT_WORST ? count++ : SQ_REPORT_WORST;
        for (; at > 0 && error_of(layers, worst[at - 1]) < error_of(layers, i); at--)
            if (at < SQ_REPORT_WORST) worst[at] = worst[at - 1];
        if (at < SQ_REPORT_WORST) worst[at] = i;
    }
    return count;
}

enum sq_status sq_report_histograms(struct sq_report_run *run)
{
    int worst[SQ_REPORT_WORST];
    int n_worst = find_worst(run->layers, worst);
    json_t *list = json_array();
    enum sq_status status = SQ_OK;
    for (int i = 0; list && i < n_worst && status == SQ_OK; i++)
        status = show(run, worst[i], list);
    if (status != SQ_OK) {
        json_decref(list);
        return status;
    }
    return sq_report_set(run->object, "histograms", list);
}
