/* The contract of a backend: attention, against a plain double-precision loop. */
#include "backend_fixture.h"

static double plain_attention(const struct sq_attention *shape, struct sq_matrix q, struct sq_matrix k,
                              struct sq_matrix v, int64_t t, int64_t column)
{
    int64_t head = column / shape->value_dim, kv = head / (shape->n_heads / shape->n_kv_heads);
    int64_t first = shape->window && t - shape->window + 1 > 0 ? t - shape->window + 1 : 0;
    double sum = shape->sinks ? exp((double)shape->sinks[head]) : 0, value = 0;
    for (int64_t u = first; u <= t; u++) {
        double score = 0;
        for (int64_t d = 0; d < shape->head_dim; d++)
            score += at(q, t, head * shape->head_dim + d) * at(k, u, kv * shape->head_dim + d);
        score *= (double)shape->scale;
        if (shape->cap > 0) score = (double)shape->cap * tanh(score / (double)shape->cap);
        if (shape->slopes) score += (double)shape->slopes[head] * (double)(u - t);
        double weight = exp(score);
        sum += weight;
        value += weight * at(v, u, kv * shape->value_dim + column % shape->value_dim);
    }
    return value / sum;
}

/* The shapes that are checked: what may be done to scores, alone and together; narrow values, and wide ones. */
static const float slopes[] = {0.5f, 0.25f, 0.02f, 0.0f};
static const float sinks[] = {0.3f, -30.0f, 2.5f, 12.0f}; /* below all scores, among them, above them */
static const struct sq_attention shapes[] = {
    {.n_heads = 4, .n_kv_heads = 2, .head_dim = 10, .value_dim = 10, .scale = 0.7f},
    {.n_heads = 4, .n_kv_heads = 2, .head_dim = 10, .value_dim = 10, .scale = 0.7f, .cap = 0.8f},
    {.n_heads = 4, .n_kv_heads = 2, .head_dim = 10, .value_dim = 10, .scale = 0.7f, .slopes = slopes},
    {.n_heads = 4, .n_kv_heads = 2, .head_dim = 10, .value_dim = 10, .scale = 1.3f, .cap = 1.1f, .slopes = slopes},
    {.n_heads = 4, .n_kv_heads = 4, .head_dim = 12, .value_dim = 7, .scale = 0.3f},
    {.n_heads = 4, .n_kv_heads = 2, .head_dim = 6, .value_dim = 11, .scale = 0.7f},
    {.n_heads = 4, .n_kv_heads = 2, .head_dim = 10, .value_dim = 10, .scale = 0.7f, .sinks = sinks},
    {.n_heads = 4, .n_kv_heads = 1, .head_dim = 10, .value_dim = 6, .scale = 0.7f, .cap = 0.8f, .sinks = sinks},
};

/* Long samples: rows about the ends of blocks and tiles of any backend, and some of those between. */
static bool is_checked(int64_t t, int64_t length)
{
    return length <= 150 || t % 64 == 0 || t % 64 == 63 || t % 37 == 0 || t > length - 3;
}

static void check_attention(struct sq_attention shape, enum sq_dtype dtype, int64_t length, int64_t window)
{
    shape.window = window;
    struct sq_matrix q = make(dtype, length, shape.n_heads * shape.head_dim, 1);
    struct sq_matrix k = make(dtype, length, shape.n_kv_heads * shape.head_dim, 2);
    struct sq_matrix v = make(dtype, length, shape.n_kv_heads * shape.value_dim, 3);
    struct sq_matrix out = make(dtype, length, shape.n_heads * shape.value_dim, 4);
    struct sq_matrix result = give(out);
    struct sq_attention asked = shape;
    if (shape.slopes) asked.slopes = give_array(slopes, sizeof slopes);
    if (shape.sinks) asked.sinks = give_array(sinks, sizeof sinks);
    void *scratch;
    assert_int_equal(ops->alloc(backend, "scratch", ops->attention_scratch(backend, &shape, length), &scratch), SQ_OK);
    assert_int_equal(ops->attention(backend, &asked, give(q), give(k), give(v), scratch, result), SQ_OK);
    take(result, out);
    ops->free(backend, scratch);
    free_given();
    for (int64_t t = 0; t < length; t++)
        for (int64_t j = 0; j < out.cols && is_checked(t, length); j++) {
            double expected = plain_attention(&shape, q, k, v, t, j);
            /* bf16: the weights of the mean may be rounded to bf16, too */
            if (dtype == SQ_BF16)
                assert_true(fabs(at(out, t, j) - expected) < 0.02);
            else
                check_near(out, t, j, expected, 4, 64);
        }
    free(q.data);
    free(k.data);
    free(v.data);
    free(out.data);
}

static void test_attention(void **state)
{
    (void)state;
    for (int type = 0; type < (backend->has_bf16 ? 2 : 1); type++) {
        for (int s = 0; s < (int)(sizeof shapes / sizeof *shapes); s++) {
            check_attention(shapes[s], in_types[type], 1, 0);
            check_attention(shapes[s], in_types[type], 37, 0);
            check_attention(shapes[s], in_types[type], 37, 8);
            if (s % 3 == 0) check_attention(shapes[s], in_types[type], 150, 0);
            if (s % 3 == 0) check_attention(shapes[s], in_types[type], 150, 70);
        }
    }
}

/* More than a tile of a device: what is carried from tile to tile, and tiles that a window leaves out. */
static void test_long(void **state)
{
    static const struct sq_attention narrow = {
        .n_heads = 1, .n_kv_heads = 1, .head_dim = 4, .value_dim = 3, .scale = 0.7f};
    static const struct sq_attention many = {
        .n_heads = 24, .n_kv_heads = 6, .head_dim = 4, .value_dim = 3, .scale = 0.7f};
    (void)state;
    for (int type = 0; type < (backend->has_bf16 ? 2 : 1); type++) {
        check_attention(shapes[3], in_types[type], 700, 0);
        check_attention(shapes[6], in_types[type], 700, 300);
        check_attention(narrow, in_types[type], 2048, 0);
        check_attention(many, in_types[type], 700, 0);
    }
    check_attention(narrow, SQ_F32, 32768, 100);
}

/* On a device no memory grows with the length beyond a tile; on the CPU packed keys and values do, and no scores. */
static void test_scratch(void **state)
{
    (void)state;
    size_t bytes = ops->attention_scratch(backend, &shapes[0], 2048);
    size_t more = ops->attention_scratch(backend, &shapes[0], 32768);
    if (backend_in_host_memory())
        assert_in_range(more, bytes, 16 * bytes);
    else
        assert_int_equal(more, bytes);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_long),
        cmocka_unit_test(test_scratch),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
