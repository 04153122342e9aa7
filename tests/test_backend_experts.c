/* The contract of a backend's operations for mixtures of experts, against plain double-precision loops; what is chosen
 * must be the same, figures agree to a few roundings of f32. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backends.h"

static struct sq_backend *backend;

static int set_up(void **state)
{
    (void)state;
    return backend_create(1, &backend) == SQ_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    backend->ops->destroy(backend);
    return 0;
}

/* A seeded number in (-1, 1). */
static float noise(int64_t i, uint32_t seed)
{
    uint32_t hash = (uint32_t)(i + 1) * 2654435761u ^ seed * 40503u;
    hash ^= hash >> 13;
    hash *= 1274126177u;
    return (float)(hash >> 8) / 8388608.0f - 1;
}

/* --- routing ------------------------------------------------------------------------------------------------------ */

#define TOKENS 37
#define EXPERTS 12
#define STRIDE 14
#define MOST 5

/* One token, in double; scores and weights for the experts in chosen. */
static void expect_route(const struct sq_routing *r, const float *logits, const float *bias, double *scores,
                         int32_t *chosen, double *weights)
{
    double sum = 0, ranks[EXPERTS];
    bool open[EXPERTS];
    for (int e = 0; e < EXPERTS; e++)
        sum += exp((double)logits[e]);
    for (int e = 0; e < EXPERTS; e++) {
        double z = (double)logits[e];
        scores[e] = r->kind == SQ_ROUTER_SOFTMAX ? exp(z) / sum : r->kind == SQ_ROUTER_SIGMOID ? 1 / (1 + exp(-z)) : z;
        ranks[e] = scores[e] + (bias ? (double)bias[e] : 0);
        open[e] = r->n_groups <= 1;
    }
    int n_groups = (int)r->n_groups, size = n_groups > 1 ? EXPERTS / n_groups : EXPERTS;
    double groups[EXPERTS] = {0};
    for (int g = 0; g < n_groups; g++) {
        double best = -INFINITY, second = -INFINITY;
        for (int e = g * size; e < g * size + size; e++) {
            second = fmax(second, fmin(best, ranks[e]));
            best = fmax(best, ranks[e]);
        }
        groups[g] = r->group_score == SQ_GROUP_BEST || size == 1 ? best : best + second;
    }
    for (int i = 0; n_groups > 1 && i < r->n_chosen_groups; i++) {
        int best = 0;
        for (int g = 1; g < n_groups; g++)
            if (groups[g] > groups[best]) best = g;
        groups[best] = -INFINITY;
        for (int e = best * size; e < best * size + size; e++)
            open[e] = true;
    }
    sum = 0;
    for (int i = 0; i < r->n_chosen; i++) {
        int best = -1;
        for (int e = 0; e < EXPERTS; e++)
            if (open[e] && (best < 0 || ranks[e] > ranks[best])) best = e;
        open[best] = false;
        chosen[i] = best;
        weights[i] = r->kind == SQ_ROUTER_SOFTMAX_CHOSEN ? exp(scores[best]) : scores[best];
        sum += weights[i];
    }
    for (int i = 0; i < r->n_chosen; i++)
        weights[i] *= (double)r->scale / (r->normalise || r->kind == SQ_ROUTER_SOFTMAX_CHOSEN ? sum : 1);
}

static void check_route(struct sq_routing routing, bool has_bias)
{
    float logits[TOKENS * STRIDE], scores[TOKENS * STRIDE], weights[TOKENS * STRIDE], bias[EXPERTS];
    int32_t chosen[TOKENS * STRIDE];
    for (int i = 0; i < TOKENS * STRIDE; i++)
        logits[i] = 3 * noise(i, 1);
    for (int e = 0; e < EXPERTS; e++)
        bias[e] = noise(e, 2);
    void *memory[] = {backend_give(backend, logits, sizeof logits), backend_give(backend, logits, sizeof logits),
                      backend_give(backend, logits, sizeof logits), backend_give(backend, bias, sizeof bias)};
    routing.n_experts = EXPERTS;
    routing.bias = has_bias ? memory[3] : NULL;
    const struct sq_matrix s = {memory[0], SQ_F32, TOKENS, EXPERTS, STRIDE};
    const struct sq_matrix c = {memory[1], SQ_I32, TOKENS, routing.n_chosen, STRIDE};
    const struct sq_matrix w = {memory[2], SQ_F32, TOKENS, routing.n_chosen, STRIDE};
    assert_int_equal(backend->ops->route(backend, &routing, s, c, w), SQ_OK);
    backend_take(backend, memory[0], sizeof scores, scores);
    backend_take(backend, memory[1], sizeof chosen, chosen);
    backend_take(backend, memory[2], sizeof weights, weights);
    for (int t = 0; t < TOKENS; t++) {
        double expected[EXPERTS], expected_weights[MOST];
        int32_t experts[MOST];
        expect_route(&routing, logits + t * STRIDE, has_bias ? bias : NULL, expected, experts, expected_weights);
        for (int e = 0; e < EXPERTS; e++)
            assert_true(fabs((double)scores[t * STRIDE + e] - expected[e]) <= 1e-6);
        for (int i = 0; i < routing.n_chosen; i++) {
            assert_int_equal(chosen[t * STRIDE + i], experts[i]);
            assert_true(fabs((double)weights[t * STRIDE + i] - expected_weights[i]) <= 3e-6);
        }
        /* what is beside the matrices stays */
        assert_true(scores[t * STRIDE + EXPERTS] == logits[t * STRIDE + EXPERTS]);
        assert_memory_equal(&chosen[t * STRIDE + routing.n_chosen], &logits[t * STRIDE + routing.n_chosen], 4);
        assert_true(weights[t * STRIDE + routing.n_chosen] == logits[t * STRIDE + routing.n_chosen]);
    }
    for (int i = 0; i < 4; i++)
        backend_free(backend, memory[i]);
}

static void test_route(void **state)
{
    (void)state;
    check_route((struct sq_routing){.kind = SQ_ROUTER_SOFTMAX, .n_chosen = 1, .scale = 1}, false);
    check_route((struct sq_routing){.kind = SQ_ROUTER_SOFTMAX, .n_chosen = 5, .scale = 1, .normalise = true}, false);
    check_route((struct sq_routing){.kind = SQ_ROUTER_SOFTMAX_CHOSEN, .n_chosen = 4, .scale = 1}, false);
    check_route((struct sq_routing){.kind = SQ_ROUTER_SIGMOID, .n_chosen = 3, .scale = 2.5f}, true);
}

static void test_route_by_groups(void **state)
{
    (void)state;
    struct sq_routing routing = {.n_chosen = 4, .n_groups = 4, .n_chosen_groups = 2, .scale = 16, .normalise = true};
    for (int kind = 0; kind < 3; kind++)
        for (int score = 0; score < 2; score++) {
            routing.kind = (enum sq_router_kind)kind;
            routing.group_score = (enum sq_group_score)score;
            check_route(routing, kind == SQ_ROUTER_SIGMOID);
        }
    routing.n_groups = EXPERTS; /* of one expert each */
    routing.n_chosen_groups = 4;
    check_route(routing, true);
}

/* Of equals the first is chosen. */
static void test_route_of_equals(void **state)
{
    (void)state;
    float logits[EXPERTS] = {0, 1, 0, 1, 1};
    int32_t chosen[3];
    float weights[3];
    void *memory[] = {backend_give(backend, logits, sizeof logits), backend_give(backend, chosen, sizeof chosen),
                      backend_give(backend, weights, sizeof weights)};
    const struct sq_routing routing = {.kind = SQ_ROUTER_SIGMOID, .n_experts = EXPERTS, .n_chosen = 3, .scale = 1};
    assert_int_equal(backend->ops->route(backend, &routing, sq_matrix_view(memory[0], SQ_F32, 1, EXPERTS),
                                         sq_matrix_view(memory[1], SQ_I32, 1, 3),
                                         sq_matrix_view(memory[2], SQ_F32, 1, 3)),
                     SQ_OK);
    backend_take(backend, memory[1], sizeof chosen, chosen);
    assert_true(chosen[0] == 1 && chosen[1] == 3 && chosen[2] == 4);
    for (int i = 0; i < 3; i++)
        backend_free(backend, memory[i]);
}

/* --- rows --------------------------------------------------------------------------------------------------------- */

#define ROWS 9
#define COLS 700 /* more than a piece of the CPU's */
static const int32_t ids[4] = {7, 0, 3, 8};

static struct sq_matrix give_noise(enum sq_dtype dtype, int64_t rows, uint32_t seed, float *host)
{
    for (int64_t i = 0; i < rows * COLS; i++)
        host[i] = noise(i, seed);
    char typed[ROWS * COLS * 4];
    sq_dtype_from_f32(host, rows * COLS, dtype, typed);
    sq_dtype_to_f32(dtype, typed, rows * COLS, host); /* as rounded */
    size_t bytes = (size_t)(rows * COLS) * sq_dtype_size(dtype);
    return sq_matrix_view(backend_give(backend, typed, bytes), dtype, rows, COLS);
}

static void check_gather(enum sq_dtype dtype)
{
    float host[ROWS * COLS], out[4 * COLS];
    struct sq_matrix x = give_noise(dtype, ROWS, 1, host), y = give_noise(dtype, 4, 2, out);
    void *memory = backend_give(backend, ids, sizeof ids);
    assert_int_equal(backend->ops->gather_rows(backend, x, memory, y), SQ_OK);
    void *typed = backend_read(backend, y);
    sq_dtype_to_f32(dtype, typed, 4 * COLS, out);
    for (int i = 0; i < 4; i++)
        assert_memory_equal(out + i * COLS, host + ids[i] * COLS, COLS * sizeof *out);
    free(typed);
    backend_free(backend, x.data);
    backend_free(backend, y.data);
    backend_free(backend, memory);
}

static void check_add(enum sq_dtype dtype)
{
    static const float weights[4] = {0.5f, -2.0f, 0.1f, 3.0f};
    float host[4 * COLS], before[ROWS * COLS];
    struct sq_matrix x = give_noise(dtype, 4, 1, host), y = give_noise(SQ_F32, ROWS, 2, before);
    void *memory[] = {backend_give(backend, ids, sizeof ids), backend_give(backend, weights, sizeof weights)};
    assert_int_equal(backend->ops->add_rows(backend, x, memory[0], memory[1], y), SQ_OK);
    float *after = backend_read(backend, y);
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < COLS; j++) {
            float *value = &before[ids[i] * COLS + j];
            *value = (float)((double)*value + (double)weights[i] * (double)host[i * COLS + j]);
        }
    for (int i = 0; i < ROWS * COLS; i++)
        assert_true(fabsf(after[i] - before[i]) <= 5e-7f);
    free(after);
    backend_free(backend, x.data);
    backend_free(backend, y.data);
    backend_free(backend, memory[0]);
    backend_free(backend, memory[1]);
}

static void check_gate(enum sq_dtype dtype)
{
    float host[ROWS * COLS], w[COLS], before[ROWS * COLS];
    struct sq_matrix x = give_noise(dtype, ROWS, 1, host), y = give_noise(SQ_F32, ROWS, 2, before);
    struct sq_matrix weight = give_noise(SQ_F32, 1, 3, w);
    assert_int_equal(backend->ops->gate_rows(backend, x, weight.data, y), SQ_OK);
    float *after = backend_read(backend, y);
    for (int i = 0; i < ROWS; i++) {
        double sum = 0;
        for (int j = 0; j < COLS; j++)
            sum += (double)host[i * COLS + j] * (double)w[j];
        for (int j = 0; j < COLS; j++) {
            double expected = (double)before[i * COLS + j] / (1 + exp(-sum));
            assert_true(fabs((double)after[i * COLS + j] - expected) <= 2e-5);
        }
    }
    free(after);
    backend_free(backend, x.data);
    backend_free(backend, y.data);
    backend_free(backend, weight.data);
}

static void test_rows(void **state)
{
    (void)state;
    static const enum sq_dtype types[] = {SQ_F32, SQ_BF16};
    for (int t = 0; t < 2; t++) {
        check_gather(types[t]);
        check_add(types[t]);
        check_gate(types[t]);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_route, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_route_by_groups, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_route_of_equals, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_rows, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
