/* The contract of a backend: the steps of a model, each against a plain double-precision loop. */
#include "backend_fixture.h"

/* --- rows and columns by number ----------------------------------------------------------------------------------- */

static const int32_t some_ids[6] = {7, 12, 3, 10, 4, 11};

static void test_take_rows(void **state)
{
    (void)state;
    struct sq_matrix table = make(SQ_F32, 5, 19, 1), out = make(SQ_F32, 6, 19, 2), before = make(SQ_F32, 6, 19, 2);
    struct sq_matrix taken_rows = give(out);
    const int32_t *ids = give_array(some_ids, sizeof some_ids);
    assert_int_equal(ops->take_rows(backend, give(table), 7, ids, taken_rows), SQ_OK);
    take(taken_rows, out);
    free_given();
    for (int64_t i = 0; i < 6; i++)
        for (int64_t j = 0; j < 19; j++) {
            bool taken = some_ids[i] >= 7 && some_ids[i] < 12;
            assert_true(at(out, i, j) == (taken ? at(table, some_ids[i] - 7, j) : at(before, i, j)));
        }
    free(table.data);
    free(out.data);
    free(before.data);
}

static void test_pick(void **state)
{
    (void)state;
    struct sq_matrix z = make(SQ_F32, 6, 5, 1);
    float out[6] = {-3, -3, -3, -3, -3, -3};
    float *picked = give_array(out, sizeof out);
    const int32_t *ids = give_array(some_ids, sizeof some_ids);
    assert_int_equal(ops->pick(backend, give(z), 7, ids, picked), SQ_OK);
    backend_take(backend, picked, sizeof out, out);
    free_given();
    for (int64_t i = 0; i < 6; i++) {
        bool there = some_ids[i] >= 7 && some_ids[i] < 12;
        assert_true((double)out[i] == (there ? at(z, i, some_ids[i] - 7) : -3));
    }
    free(z.data);
}

/* --- the model's steps -------------------------------------------------------------------------------------------- */

static void check_norm(enum sq_norm_kind kind, enum sq_dtype in, enum sq_dtype out, bool has_bias)
{
    enum { M = 4, N = 77 };
    const double epsilon = 1e-5;
    struct sq_matrix x = make(in, M, N, 1), weight = make(SQ_F32, 1, N, 2), bias = make(SQ_F32, 1, N, 3);
    struct sq_matrix y = make(out, M, N, 4);
    struct sq_matrix result = give(y);
    assert_int_equal(
        ops->norm(backend, kind, give(x), give(weight).data, has_bias ? give(bias).data : NULL, (float)epsilon, result),
        SQ_OK);
    take(result, y);
    free_given();
    for (int64_t i = 0; i < M; i++) {
        double mean = 0, square = 0;
        for (int64_t j = 0; j < N; j++)
            mean += kind == SQ_NORM_LAYER ? at(x, i, j) / N : 0;
        for (int64_t j = 0; j < N; j++)
            square += (at(x, i, j) - mean) * (at(x, i, j) - mean) / N;
        for (int64_t j = 0; j < N; j++) {
            double value = (at(x, i, j) - mean) / sqrt(square + epsilon) * at(weight, 0, j);
            check_near(y, i, j, value + (has_bias ? at(bias, 0, j) : 0), 4, 16);
        }
    }
    free(x.data);
    free(weight.data);
    free(bias.data);
    free(y.data);
}

static void test_norm(void **state)
{
    (void)state;
    check_norm(SQ_NORM_RMS, SQ_F32, SQ_F32, false);
    check_norm(SQ_NORM_RMS, SQ_F32, SQ_BF16, false);
    check_norm(SQ_NORM_RMS, SQ_BF16, SQ_BF16, false);
    check_norm(SQ_NORM_LAYER, SQ_F32, SQ_F32, true);
    check_norm(SQ_NORM_LAYER, SQ_F32, SQ_BF16, true);
}

/* The last head has `missing` entries less than the others. */
static void check_rope(enum sq_rope_pairs pairs, int64_t missing)
{
    enum { LENGTH = 6, HEAD = 10, PAIRS = 4 };
    int64_t cols = 3 * HEAD - missing, apart = pairs == SQ_ROPE_HALVES ? PAIRS : 1;
    for (int type = 0; type < 2; type++) {
        struct sq_matrix x = make(in_types[type], LENGTH, cols, 1), before = make(in_types[type], LENGTH, cols, 1);
        float cosine[LENGTH * PAIRS], sine[LENGTH * PAIRS];
        for (int i = 0; i < LENGTH * PAIRS; i++) {
            cosine[i] = cosf((float)i);
            sine[i] = sinf((float)i);
        }
        struct sq_matrix turned = give(x);
        const float *c = give_array(cosine, sizeof cosine), *s = give_array(sine, sizeof sine);
        assert_int_equal(ops->rope(backend, pairs, turned, HEAD, PAIRS, c, s), SQ_OK);
        take(turned, x);
        free_given();
        for (int64_t t = 0; t < LENGTH; t++)
            for (int64_t j = 0; j < cols; j++) {
                int64_t d = j % HEAD, pair = pairs == SQ_ROPE_HALVES ? d % PAIRS : d / 2 % PAIRS;
                bool is_second = pairs == SQ_ROPE_HALVES ? d >= PAIRS : d % 2;
                double expected = at(before, t, j);
                double cos_t = (double)cosine[t * PAIRS + pair], sin_t = (double)sine[t * PAIRS + pair];
                if (d < 2 * PAIRS)
                    expected = is_second ? expected * cos_t + at(before, t, j - apart) * sin_t
                                         : expected * cos_t - at(before, t, j + apart) * sin_t;
                check_near(x, t, j, expected, 2, 4);
            }
        free(x.data);
        free(before.data);
    }
}

/* Every head's columns [1, 4) of 5 into columns [2, 5) of 7; those of one head into all. */
static void test_copy_parts(void **state)
{
    (void)state;
    enum { LENGTH = 5, COUNT = 3 };
    for (int type = 0; type < 2; type++)
        for (int64_t step = 0; step <= 5; step += 5) {
            struct sq_matrix x = make(in_types[type], LENGTH, 5 * COUNT, 1);
            struct sq_matrix y = make(in_types[type], LENGTH, 7 * COUNT, 2),
                             before = make(in_types[type], LENGTH, 7 * COUNT, 2);
            struct sq_matrix from = give(x), to = give(y);
            assert_int_equal(ops->copy_parts(backend, COUNT, 3, sq_matrix_part(from, 0, LENGTH, 1, from.cols - 1), step,
                                             sq_matrix_part(to, 0, LENGTH, 2, to.cols - 2), 7),
                             SQ_OK);
            take(to, y);
            free_given();
            for (int64_t t = 0; t < LENGTH; t++)
                for (int64_t j = 0; j < 7 * COUNT; j++) {
                    int64_t i = j % 7 - 2;
                    bool is_copied = i >= 0 && i < 3;
                    assert_true(at(y, t, j) == (is_copied ? at(x, t, j / 7 * step + 1 + i) : at(before, t, j)));
                }
            free(x.data);
            free(y.data);
            free(before.data);
        }
}

static void test_rope(void **state)
{
    (void)state;
    check_rope(SQ_ROPE_HALVES, 0);
    check_rope(SQ_ROPE_NEIGHBOURS, 0);
    check_rope(SQ_ROPE_NEIGHBOURS, 2);
}

static void test_rescale(void **state)
{
    (void)state;
    static const float scales[] = {3.0f, 1.0f, 40.0f}, caps[] = {0.0f, 0.5f, 30.0f};
    for (int i = 0; i < 3; i++) {
        struct sq_matrix z = make(SQ_F32, 5, 71, 1), before = make(SQ_F32, 5, 71, 1);
        struct sq_matrix scaled = give(z);
        assert_int_equal(ops->rescale(backend, scales[i], caps[i], scaled), SQ_OK);
        take(scaled, z);
        free_given();
        for (int64_t t = 0; t < 5; t++)
            for (int64_t j = 0; j < 71; j++) {
                double expected = at(before, t, j) * (double)scales[i], cap = (double)caps[i];
                if (cap > 0) expected = cap * tanh(expected / cap);
                check_near(z, t, j, expected, fabs(expected), 8);
            }
        free(z.data);
        free(before.data);
    }
}

static double plain_activation(enum sq_activation kind, double x)
{
    switch (kind) {
    case SQ_ACT_SILU:
        return x / (1 + exp(-x));
    case SQ_ACT_RELU:
        return x > 0 ? x : 0;
    case SQ_ACT_GELU:
        return x * 0.5 * (1 + erf(x / sqrt(2.0)));
    case SQ_ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
    case SQ_ACT_CLAMPED:
        return fmin(x, 7) / (1 + exp(-1.702 * fmin(x, 7)));
    }
    return NAN;
}

static double plain_gate(enum sq_activation kind, double gate)
{
    return kind == SQ_ACT_CLAMPED ? fmax(fmin(gate, 7), -7) + 1 : gate;
}

static void test_activate(void **state)
{
    (void)state;
    for (int kind = SQ_ACT_SILU; kind <= SQ_ACT_CLAMPED; kind++)
        for (int type = 0; type < 2; type++)
            for (int gated = 0; gated < 2; gated++) {
                struct sq_matrix x = make(in_types[type], 3, 70, 1), gate = make(in_types[type], 3, 70, 2);
                struct sq_matrix y = make(in_types[type], 3, 70, 3), none = {0};
                for (int64_t j = 0; j < 70; j++) { /* reach the tails, too */
                    float wide = (float)(j - 35) * 3;
                    sq_dtype_from_f32(&wide, 1, x.dtype, sq_matrix_part(x, 1, 1, j, 1).data);
                    sq_dtype_from_f32(&wide, 1, gate.dtype, sq_matrix_part(gate, 2, 1, j, 1).data);
                }
                struct sq_matrix out = give(y);
                assert_int_equal(
                    ops->activate(backend, (enum sq_activation)kind, give(x), give(gated ? gate : none), out), SQ_OK);
                take(out, y);
                free_given();
                for (int64_t i = 0; i < 3; i++)
                    for (int64_t j = 0; j < 70; j++) {
                        double expected = plain_activation((enum sq_activation)kind, at(x, i, j));
                        double factor = gated ? plain_gate((enum sq_activation)kind, at(gate, i, j)) : 1;
                        check_near(y, i, j, expected * factor, fabs(at(x, i, j)) * fmax(fabs(factor), 1), 8);
                    }
                free(x.data);
                free(gate.data);
                free(y.data);
            }
}

static void test_add_and_convert(void **state)
{
    (void)state;
    for (int type = 0; type < 2; type++) {
        struct sq_matrix x = make(in_types[type], 5, 37, 1), y = make(SQ_F32, 5, 37, 2),
                         before = make(SQ_F32, 5, 37, 2);
        struct sq_matrix wide = make(SQ_F32, 5, 37, 3), narrow = make(in_types[type], 5, 37, 4);
        struct sq_matrix in = give(x), sum = give(y), widened = give(wide), narrowed = give(narrow);
        assert_int_equal(ops->add(backend, in, sum), SQ_OK);
        assert_int_equal(ops->convert(backend, in, widened), SQ_OK);
        assert_int_equal(ops->convert(backend, widened, narrowed), SQ_OK);
        take(sum, y);
        take(widened, wide);
        take(narrowed, narrow);
        free_given();
        for (int64_t i = 0; i < 5; i++)
            for (int64_t j = 0; j < 37; j++) {
                check_near(y, i, j, at(x, i, j) + at(before, i, j), 2, 1);
                assert_true(at(wide, i, j) == at(x, i, j));
                assert_true(at(narrow, i, j) == at(x, i, j));
            }
        free(x.data);
        free(y.data);
        free(before.data);
        free(wide.data);
        free(narrow.data);
    }
}

static void test_all_finite(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int type = 0; type < 2; type++)
        for (int64_t place = 0; place < 3 * 41; place += 7)
            for (int b = 0; b < 3; b++) {
                struct sq_matrix x = make(in_types[type], 3, 41, 1);
                bool finite = false;
                assert_int_equal(ops->all_finite(backend, give(x), &finite), SQ_OK);
                assert_true(finite);
                sq_dtype_from_f32(&bad[b], 1, x.dtype, sq_matrix_part(x, place / 41, 1, place % 41, 1).data);
                assert_int_equal(ops->all_finite(backend, give(x), &finite), SQ_OK);
                assert_false(finite);
                free_given();
                free(x.data);
            }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_take_rows),  cmocka_unit_test(test_pick),
        cmocka_unit_test(test_norm),       cmocka_unit_test(test_copy_parts),
        cmocka_unit_test(test_rope),       cmocka_unit_test(test_rescale),
        cmocka_unit_test(test_activate),   cmocka_unit_test(test_add_and_convert),
        cmocka_unit_test(test_all_finite),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
