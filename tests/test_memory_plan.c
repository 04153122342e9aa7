/* What the plan of a rank's memory counts. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "capture.h"
#include "golden.h"
#include "gptq/factor.h"
#include "gptq/memory_plan.h"

struct planned {
    struct sq_checkpoint *checkpoint;
    struct sq_model *model;
    struct sq_config config;
    struct sq_layers layers;
    struct sq_memory_request request;
};

static int set_up(void **state)
{
    static struct planned p;
    char path[1024];
    golden_path("llama", NULL, path);
    assert_int_equal(sq_checkpoint_open(path, &p.checkpoint), SQ_OK);
    assert_int_equal(sq_model_open(p.checkpoint, &p.model), SQ_OK);
    assert_int_equal(sq_config_set_defaults(&p.config), SQ_OK);
    assert_int_equal(sq_layers_resolve(p.model, &p.config, &p.layers), SQ_OK);
    p.request = (struct sq_memory_request){.traits = &sq_cpu_traits,
                                           .spread_from = SQ_FACTOR_ALONE,
                                           .model = p.model,
                                           .layers = &p.layers,
                                           .config = &p.config,
                                           .compute = SQ_F32,
                                           .n_samples = 10,
                                           .length = 1000,
                                           .n_job_samples = 10,
                                           .n_workers = 3};
    *state = &p;
    return 0;
}

static int tear_down(void **state)
{
    struct planned *p = *state;
    sq_layers_release(&p->layers);
    sq_config_release(&p->config);
    sq_model_close(p->model);
    sq_checkpoint_close(p->checkpoint);
    return 0;
}

static struct sq_memory_plan plan_for(const struct sq_memory_request *request)
{
    struct sq_memory_plan plan;
    assert_int_equal(sq_memory_plan_make(request, &plan), SQ_OK);
    int64_t sum = 0;
    for (int kind = 0; kind < SQ_N_MEMORY; kind++) {
        sum += plan.backend[kind];
        assert_int_equal(plan.host[kind], 0);
    }
    assert_int_equal(plan.resident, sum);
    return plan;
}

/* Every rank has the ids of all samples, but the activations of its own only. */
static void test_tokens_of_all_ranks(void **state)
{
    struct planned *p = *state;
    struct sq_memory_plan alone = plan_for(&p->request);
    p->request.n_job_samples = 40;
    assert_int_equal(plan_for(&p->request).resident - alone.resident, 30 * 1000 * 4);
    struct sq_memory_plan shared = plan_for(&p->request);
    assert_int_equal(shared.backend[SQ_MEMORY_TOKENS], 40 * 1000 * 4);
    assert_int_equal(shared.backend[SQ_MEMORY_ACTIVATIONS], alone.backend[SQ_MEMORY_ACTIVATIONS]);
    p->request.n_samples = p->request.n_job_samples = 10;
}

/* OBQ: two n x n matrices in f64 and one in f32, for each worker. */
static void test_obq_workspace(void **state)
{
    struct planned *p = *state;
    struct sq_memory_plan gptq = plan_for(&p->request);
    int64_t n = sq_memory_widest_input(p->model, &p->layers), workspace = 3 * 20 * n * n;
    p->config.solver = SQ_SOLVER_OBQ;
    int64_t more = plan_for(&p->request).resident - gptq.resident;
    p->config.solver = SQ_SOLVER_GPTQ;
    assert_true(more > workspace && more < workspace + 3 * 500 * n);
}

/* On a device what the host has does not count against its limit. */
static void test_device(void **state)
{
    struct planned *p = *state;
    struct sq_memory_request request = p->request;
    struct sq_memory_plan plan;
    request.traits = &sq_cuda_traits;
    assert_true(sq_memory_plan_count(&request, &plan));
    int64_t on_device = plan.resident;
    assert_int_equal(plan.backend[SQ_MEMORY_TOKENS], 0);
    assert_int_equal(plan.host[SQ_MEMORY_TOKENS], 10 * 1000 * 4);
    assert_true(plan.resident_host > 0);
    assert_true(plan.start > 0);
    on_device += plan.start; /* there is room for what embedding takes, too */
    request.limit = on_device;
    assert_true(sq_memory_plan_count(&request, &plan));
    int64_t ahead = plan.ahead, on_host = plan.resident_host;
    assert_true(ahead > 0);
    request.limit = on_device - SQ_ALIGNMENT; /* less is read ahead */
    assert_true(sq_memory_plan_count(&request, &plan));
    assert_int_equal(plan.ahead, ahead - SQ_ALIGNMENT);
    assert_int_equal(plan.resident_host, on_host);
    request.limit = on_device - ahead; /* nothing is, and the host needs no room for it */
    assert_true(sq_memory_plan_count(&request, &plan));
    assert_int_equal(plan.ahead, 0);
    assert_true(plan.resident_host < on_host);
    assert_int_equal(plan.n_workers, 3);
    request.limit--; /* one worker less is enough for that */
    assert_true(sq_memory_plan_count(&request, &plan));
    assert_int_equal(plan.n_workers, 2);
    request.traits = &sq_cpu_traits;
    request.limit = plan_for(&p->request).resident - 1;
    assert_true(sq_memory_plan_count(&request, &plan));
    assert_int_equal(plan.place, SQ_ACTIVATIONS_IN_FILE);
}

/* Where the forward pass takes the checkpoint's own weights, those of whole groups are on their way: as many as fit. */
static void test_groups_ahead(void **state)
{
    struct planned *p = *state;
    struct sq_memory_request request = p->request;
    struct sq_memory_plan two, plan;
    request.traits = &sq_cuda_traits;
    request.n_ranks = 2;
    p->config.propagation = SQ_PROPAGATION_ORIGINAL;
    assert_true(sq_memory_plan_count(&request, &two) && two.groups_ahead == 2);
    int64_t needed = two.resident + two.start - two.ahead, group = two.ahead / 2;
    request.limit = needed + two.ahead - 1;
    assert_true(sq_memory_plan_count(&request, &plan) && plan.groups_ahead == 1 && plan.ahead == group);
    assert_int_equal(plan.backend[SQ_MEMORY_WEIGHTS], two.backend[SQ_MEMORY_WEIGHTS] - group);
    assert_int_equal(plan.resident_host, two.resident_host);
    request.limit = needed + group - 1;
    assert_true(sq_memory_plan_count(&request, &plan) && plan.groups_ahead == 0 && plan.ahead == 0);
    assert_int_equal(plan.n_workers, two.n_workers);
    assert_true(plan.resident_host < two.resident_host);
    request.limit = 0;
    request.n_ranks = 1; /* there is nothing to gather */
    assert_true(sq_memory_plan_count(&request, &plan) && plan.groups_ahead == 1 && plan.ahead == group);
    p->config.propagation = SQ_PROPAGATION_QUANTIZED;
    assert_true(sq_memory_plan_count(&request, &plan) && plan.groups_ahead == 0);
}

/* What the job must have of a device; the plan may have more for the Hessian, and for weights that are read ahead. */
static int64_t least_bytes(const struct sq_memory_request *request, const struct sq_memory_plan *plan)
{
    const struct sq_hessian_rooms least = {plan->rooms.bytes, plan->rooms.count > 0, 0};
    const struct sq_sizes *sizes = &request->traits->sizes;
    int64_t n = sq_memory_widest_input(request->model, request->layers);
    int64_t more =
        (int64_t)sq_hessian_bytes(sizes, n, &plan->rooms) - (int64_t)sq_hessian_bytes(sizes, n, &least) + plan->ahead;
    return plan->resident - more + plan->start;
}

/* The least that a device with activations on the host must have, one byte less, and one byte too little on the host;
 * `plan` is one with three workers. */
static void check_refused(const struct sq_memory_request *given, const struct sq_memory_plan *plan)
{
    struct sq_memory_request request = *given;
    struct sq_memory_plan least;
    struct capture capture;
    request.limit = least_bytes(given, plan);
    while (sq_memory_plan_count(&request, &least) && least.n_workers > 1)
        request.limit -= 64;
    request.limit = least_bytes(given, &least);
    assert_true(sq_memory_plan_count(&request, &least));
    assert_true(least.n_workers == 1 && least.place == SQ_ACTIVATIONS_ON_HOST && least.ahead == 0);
    assert_true(least.rooms.count == 1 && least.resident + least.start == request.limit);
    request.host_limit = least.resident_host;
    assert_int_equal(sq_memory_plan_make(&request, &least), SQ_OK);
    request.host_limit--;
    capture_start(&capture);
    assert_int_equal(sq_memory_plan_make(&request, &least), SQ_ERR_USAGE);
    assert_true(capture_is_one_error(capture_stop(&capture),
                                     (const char *const[4]){" B of the host but may take ", " B: ", "activations "}));
    request.host_limit = 0;
    request.limit--;
    capture_start(&capture);
    assert_int_equal(sq_memory_plan_make(&request, &least), SQ_ERR_USAGE);
    assert_true(capture_is_one_error(capture_stop(&capture),
                                     (const char *const[4]){"a rank needs ", "activations 0 B (already on the host)"}));
}

/* Activations that do not fit a device beside one worker are on the host, from where each worker gets its sample's; as
 * many workers as fit then. */
static void test_activations_on_the_host(void **state)
{
    struct planned *p = *state;
    struct sq_memory_request request = p->request;
    struct sq_memory_plan plan, there;
    request.traits = &sq_cuda_traits;
    request.n_job_samples = 40;
    request.n_samples = 30;
    request.n_workers = 1;
    assert_true(sq_memory_plan_count(&request, &there));
    request.n_workers = 3;
    request.limit = there.resident - there.ahead + there.start;
    assert_true(sq_memory_plan_count(&request, &plan));
    assert_int_equal(plan.n_workers, 1);
    assert_int_equal(plan.place, SQ_ACTIVATIONS_NEAR);
    assert_int_equal(plan.resident, there.resident - there.ahead);
    request.limit--;
    assert_true(sq_memory_plan_count(&request, &plan));
    assert_int_equal(plan.n_workers, 3);
    assert_int_equal(plan.place, SQ_ACTIVATIONS_ON_HOST);
    assert_int_equal(plan.backend[SQ_MEMORY_ACTIVATIONS], 0);
    assert_int_equal(plan.host[SQ_MEMORY_ACTIVATIONS], there.backend[SQ_MEMORY_ACTIVATIONS]);
    /* a piece of inputs is a shard of the samples: 3 of 40 in 16 shards */
    int64_t piece = sq_cuda_traits.sizes.hessian_tokens < 3000 ? sq_cuda_traits.sizes.hessian_tokens : 3000;
    int64_t widest = sq_memory_widest_input(p->model, &p->layers), bytes = (int64_t)plan.rooms.bytes;
    assert_true(bytes >= piece * widest * (int64_t)sizeof(float) && bytes % piece == 0);
    const struct sq_hessian_rooms none = {0};
    int64_t more = (int64_t)sq_hessian_bytes(&sq_cuda_traits.sizes, widest, &plan.rooms) -
                   (int64_t)sq_hessian_bytes(&sq_cuda_traits.sizes, widest, &none);
    assert_int_equal(plan.backend[SQ_MEMORY_HESSIAN], there.backend[SQ_MEMORY_HESSIAN] + more);
    request.n_workers = 1;
    assert_true(sq_memory_plan_count(&request, &there) && there.place == SQ_ACTIVATIONS_ON_HOST);
    assert_int_equal(there.rooms.count, SQ_LANES); /* what two workers leave is enough for another room */
    request.n_workers = 3;
    check_refused(&request, &plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tokens_of_all_ranks),
        cmocka_unit_test(test_obq_workspace),
        cmocka_unit_test(test_device),
        cmocka_unit_test(test_groups_ahead),
        cmocka_unit_test(test_activations_on_the_host),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
