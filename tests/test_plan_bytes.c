/* What a plan says of memory and of bytes sent, beside what a job really takes and sends: exactly the same. */
#define _GNU_SOURCE
#include <hdf5.h>

#include "base/memory.h"
#include "golden.h"
#include "gptq/memory_verify.h"
#include "gptq/run.h"
#include "gptq/simulate.h"
#include "gptq/verify.h"
#include "io/assemble.h"
#include "ranks.h"

#define SAMPLES 9
#define LENGTH 24

/* Texts with which memory of a kind is asked for. */
static const struct {
    enum sq_memory_kind kind;
    const char *what;
} users[] = {
    {SQ_MEMORY_WEIGHTS, "a group's weights"},
    {SQ_MEMORY_WEIGHTS, "norms and biases"},
    {SQ_MEMORY_ACTIVATIONS, "activations"},
    {SQ_MEMORY_HESSIAN, "the Hessian's workspace"},
    {SQ_MEMORY_HESSIAN, "a Hessian"},
    {SQ_MEMORY_FACTOR, "a factor"},
    {SQ_MEMORY_FACTOR, "pivots"},
    {SQ_MEMORY_FACTOR, "the order"},
    {SQ_MEMORY_FACTOR, "dead inputs"},
    {SQ_MEMORY_FACTOR, "columns of a factor"},
    {SQ_MEMORY_WORKSPACE, "workers' rooms"},
    {SQ_MEMORY_WORKSPACE, "the forward pass's scratch"},
    {SQ_MEMORY_WORKSPACE, "rows read from a file"},
    {SQ_MEMORY_WORKSPACE, "marks of samples"},
    {SQ_MEMORY_WORKSPACE, "rotary angles"},
    {SQ_MEMORY_WORKSPACE, "slopes of heads"},
    {SQ_MEMORY_WORKSPACE, "rows of a group of linears"},
    {SQ_MEMORY_WORKSPACE, "the solver's scratch"},
    {SQ_MEMORY_WORKSPACE, "rows to verify"},
    {SQ_MEMORY_WORKSPACE, "figures of rows"},
    {SQ_MEMORY_TOKENS, "tokens"},
};

/* Makes the token file. Rank 0 alone; all may call. */
static void make_tokens(const char *path, int64_t vocab)
{
    int32_t ids[SAMPLES * LENGTH];
    const hsize_t dims[2] = {SAMPLES, LENGTH};
    for (int i = 0; i < SAMPLES * LENGTH; i++)
        ids[i] = (int32_t)((i * 7919 + i * i % 31) % vocab);
    if (ranks.comm.rank == 0) {
        hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), space = H5Screate_simple(2, dims, NULL);
        hid_t data = H5Dcreate2(file, "tokens", H5T_STD_I32LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
        H5Dwrite(data, H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, ids);
        H5Dclose(data);
        H5Sclose(space);
        H5Fclose(file);
    }
    ranks_barrier();
}

/* A job on a golden model, and the plan of this rank. */
struct planned {
    struct sq_config config;
    struct sq_traffic traffic;
    struct sq_comm world;
    struct sq_job *job;
    struct sq_memory_request request;
};

static bool open_job_on(enum sq_backend_choice backend, const char *name, struct planned *p)
{
    struct golden golden = golden_find(name);
    char path[1024], store[1024];
    make_tokens(ranks_file("tokens.h5", path), golden.vocab);
    ranks_file("store.h5", store);
    if (!CHECK(sq_string_copy(golden.folder, &p->config.model) == SQ_OK)) return false;
    if (!CHECK(sq_string_copy(path, &p->config.tokens) == SQ_OK)) return false;
    if (!CHECK(sq_string_copy(store, &p->config.store) == SQ_OK)) return false;
    golden_release(&golden);
    p->config.backend = backend;
    p->config.threads = 2;
    p->config.assemble = false;
    p->world = ranks.comm;
    p->world.traffic = &p->traffic;
    return CHECK(sq_job_open(&p->config, &p->world, &p->job) == SQ_OK);
}

static bool open_job(const char *name, struct planned *p)
{
    return open_job_on(SQ_BACKEND_CPU, name, p);
}

static void make_request(struct planned *p, int64_t n_samples)
{
    p->request = (struct sq_memory_request){.model = p->job->model,
                                            .layers = &p->job->layers,
                                            .config = &p->config,
                                            .compute = p->job->compute,
                                            .n_samples = n_samples,
                                            .length = LENGTH,
                                            .n_job_samples = SAMPLES,
                                            .n_ranks = ranks.comm.size,
                                            .n_workers = 2,
                                            .traits = p->job->backend->traits,
                                            .spread_from = p->job->factor.spread_from,
                                            .limit = p->config.memory_bytes};
}

static void check_kinds(const struct sq_memory_plan *plan)
{
    int64_t taken[SQ_N_MEMORY] = {0};
    for (size_t i = 0; i < sizeof users / sizeof *users; i++)
        taken[users[i].kind] += sq_memory_use_of(users[i].what).bytes;
    taken[SQ_MEMORY_EXPERTS] = plan->backend[SQ_MEMORY_EXPERTS]; /* when tokens have come to them: check_experts() */
    for (int kind = 0; kind < SQ_N_MEMORY; kind++)
        if (!CHECK(taken[kind] == plan->backend[kind]))
            printf("    %s: taken %lld, planned %lld\n", sq_memory_kind_name((enum sq_memory_kind)kind),
                   (long long)taken[kind], (long long)plan->backend[kind]);
}

/* After a run: at most what was planned, as the router may send any number of tokens to one expert. */
static void check_experts(const struct sq_memory_plan *plan)
{
    static const char *const parts[] = {"tokens by expert",    "the experts' scratch", "the tokens of an expert",
                                        "tokens on their way", "tokens of experts",    "tokens by score"};
    int64_t taken = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        taken += sq_memory_use_of(parts[i]).peak;
    if (!CHECK(taken <= plan->backend[SQ_MEMORY_EXPERTS] && (taken > 0) == (plan->backend[SQ_MEMORY_EXPERTS] > 0)))
        printf("    experts: taken %lld, planned %lld\n", (long long)taken,
               (long long)plan->backend[SQ_MEMORY_EXPERTS]);
}

#define SMALL 262144 /* bytes: diagonals, counts of a gather, strings, what HDF5's wrappers have in hand */

static void check_peak(const struct sq_memory_plan *plan, int64_t before)
{
    int64_t more = sq_memory_use_of(NULL).peak - before;
    if (!CHECK(more >= plan->start && more < plan->start + SMALL))
        printf("    beside what stays: %lld, planned %lld\n", (long long)more, (long long)plan->start);
}

/* Of the rank that sends most often: with propagation `original` other teams may have less to do. */
static struct sq_traffic busiest(const struct planned *p)
{
    struct sq_traffic traffic = p->traffic;
    if (p->config.propagation == SQ_PROPAGATION_QUANTIZED) return traffic;
    if (sq_comm_max_i64(&ranks.comm, traffic.calls, SQ_N_TRAFFIC) != SQ_OK) abort();
    if (sq_comm_max_i64(&ranks.comm, traffic.bytes, SQ_N_TRAFFIC) != SQ_OK) abort();
    return traffic;
}

static bool simulate(const struct planned *p, struct sq_simulation *simulation_p)
{
    struct sq_machine machine = {.ranks_per_node = 1};
    struct sq_memory_plan memory;
    for (int i = 0; i < SQ_N_WORK; i++)
        machine.rates.of[i].per_second = 1e9;
    machine.node_read = machine.node_write = 1e9;
    sq_memory_plan_count(&p->request, &memory);
    return CHECK(sq_simulate(&p->request, &memory, &machine, ranks.comm.size, simulation_p) == SQ_OK);
}

static void check_traffic(const struct planned *p)
{
    static const char *const names[SQ_N_TRAFFIC] = {"agree", "sum",    "reduce",  "broadcast", "gather",
                                                    "shift", "memory", "weights", "exchange"};
    struct sq_simulation simulation;
    const struct sq_traffic all = busiest(p), *real = &all;
    if (!simulate(p, &simulation)) return;
    for (int k = 0; k < SQ_N_TRAFFIC; k++) {
        const struct sq_traffic *planned = &simulation.traffic;
        bool has_experts = sq_model_n_experts(p->job->model, 0) > 0;
        if (!CHECK(real->calls[k] == planned->calls[k] && (has_experts || real->bytes[k] == planned->bytes[k])))
            printf("    %s: %lld calls of %lld bytes, planned %lld of %lld\n", names[k], (long long)real->calls[k],
                   (long long)real->bytes[k], (long long)planned->calls[k], (long long)planned->bytes[k]);
    }
}

static void close_job(struct planned *p, enum sq_status status)
{
    sq_job_close(p->job, status);
    sq_config_release(&p->config);
    ranks_barrier();
    char path[1024];
    if (ranks.comm.rank == 0) remove(ranks_file("store.h5", path));
    ranks_end_test();
}

static void check_job(const char *name, enum sq_propagation propagation, const char *skip)
{
    struct planned p = {.traffic = {.is_dry = false}};
    struct sq_memory_plan plan;
    CHECK(sq_config_set_defaults(&p.config) == SQ_OK);
    p.config.propagation = propagation;
    if (skip) CHECK(sq_config_read_yaml("test", skip, strlen(skip), &p.config) == SQ_OK);
    if (!open_job(name, &p)) return;
    make_request(&p, p.job->shards.samples.count);
    sq_memory_plan_count(&p.request, &plan);
    if (propagation == SQ_PROPAGATION_QUANTIZED) check_kinds(&plan);
    int64_t before = sq_memory_use_of(NULL).bytes;
    sq_memory_forget_peaks();
    p.traffic = (struct sq_traffic){.is_dry = false};
    enum sq_status status = sq_run(p.job);
    CHECK(status == SQ_OK);
    check_experts(&plan);
    if (propagation == SQ_PROPAGATION_QUANTIZED) check_peak(&plan, before);
    make_request(&p, sq_shards_largest(SAMPLES, p.config.shards, ranks.comm.size).samples.count);
    check_traffic(&p);
    close_job(&p, status);
}

static void test_llama(void **state)
{
    (void)state;
    check_job("llama", SQ_PROPAGATION_QUANTIZED, NULL);
}

/* How often is known for experts, too; how much depends on where the router sends tokens. */
static void test_experts(void **state)
{
    (void)state;
    check_job("mixtral", SQ_PROPAGATION_QUANTIZED, NULL);
}

/* Experts get more tokens than the router sends, as many as there are by score, too, so that each of them wants some;
 * the router's once more for those that are solved, and alone for those that are left as they are. */
static void test_expert_policies(void **state)
{
    (void)state;
    check_job("mixtral", SQ_PROPAGATION_QUANTIZED, "experts: all\n");
    check_job("mixtral", SQ_PROPAGATION_QUANTIZED, "experts: top-up\nexpert_tokens: 216\n");
    check_job("mixtral", SQ_PROPAGATION_QUANTIZED,
              "experts: all\nlm_head: true\nrules: [{pattern: 'layers[.]1[.]', skip: true}]\n");
}

/* Positions are learned, and everything has a bias. */
static void test_opt(void **state)
{
    (void)state;
    check_job("opt", SQ_PROPAGATION_QUANTIZED, NULL);
}

/* Slopes instead of positions; a norm before the first block; a linear that is only loaded. */
static void test_bloom_with_rules(void **state)
{
    (void)state;
    check_job("bloom", SQ_PROPAGATION_QUANTIZED, "rules: [{pattern: dense_h_to_4h, skip: true}]\nrefine: 0\n");
}

/* Teams of ranks with a block each, which are all as large on one, two and four ranks. */
static void test_original(void **state)
{
    (void)state;
    if (ranks.comm.size == 3) skip();
    check_job("llama", SQ_PROPAGATION_ORIGINAL, NULL);
}

/* Every factorization is shared, in two columns of tiles at the widest. */
static void test_spread_factors(void **state)
{
    (void)state;
    check_job("llama_ffn172", SQ_PROPAGATION_QUANTIZED, "spread_factors: 1\n");
    check_job("mixtral", SQ_PROPAGATION_QUANTIZED, "spread_factors: 1\n");
}

/* In the one wave the first block has nothing to solve; then the last one, lm_head, alone in a wave. */
static void test_original_with_rules(void **state)
{
    (void)state;
    if (ranks.comm.size == 3) skip();
    check_job("llama", SQ_PROPAGATION_ORIGINAL, "rules: [{pattern: 'layers[.]0[.]', skip: true}]\n");
    check_job("opt_untied", SQ_PROPAGATION_ORIGINAL, "lm_head: true\nrules: [{pattern: layers, skip: true}]\n");
}

/* --- verify ------------------------------------------------------------------------------------------------------- */

/* Of a layer: all that verifying takes is there. */
static void check_layer(void *context, const char *layer, int64_t out_features, int64_t in_features, double error)
{
    (void)layer, (void)out_features, (void)in_features;
    CHECK(error > 0);
    check_kinds(context);
}

/* The job's checkpoint in `out`, and the plan of what verifying it takes; the job ends. */
static bool make_checkpoint(struct planned *p, const char *out, struct sq_memory_plan *plan_p)
{
    struct sq_assemble_options options;
    int64_t bytes;
    if (!CHECK(sq_string_copy(out, &p->config.out) == SQ_OK && sq_run(p->job) == SQ_OK)) return false;
    sq_assemble_options_set(&p->config, &p->config, p->job->store, &options);
    if (!CHECK(sq_assemble(p->job->world, p->job->checkpoint, p->job->store, &options, &bytes) == SQ_OK)) return false;
    make_request(p, p->job->shards.samples.count);
    CHECK(sq_memory_fit(&p->request, sq_memory_count_verify, plan_p));
    sq_job_close(p->job, SQ_OK);
    ranks_barrier();
    return CHECK(sq_string_copy(out, &p->config.checkpoint) == SQ_OK);
}

static void test_verify(void **state)
{
    (void)state;
    static const char *const names[] = {"llama", "mixtral"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct planned p = {.traffic = {.is_dry = false}};
        struct sq_memory_plan plan;
        struct folder out;
        char path[1024];
        snprintf(out.path, sizeof out.path, "%.500s", ranks_file("out", path));
        CHECK(sq_config_set_defaults(&p.config) == SQ_OK);
        if (!open_job(names[i], &p) || !make_checkpoint(&p, out.path, &plan)) return;
        sq_memory_forget_peaks();
        capture_start(&ranks.capture); /* of the record */
        CHECK(sq_verify(&p.config, &ranks.comm, check_layer, &plan) == SQ_OK);
        capture_stop(&ranks.capture);
        check_experts(&plan);
        sq_config_release(&p.config);
        ranks_barrier();
        if (ranks.comm.rank == 0) folder_remove(&out);
        if (ranks.comm.rank == 0) remove(ranks_file("store.h5", path));
        ranks_end_test();
    }
}

/* --- on a device ------------------------------------------------------------------------------------------------- */

/* Of CUDASIM_MEMORY bytes that each of the stand-in's devices has. */
static void check_device(const struct planned *p, const struct sq_memory_plan *plan)
{
    int64_t free_bytes = 0, planned = 0, all = atoll(getenv("CUDASIM_MEMORY"));
    for (int kind = 0; kind < SQ_N_MEMORY; kind++)
        planned += kind == SQ_MEMORY_EXPERTS ? 0 : plan->backend[kind]; /* those come later */
    if (p->config.propagation == SQ_PROPAGATION_ORIGINAL) planned -= sq_memory_block_hessians(p->job->model);
    CHECK(p->job->place.kind->free_bytes(p->job->backend, &free_bytes) == SQ_OK);
    int64_t taken = all - free_bytes - 2 * (int64_t)sq_cuda_traits.worker_bytes;
    if (!CHECK(taken == planned)) printf("    taken %lld, planned %lld\n", (long long)taken, (long long)planned);
}

/* What a plan must have come to. */
struct wanted {
    enum sq_propagation propagation;
    int64_t limit;
    bool on_host; /* activations */
    int groups_ahead;
};

/* A job with this limit; *least_p: what it would have to have with activations on the device and one worker. */
static void check_device_job(const char *name, const struct wanted *wanted, int64_t *least_p)
{
    struct planned p = {.traffic = {.is_dry = false}};
    struct sq_memory_plan plan;
    bool is_original = wanted->propagation == SQ_PROPAGATION_ORIGINAL;
    CHECK(sq_config_set_defaults(&p.config) == SQ_OK);
    p.config.propagation = wanted->propagation;
    p.config.memory_bytes = wanted->limit;
    if (!open_job_on(SQ_BACKEND_CUDA, name, &p)) return;
    int64_t n_samples = sq_shards_largest(SAMPLES, p.config.shards, ranks.comm.size).samples.count;
    make_request(&p, n_samples);
    CHECK(sq_memory_plan_count(&p.request, &plan) && (plan.place == SQ_ACTIVATIONS_ON_HOST) == wanted->on_host);
    CHECK(plan.place == p.job->memory.place && plan.resident == p.job->memory.resident);
    CHECK(plan.groups_ahead == wanted->groups_ahead && plan.groups_ahead == p.job->memory.groups_ahead);
    if (p.job->shards.samples.count == n_samples) check_device(&p, &plan);
    p.traffic = (struct sq_traffic){.is_dry = false};
    enum sq_status status = sq_run(p.job);
    CHECK(status == SQ_OK);
    /* between devices rows of the solve go as weights, by way of the host only their figures; lists of tokens, too */
    if (!CHECK(ranks.comm.size == 1 || sq_model_n_experts(p.job->model, 0) > 0 ||
               2 * p.traffic.bytes[SQ_TRAFFIC_GATHER] < p.traffic.bytes[SQ_TRAFFIC_WEIGHTS]))
        printf("    %s: %lld bytes through hosts, %lld between devices\n", name,
               (long long)p.traffic.bytes[SQ_TRAFFIC_GATHER], (long long)p.traffic.bytes[SQ_TRAFFIC_WEIGHTS]);
    bool do_tokens_travel = ranks.comm.size > 1 && sq_model_n_experts(p.job->model, 0) > 0;
    CHECK((p.traffic.calls[SQ_TRAFFIC_EXCHANGE] > 0) == do_tokens_travel && p.traffic.calls[SQ_TRAFFIC_SHIFT] == 0);
    if (ranks.comm.rank == 0 || is_original) check_traffic(&p); /* columns of a shared factor are not as many on all */
    p.request.n_workers = 1;
    CHECK(sq_memory_plan_count(&p.request, &plan));
    *least_p = plan.resident - plan.ahead + plan.start;
    close_job(&p, status);
}

/* First with room for everything, then with a byte less than activations take beside one worker. */
static void test_device(void **state)
{
    (void)state;
    static const char *const names[] = {"llama", "opt", "mixtral"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int64_t least, less;
        check_device_job(names[i], &(struct wanted){SQ_PROPAGATION_QUANTIZED, 0, false, 0}, &least);
        check_device_job(names[i], &(struct wanted){SQ_PROPAGATION_QUANTIZED, least - 1, true, 0}, &less);
    }
}

/* With room for weights of the groups to come, and without; teams as in test_original(). */
static void test_original_on_a_device(void **state)
{
    (void)state;
    static const char *const names[] = {"llama", "mixtral"};
    int groups_ahead = ranks.comm.size > 1 ? 2 : 1;
    if (ranks.comm.size == 3) skip();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int64_t least, same;
        check_device_job(names[i], &(struct wanted){SQ_PROPAGATION_ORIGINAL, 0, false, groups_ahead}, &least);
        check_device_job(names[i], &(struct wanted){SQ_PROPAGATION_ORIGINAL, least, false, 0}, &same);
        CHECK(same == least);
    }
}

/* Ranks that have one device together: tokens of experts go by way of the host. */
static void test_shared_device(void **state)
{
    (void)state;
    struct planned p = {.traffic = {.is_dry = false}};
    struct sq_simulation simulation = {.traffic = {.is_dry = false}};
    CHECK(sq_config_set_defaults(&p.config) == SQ_OK);
    p.config.share_device = true;
    if (!open_job_on(SQ_BACKEND_CUDA, "mixtral", &p)) return;
    make_request(&p, sq_shards_largest(SAMPLES, p.config.shards, ranks.comm.size).samples.count);
    enum sq_status status = sq_run(p.job);
    CHECK(status == SQ_OK && simulate(&p, &simulation));
    CHECK(p.traffic.calls[SQ_TRAFFIC_SHIFT] > 0 && p.traffic.calls[SQ_TRAFFIC_EXCHANGE] == 0);
    CHECK(p.traffic.calls[SQ_TRAFFIC_SHIFT] == simulation.traffic.calls[SQ_TRAFFIC_SHIFT]);
    CHECK(simulation.traffic.calls[SQ_TRAFFIC_EXCHANGE] == 0);
    close_job(&p, status);
}

static bool setting_is(const char *name, const char *wanted)
{
    const char *value = getenv(name);
    return value && !strcmp(value, wanted);
}

static int run(void)
{
    static const struct CMUnitTest device_tests[] = {cmocka_unit_test(test_device),
                                                     cmocka_unit_test(test_original_on_a_device)};
    static const struct CMUnitTest shared_tests[] = {cmocka_unit_test(test_shared_device)};
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llama),
        cmocka_unit_test(test_opt),
        cmocka_unit_test(test_experts),
        cmocka_unit_test(test_expert_policies),
        cmocka_unit_test(test_original),
        cmocka_unit_test(test_original_with_rules),
        cmocka_unit_test(test_bloom_with_rules),
        cmocka_unit_test(test_spread_factors),
        cmocka_unit_test(test_verify),
    };
    if (!setting_is("SHARDQ_TEST_BACKEND", "cuda")) return cmocka_run_group_tests(tests, NULL, NULL);
    return setting_is("CUDASIM_DEVICES", "1") ? cmocka_run_group_tests(shared_tests, NULL, NULL)
                                              : cmocka_run_group_tests(device_tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    return ranks_main(&argc, &argv, run);
}
