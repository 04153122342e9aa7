/* What the plan of eval's memory counts, beside what it takes, wherever the activations are - on a device exactly the
 * same, on the CPU but for what libraries take - and what it chooses. */
#define _GNU_SOURCE
#include "backends.h"
#include "ranks.h"

#include "base/memory.h"
#include "gptq/memory_eval.h"
#include "model/evaluate.h"
#include "model_fixture.h"

#define SAMPLES 5
#define LENGTH 24

/* --- the backend's memory, counted -------------------------------------------------------------------------------- */

#define BLOCKS_MAX 256

static struct {
    struct sq_backend_ops ops;
    const struct sq_backend_ops *real;
    struct {
        void *memory;
        int64_t bytes;
    } blocks[BLOCKS_MAX];
    int64_t bytes, peak;
} counted;

static enum sq_status counting_alloc(struct sq_backend *backend, const char *what, size_t bytes, void **memory_p)
{
    int i = 0;
    SQ_TRY(counted.real->alloc(backend, what, bytes, memory_p));
    while (counted.blocks[i].memory)
        if (++i == BLOCKS_MAX) abort();
    counted.blocks[i].memory = *memory_p;
    counted.blocks[i].bytes = (int64_t)bytes;
    counted.bytes += (int64_t)bytes;
    if (counted.bytes > counted.peak) counted.peak = counted.bytes;
    return SQ_OK;
}

static void counting_free(struct sq_backend *backend, void *memory)
{
    for (int i = 0; memory && i < BLOCKS_MAX; i++) {
        if (counted.blocks[i].memory != memory) continue;
        counted.bytes -= counted.blocks[i].bytes;
        counted.blocks[i].memory = NULL;
    }
    counted.real->free(backend, memory);
}

static void count_memory(struct sq_backend *backend)
{
    memset(&counted, 0, sizeof counted);
    counted.real = backend->ops;
    counted.ops = *backend->ops;
    counted.ops.alloc = counting_alloc;
    counted.ops.free = counting_free;
    backend->ops = &counted.ops;
}

/* --- what is taken ------------------------------------------------------------------------------------------------ */

#define SMALL 65536 /* bytes: shares of ranks, strings, and the tokens, which are the test's here */

static void check_host(const struct sq_memory_plan *plan, int64_t before)
{
    int64_t more = sq_memory_use_of(NULL).peak - before;
    if (!CHECK(more >= plan->resident - SMALL && more <= plan->resident + plan->start + SMALL))
        printf("    taken %lld, planned %lld and %lld\n", (long long)more, (long long)plan->resident,
               (long long)plan->start);
}

static void check_device(const struct sq_memory_plan *plan)
{
    int64_t planned = plan->resident + plan->start;
    /* which tokens go to which expert is known when they are there */
    bool is_right = plan->backend[SQ_MEMORY_EXPERTS] > 0 ? counted.peak <= planned : counted.peak == planned;
    if (!CHECK(is_right)) printf("    taken %lld, planned %lld\n", (long long)counted.peak, (long long)planned);
}

static struct sq_memory_request request_for(const struct sq_backend *backend, const struct opened *q,
                                            const struct opened *p)
{
    return (struct sq_memory_request){.model = q->model,
                                      .reference = p ? p->model : NULL,
                                      .compute = SQ_F32,
                                      .n_samples = sq_split(SAMPLES, ranks.comm.rank, ranks.comm.size).count,
                                      .length = LENGTH,
                                      .n_job_samples = SAMPLES,
                                      .n_ranks = ranks.comm.size,
                                      .n_workers = backend->n_workers,
                                      .traits = backend->traits};
}

/* One evaluation with activations in this place. */
static struct sq_evaluation check_place(const struct opened *q, const struct opened *p, enum sq_activations_place place)
{
    struct sq_evaluation e = {.nll = -1};
    struct sq_backend *backend;
    int32_t ids[SAMPLES * LENGTH];
    const struct sq_tokens tokens = {.n_samples = SAMPLES, .length = LENGTH, .ids = ids};
    for (int i = 0; i < SAMPLES * LENGTH; i++)
        ids[i] = (int32_t)((i * 7919 + i * i % 31) % q->golden.vocab);
    int64_t before = sq_memory_use_of(NULL).bytes;
    sq_memory_forget_peaks();
    if (backend_create(2, &backend) != SQ_OK) abort();
    struct sq_memory_request request = request_for(backend, q, p);
    struct sq_memory_plan plan = {.n_workers = request.n_workers, .place = place};
    sq_memory_count_eval(&request, &plan);
    sq_memory_add_up(&request, &plan);
    const struct sq_evaluate_options options = {
        .compute = SQ_F32, .place = place, .folder = ranks.folder.path, .groups_ahead = plan.groups_ahead};
    CHECK(plan.groups_ahead == (backend->is_host ? 0 : ranks.comm.size > 1 ? 2 : 1));
    count_memory(backend);
    CHECK(sq_evaluate(backend, &ranks.comm, q->model, p ? p->model : NULL, &tokens, &options, &e) == SQ_OK);
    if (backend->is_host)
        check_host(&plan, before);
    else
        check_device(&plan);
    CHECK(counted.bytes == 0);
    backend->ops = counted.real;
    backend->ops->destroy(backend);
    return e;
}

/* The same figures wherever the activations are. */
static void check_models(const char *name, const char *reference)
{
    struct opened q, p;
    open_model(name, &q);
    if (reference) open_model(reference, &p);
    struct sq_evaluation near = check_place(&q, reference ? &p : NULL, SQ_ACTIVATIONS_NEAR);
    struct sq_evaluation away = check_place(&q, reference ? &p : NULL, sq_activations_away(backend_in_host_memory()));
    CHECK(!memcmp(&near, &away, sizeof near));
    if (reference) close_model(&p);
    close_model(&q);
}

static void test_one_model(void **state)
{
    (void)state;
    check_models("opt", NULL);
    check_models("gptj", NULL); /* lm_head has a bias */
    check_models("qwen2_moe", NULL);
    ranks_end_test();
}

/* While the second model runs the first one's final states stay; the larger model is the one or the other. */
static void test_two_models(void **state)
{
    (void)state;
    check_models("llama", "mistral");
    check_models("llama", "llama_ffn172");
    check_models("llama_ffn172", "llama");
    ranks_end_test();
}

/* --- what is chosen ----------------------------------------------------------------------------------------------- */

/* Activations go away before anything is refused; on a device weights on their way go first, then workers. */
static void test_choice(void **state)
{
    (void)state;
    struct opened q;
    struct sq_backend *backend;
    struct sq_memory_plan near, away, plan;
    open_model("llama", &q);
    if (backend_create(3, &backend) != SQ_OK) abort();
    struct sq_memory_request request = request_for(backend, &q, NULL);
    request.n_samples = request.n_job_samples = 200;
    CHECK(sq_memory_fit(&request, sq_memory_count_eval, &near) && near.place == SQ_ACTIVATIONS_NEAR);
    request.limit = near.resident + sq_memory_embedding(&request, &near);
    CHECK(sq_memory_fit(&request, sq_memory_count_eval, &plan) && plan.place == SQ_ACTIVATIONS_NEAR);
    CHECK(plan.n_workers == 3);
    int steps = 0;
    for (; plan.n_workers == 3 && plan.place == SQ_ACTIVATIONS_NEAR && steps <= near.groups_ahead; steps++) {
        request.limit = plan.resident + sq_memory_embedding(&request, &plan) - 1;
        CHECK(sq_memory_fit(&request, sq_memory_count_eval, &plan));
    }
    CHECK(backend->is_host ? plan.place == SQ_ACTIVATIONS_IN_FILE : plan.n_workers == 2);
    for (away = plan; sq_memory_fit(&request, sq_memory_count_eval, &plan); request.limit--) {
        CHECK(plan.resident + sq_memory_embedding(&request, &plan) <= request.limit);
        request.limit = plan.resident + sq_memory_embedding(&request, &plan); /* and then one byte less */
        away = plan;
    }
    CHECK(away.place == sq_activations_away(backend->is_host) && away.n_workers == (backend->is_host ? 3 : 1));
    capture_start(&ranks.capture);
    CHECK(sq_memory_fit_or_say(&request, sq_memory_count_eval, &plan) == SQ_ERR_USAGE);
    CHECK(capture_is_one_error(capture_stop(&ranks.capture), (const char *const[4]){"a rank needs ", "(already "}));
    backend->ops->destroy(backend);
    close_model(&q);
    ranks_end_test();
}

static int run(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_model),
        cmocka_unit_test(test_two_models),
        cmocka_unit_test(test_choice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    return ranks_main(&argc, &argv, run);
}
