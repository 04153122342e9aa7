/* The forward pass against logits that transformers computed, and its promises about bits. */
#define _GNU_SOURCE /* mkdtemp */
#include "forward_fixture.h"

#include <math.h>

#include "model/final.h"
#include "mpi/split.h"

/* Largest difference over largest golden logit. f32: both sides round sums of at most 172 terms over two blocks; 1e-6
 * is what is seen, ten times that is allowed. bf16 keeps 8 bits: a dozen roundings of 2^-9 along the longest path,
 * which the wide weights of these models add up to 3 %. */
#define TOLERANCE_F32 1e-5
#define TOLERANCE_BF16 4e-2

struct run {
    const struct golden *golden;
    const struct sq_comm *comm;
    enum sq_dtype compute;
    int n_threads;
    const char *folder; /* NULL: activations near */
    int groups_ahead;
};

/* Logits of this rank's samples, and which they are; released with free(). */
static float *compute_logits(const struct run *run, struct sq_range *samples_p)
{
    const struct golden *golden = run->golden;
    struct sq_range samples = sq_split(golden->n_samples, run->comm->rank, run->comm->size);
    struct sq_forward_options options = {.compute = run->compute,
                                         .n_samples = samples.count,
                                         .length = golden->length,
                                         .folder = run->folder,
                                         .groups_ahead = run->groups_ahead};
    struct sq_backend *backend;
    struct sq_checkpoint *checkpoint;
    struct sq_model *model;
    struct sq_final final;
    if (backend_create(run->n_threads, &backend) != SQ_OK) abort();
    if (run->folder) options.place = sq_activations_away(backend->is_host);
    if (sq_checkpoint_open(golden->folder, &checkpoint) != SQ_OK) abort();
    if (sq_model_open(checkpoint, &model) != SQ_OK) abort();
    if (sq_final_make(backend, run->comm, model, &options, golden->ids + samples.first * golden->length, &final) !=
        SQ_OK)
        abort();
    float *logits = calloc((size_t)(samples.count * golden->length * golden->vocab) + 1, sizeof *logits);
    if (sq_final_logits(&final, run->comm, logits) != SQ_OK) abort();
    sq_final_release(&final);
    sq_model_close(model);
    sq_checkpoint_close(checkpoint);
    backend->ops->destroy(backend);
    *samples_p = samples;
    return logits;
}

static double relative_error(const float *values, const float *expected, int64_t n, const float *all, int64_t n_all)
{
    double difference = 0, largest = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)values[i] - (double)expected[i]);
        if (!(d <= difference)) difference = d; /* NaN stays */
    }
    for (int64_t i = 0; i < n_all; i++)
        largest = fmax(largest, fabs((double)all[i]));
    return difference / largest;
}

static bool has_bf16(void)
{
    struct sq_backend *backend;
    if (backend_create(1, &backend) != SQ_OK) abort();
    bool has = backend->has_bf16;
    backend->ops->destroy(backend);
    return has;
}

static void check_golden(enum sq_dtype compute, double tolerance)
{
    struct golden list[GOLDEN_MAX];
    int n = golden_list(list);
    int n_wanted = 0;
    for (int i = 0; i < n; i++) {
        struct golden *golden = &list[i];
        if (!golden_is_wanted(golden->name)) continue;
        n_wanted++;
        golden_load(golden);
        struct sq_range samples;
        float *logits = compute_logits(&(struct run){golden, &ranks.comm, compute, 2, NULL, 0}, &samples);
        int64_t size = golden->length * golden->vocab;
        double error = relative_error(logits, golden->logits + samples.first * size, samples.count * size,
                                      golden->logits, golden->n_samples * size);
        if (!CHECK(error <= tolerance)) printf("    %s: relative error %g\n", golden->name, error);
        free(logits);
        golden_release(golden);
    }
    CHECK(n_wanted > 0);
}

static void test_f32_agrees_with_transformers(void **state)
{
    (void)state;
    check_golden(SQ_F32, TOLERANCE_F32);
    ranks_end_test();
}

static void test_bf16_agrees_with_transformers(void **state)
{
    (void)state;
    if (!has_bf16()) skip();
    check_golden(SQ_BF16, TOLERANCE_BF16);
    ranks_end_test();
}

/* Each rank compares its samples of one run with the same samples of another. */
static void check_same_bits(const struct run *first, const struct run *second)
{
    struct sq_range a, b;
    float *one = compute_logits(first, &a);
    if (a.count == 0 && second->comm->size == 1) { /* a run without others, for nothing */
        free(one);
        return;
    }
    float *two = compute_logits(second, &b);
    int64_t size = first->golden->length * first->golden->vocab;
    for (int64_t s = 0; s < a.count; s++) {
        int64_t other = a.first + s - b.first;
        if (!CHECK(other >= 0 && other < b.count)) continue;
        if (!CHECK(!memcmp(one + s * size, two + other * size, (size_t)size * sizeof *one)))
            printf("    %s, sample %lld\n", first->golden->name, (long long)(a.first + s));
    }
    free(one);
    free(two);
}

static void check_promises(const char *name, enum sq_dtype compute, const struct sq_comm *self)
{
    struct golden golden = golden_find(name);
    struct run base = {&golden, &ranks.comm, compute, 1, NULL, 0};
    struct run alone = base, threads = base, away = base;
    alone.comm = self;
    threads.n_threads = 2;
    away.folder = ranks.folder.path;
    check_same_bits(&base, &alone); /* this number of ranks, and one */
    check_same_bits(&base, &threads);
    check_same_bits(&base, &away);
    golden_release(&golden);
}

static void test_bits_do_not_depend_on_ranks_threads_or_memory(void **state)
{
    (void)state;
    struct sq_comm self;
    if (sq_comm_split(&ranks.comm, ranks.comm.rank, &self) != SQ_OK) abort();
    bool bf16 = has_bf16();
    static const char *const names[] = {"llama3",  "mistral",    "qwen3",           "opt",     "bloom",
                                        "gptj",    "falcon_40b", "gemma3",          "cohere2", "olmo2",
                                        "mixtral", "qwen2_moe",  "qwen3_moe_fused", "gpt_oss"};
    int n_wanted = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!golden_is_wanted(names[i])) continue;
        n_wanted++;
        check_promises(names[i], SQ_F32, &self);
        if (bf16) check_promises(names[i], SQ_BF16, &self);
    }
    CHECK(n_wanted > 0);
    sq_comm_free(&self);
    ranks_end_test();
}

/* Weights that are on their way in other memory are the same ones; experts may be between the groups. */
static void test_weights_may_be_on_their_way(void **state)
{
    (void)state;
    static const char *const names[] = {"llama3", "opt", "mixtral", "gpt_oss"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct golden golden = golden_find(names[i]);
        struct run plain = {&golden, &ranks.comm, SQ_F32, 2, NULL, 0}, ahead = plain;
        for (ahead.groups_ahead = 1; ahead.groups_ahead <= SQ_FORWARD_AHEAD; ahead.groups_ahead++)
            check_same_bits(&plain, &ahead);
        golden_release(&golden);
    }
    ranks_end_test();
}

/* The first group's input of a Llama is the RMS norm of the embedding: checked against the formula in double. */
static void test_first_group_input_is_the_norm_of_the_embedding(void **state)
{
    (void)state;
    struct pass p;
    open_forward("llama", &p);
    CHECK(sq_forward_to_group(p.forward, 0) == SQ_OK);
    struct sq_matrix x = sq_forward_group_input(p.forward);
    int64_t hidden = sq_model_hidden_size(p.opened.model);
    CHECK(x.rows == p.opened.golden.n_samples * p.opened.golden.length && x.cols == hidden && x.dtype == SQ_F32);
    float *values = malloc((size_t)(x.rows * x.stride) * sizeof *values), embedding[4096], weight[4096];
    backend_take(p.backend, x.data, (size_t)(x.rows * x.stride) * sizeof *values, values);
    const struct sq_tensor *norm = sq_checkpoint_find(p.opened.checkpoint, "model.layers.0.input_layernorm.weight");
    const struct sq_tensor *table = sq_checkpoint_find(p.opened.checkpoint, "model.embed_tokens.weight");
    CHECK(sq_tensor_read_f32(norm, 0, hidden, weight) == SQ_OK);
    for (int64_t t = 0; t < x.rows; t++) {
        double square = 0, worst = 0;
        CHECK(sq_tensor_read_f32(table, p.opened.golden.ids[t], 1, embedding) == SQ_OK);
        for (int64_t i = 0; i < hidden; i++)
            square += (double)embedding[i] * (double)embedding[i];
        double factor = 1 / sqrt(square / (double)hidden + 1e-5);
        for (int64_t i = 0; i < hidden; i++) {
            double expected = (double)embedding[i] * factor * (double)weight[i];
            worst = fmax(worst, fabs(expected - (double)values[t * x.stride + i]));
        }
        CHECK(worst < 1e-5);
    }
    free(values);
    close_forward(&p);
    ranks_end_test();
}

/* Residual streams as the state file saves them and puts them back, where activations are in a file, or of a device on
 * the host. */
static void test_residual_streams_go_out_and_back(void **state)
{
    (void)state;
    struct pass p;
    open_forward("opt", &p);
    struct sq_forward *away;
    struct sq_forward_options options = {.compute = SQ_F32,
                                         .n_samples = p.opened.golden.n_samples,
                                         .length = p.opened.golden.length,
                                         .place = sq_activations_away(p.backend->is_host),
                                         .folder = ranks.folder.path};
    CHECK(sq_forward_create(p.backend, p.opened.model, &options, &away) == SQ_OK);
    CHECK(sq_forward_is_on_host(away) == !p.backend->is_host && !sq_forward_is_on_host(p.forward));
    CHECK(sq_forward_embed(away, &ranks.comm, p.opened.golden.ids) == SQ_OK);
    int64_t count = p.opened.golden.length * sq_model_hidden_size(p.opened.model);
    float *values = malloc(2 * (size_t)count * sizeof *values), *again = values + count;
    for (int64_t s = 0; s < p.opened.golden.n_samples; s++) {
        CHECK(sq_forward_get_hidden(p.forward, s, values) == SQ_OK && sq_forward_get_hidden(away, s, again) == SQ_OK);
        CHECK(!memcmp(values, again, (size_t)count * sizeof *values));
        values[count - 1] = (float)s;
        CHECK(sq_forward_set_hidden(away, s, values) == SQ_OK);
    }
    for (int64_t s = 0; s < p.opened.golden.n_samples; s++)
        CHECK(sq_forward_get_hidden(away, s, again) == SQ_OK && again[count - 1] == (float)s);
    free(values);
    sq_forward_destroy(away);
    close_forward(&p);
    ranks_end_test();
}

/* lm_head is larger than the memory of a group's weights: nothing is loaded, and nothing is written. */
static void test_head_is_not_loaded(void **state)
{
    (void)state;
    struct pass p;
    open_forward("opt_untied", &p);
    struct sq_matrix weight;
    CHECK(sq_forward_to_group(p.forward, 0) == SQ_OK);
    weight = sq_forward_linear_weight(p.forward, 0);
    float value = 42;
    CHECK(p.backend->ops->upload(p.backend, &value, sizeof value, weight.data) == SQ_OK);
    CHECK(sq_forward_load_block(p.forward, &ranks.comm, sq_model_n_blocks(p.opened.model)) == SQ_OK);
    CHECK(sq_forward_to_group(p.forward, 0) == SQ_OK);
    CHECK(sq_forward_load_linear(p.forward, &ranks.comm, 0) == SQ_OK);
    value = 0;
    backend_take(p.backend, weight.data, sizeof value, &value);
    CHECK(value == 42);
    close_forward(&p);
    ranks_end_test();
}

static int run(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f32_agrees_with_transformers),
        cmocka_unit_test(test_bf16_agrees_with_transformers),
        cmocka_unit_test(test_bits_do_not_depend_on_ranks_threads_or_memory),
        cmocka_unit_test(test_weights_may_be_on_their_way),
        cmocka_unit_test(test_first_group_input_is_the_norm_of_the_embedding),
        cmocka_unit_test(test_residual_streams_go_out_and_back),
        cmocka_unit_test(test_head_is_not_loaded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    return ranks_main(&argc, &argv, run);
}
