/* Mixtures of experts on the CPU: how a router chooses, and rows on their way to experts and back. */
#include <math.h>
#include <string.h>

#include "tensor/cpu_private.h"
#include "tensor/kernels/forward.h"

static void *row_of(struct sq_matrix m, int64_t row)
{
    return (char *)m.data + (size_t)(row * m.stride) * sq_dtype_size(m.dtype);
}

/* --- routing ------------------------------------------------------------------------------------------------------ */

/* 1 / (1 + exp(-x)) */
static float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

/* Logits of one token become its scores. */
static void make_scores(const struct sq_forward_kernels *kernels, const struct sq_routing *routing, float *scores)
{
    int64_t n = routing->n_experts;
    switch (routing->kind) {
    case SQ_ROUTER_SOFTMAX:
        kernels->scale(1.0f / kernels->exp_sum(scores, n, 1.0f, kernels->max(scores, n)), n, scores);
        break;
    case SQ_ROUTER_SIGMOID:
        for (int64_t e = 0; e < n; e++)
            scores[e] = sigmoid(scores[e]);
        break;
    case SQ_ROUTER_SOFTMAX_CHOSEN:
        break;
    }
}

/* What experts are chosen by. */
static float rank_of(const struct sq_routing *routing, const float *scores, int64_t expert)
{
    return routing->bias ? scores[expert] + routing->bias[expert] : scores[expert];
}

static float group_score(const struct sq_routing *routing, const float *scores, int64_t group)
{
    int64_t n = routing->n_experts / routing->n_groups;
    float best = -INFINITY, second = -INFINITY;
    for (int64_t e = group * n; e < group * n + n; e++) {
        float score = rank_of(routing, scores, e);
        second = fmaxf(second, fminf(best, score));
        best = fmaxf(best, score);
    }
    return routing->group_score == SQ_GROUP_BEST || n < 2 ? best : best + second;
}

/* The best groups, as bits. */
static uint64_t open_groups(const struct sq_routing *routing, const float *scores)
{
    float values[SQ_ROUTING_GROUPS];
    uint64_t open = 0;
    if (routing->n_groups <= 1) return 1;
    for (int64_t g = 0; g < routing->n_groups; g++)
        values[g] = group_score(routing, scores, g);
    for (int64_t i = 0; i < routing->n_chosen_groups; i++) {
        int64_t best = -1;
        for (int64_t g = 0; g < routing->n_groups; g++)
            if (!(open >> g & 1u) && (best < 0 || values[g] > values[best])) best = g;
        open |= (uint64_t)1 << best;
    }
    return open;
}

static bool is_chosen(const int32_t *chosen, int64_t count, int64_t expert)
{
    for (int64_t i = 0; i < count; i++)
        if (chosen[i] == expert) return true;
    return false;
}

static void choose(const struct sq_routing *routing, const float *scores, int32_t *chosen)
{
    int64_t group_size = routing->n_experts / (routing->n_groups > 1 ? routing->n_groups : 1);
    uint64_t open = open_groups(routing, scores);
    for (int64_t i = 0; i < routing->n_chosen; i++) {
        int64_t best = -1;
        for (int64_t e = 0; e < routing->n_experts; e++) {
            if (!(open >> (e / group_size) & 1u) || is_chosen(chosen, i, e)) continue;
            if (best < 0 || rank_of(routing, scores, e) > rank_of(routing, scores, best)) best = e;
        }
        chosen[i] = (int32_t)best;
    }
}

/* weights: the chosen experts' scores on entry. */
static void weigh(const struct sq_forward_kernels *kernels, const struct sq_routing *routing, float *weights)
{
    int64_t n = routing->n_chosen;
    float sum = 1.0f;
    if (routing->kind == SQ_ROUTER_SOFTMAX_CHOSEN)
        sum = kernels->exp_sum(weights, n, 1.0f, kernels->max(weights, n));
    else if (routing->normalise)
        sum = kernels->sum(weights, n) + 1e-20f; /* sigmoids may all vanish */
    for (int64_t i = 0; i < n; i++)
        weights[i] = weights[i] / sum * routing->scale;
}

static void route_token(const struct sq_forward_kernels *kernels, const struct sq_routing *routing, float *scores,
                        int32_t *chosen, float *weights)
{
    make_scores(kernels, routing, scores);
    choose(routing, scores, chosen);
    for (int64_t i = 0; i < routing->n_chosen; i++)
        weights[i] = scores[chosen[i]];
    weigh(kernels, routing, weights);
}

enum sq_status sq_cpu_route(struct sq_backend *backend, const struct sq_routing *routing, struct sq_matrix scores,
                            struct sq_matrix chosen, struct sq_matrix weights)
{
    const struct sq_forward_kernels *kernels = ((struct sq_cpu *)backend)->forward;
    for (int64_t row = 0; row < scores.rows; row++)
        route_token(kernels, routing, row_of(scores, row), row_of(chosen, row), row_of(weights, row));
    return SQ_OK;
}

/* --- rows --------------------------------------------------------------------------------------------------------- */

enum sq_status sq_cpu_gather_rows(struct sq_backend *backend, struct sq_matrix x, const int32_t *ids,
                                  struct sq_matrix y)
{
    (void)backend;
    for (int64_t i = 0; i < y.rows; i++)
        memcpy(row_of(y, i), row_of(x, ids[i]), (size_t)y.cols * sq_dtype_size(y.dtype));
    return SQ_OK;
}

#define CHUNK 512 /* floats of the buffer; stays in the first-level cache */

/* y += weight x over one row, each product rounded before it is added. */
static void add_row(const struct sq_forward_kernels *kernels, struct sq_matrix x, int64_t row, float weight, float *y)
{
    float buffer[CHUNK];
    for (int64_t col = 0, n; col < x.cols; col += n) {
        const char *values = (char *)row_of(x, row) + (size_t)col * sq_dtype_size(x.dtype);
        n = x.cols - col < CHUNK ? x.cols - col : CHUNK;
        sq_dtype_to_f32(x.dtype, values, n, buffer);
        kernels->scale(weight, n, buffer);
        kernels->add(buffer, n, y + col);
    }
}

enum sq_status sq_cpu_add_rows(struct sq_backend *backend, struct sq_matrix x, const int32_t *ids, const float *weights,
                               struct sq_matrix y)
{
    const struct sq_forward_kernels *kernels = ((struct sq_cpu *)backend)->forward;
    for (int64_t i = 0; i < x.rows; i++)
        add_row(kernels, x, i, weights[i], row_of(y, ids[i]));
    return SQ_OK;
}

/* Products in chunks: sums of a chunk in f32, in order. */
static float dot(const struct sq_forward_kernels *kernels, struct sq_matrix x, int64_t row, const float *w)
{
    float buffer[CHUNK], total = 0.0f;
    for (int64_t col = 0, n; col < x.cols; col += n) {
        const char *values = (char *)row_of(x, row) + (size_t)col * sq_dtype_size(x.dtype);
        n = x.cols - col < CHUNK ? x.cols - col : CHUNK;
        sq_dtype_to_f32(x.dtype, values, n, buffer);
        kernels->multiply(w + col, n, buffer);
        total += kernels->sum(buffer, n);
    }
    return total;
}

enum sq_status sq_cpu_gate_rows(struct sq_backend *backend, struct sq_matrix x, const float *w, struct sq_matrix y)
{
    const struct sq_forward_kernels *kernels = ((struct sq_cpu *)backend)->forward;
    for (int64_t row = 0; row < x.rows; row++)
        kernels->scale(sigmoid(dot(kernels, x, row, w)), y.cols, row_of(y, row));
    return SQ_OK;
}
