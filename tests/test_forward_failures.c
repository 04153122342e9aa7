/* The forward pass when something is wrong: numbers, samples, places, memory. */
#define _GNU_SOURCE /* mkdtemp */
#include "forward_fixture.h"

#include <math.h>

#include "base/memory.h"
#include "model/forward_private.h"

/* This rank has printed one line with `part`, and the others nothing. */
static bool is_error_of(int rank, const char *text, const char *part)
{
    return ranks.comm.rank == rank ? capture_is_one_error(text, (const char *const[4]){part}) : *text == '\0';
}

static void test_no_number_is_refused_where_it_appears(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        struct pass p;
        open_forward("opt", &p);
        set_hidden(&p, 1, 7, bad[i]);
        capture_start(&ranks.capture);
        CHECK(sq_forward_agree(p.forward, &ranks.comm, sq_forward_to_group(p.forward, 0)) == SQ_ERR_NUMERIC);
        CHECK(is_error_of(0, capture_stop(&ranks.capture), "block 1/2: the input of self_attn.q_proj of sample 1 is"));
        close_forward(&p);
    }
    ranks_end_test();
}

/* 3e38 squared: finite weights and states, an infinite product. */
static void test_overflow_in_a_block_is_refused(void **state)
{
    (void)state;
    struct pass p;
    open_forward("opt", &p);
    CHECK(sq_forward_to_group(p.forward, 0) == SQ_OK);
    for (int member = 0; member < 3; member++) {
        struct sq_matrix weight = sq_forward_linear_weight(p.forward, member);
        size_t count = (size_t)(weight.rows * weight.cols);
        float *huge = malloc(count * sizeof *huge);
        for (size_t i = 0; i < count; i++)
            huge[i] = 3e38f;
        CHECK(p.backend->ops->upload(p.backend, huge, count * sizeof *huge, weight.data) == SQ_OK);
        free(huge);
    }
    capture_start(&ranks.capture);
    CHECK(sq_forward_agree(p.forward, &ranks.comm, sq_forward_to_group(p.forward, 1)) == SQ_ERR_NUMERIC);
    CHECK(is_error_of(0, capture_stop(&ranks.capture), "block 1/2: the input of self_attn.out_proj of sample 0 is"));
    close_forward(&p);
    ranks_end_test();
}

/* The first block's groups before this one, with their weights. */
static void run_groups(struct pass *p, int n_groups)
{
    for (int group = 0; group < n_groups; group++) {
        int first, count = sq_model_group_linears(p->opened.model, 0, group, &first);
        CHECK(sq_forward_to_group(p->forward, group) == SQ_OK);
        for (int member = 0; member < count; member++)
            CHECK(sq_forward_load_linear(p->forward, &ranks.comm, member) == SQ_OK);
    }
}

/* A router whose scores are no numbers would still choose experts. */
static void test_routing_scores_that_are_no_numbers_are_refused(void **state)
{
    (void)state;
    struct pass p;
    open_forward("olmoe", &p);
    const struct sq_section *section = sq_model_section(p.opened.model, 0);
    const struct sq_step *steps = section->steps;
    int step = 0, group = 0, first = 0;
    while (steps[step].kind != SQ_STEP_ROUTE)
        step++;
    while (!sq_model_is_expert_group(p.opened.model, 0, group))
        group += sq_model_step_groups(p.opened.model, 0, group, &first);
    const struct sq_parameter *router = sq_section_parameter(section, step, 0, false);
    float *huge = malloc((size_t)router->length * sizeof *huge);
    for (int64_t i = 0; i < router->length; i++)
        huge[i] = i % 2 ? 3e38f : -3e38f;
    CHECK(p.backend->ops->upload(p.backend, huge, (size_t)router->length * sizeof *huge,
                                 p.forward->parameters + router->offset) == SQ_OK);
    free(huge);
    run_groups(&p, group);
    capture_start(&ranks.capture);
    CHECK(sq_forward_agree(p.forward, &ranks.comm, sq_forward_to_group(p.forward, group)) == SQ_ERR_NUMERIC);
    CHECK(
        is_error_of(0, capture_stop(&ranks.capture), "block 1/2: the input or a routing score of mlp.experts.#.gate"));
    close_forward(&p);
    ranks_end_test();
}

/* The last rank alone has a bad sample; the others hear of it, and its number is the one among all samples. */
static void test_sample_is_named_by_its_place_in_the_job(void **state)
{
    (void)state;
    struct pass p;
    open_forward("opt", &p);
    int last = ranks.comm.size - 1;
    run_groups(&p, sq_model_n_groups(p.opened.model, 0));
    if (ranks.comm.rank == last) set_hidden(&p, 1, 0, NAN);
    char text[128];
    snprintf(text, sizeof text, "block 1/2: the residual stream after its last step of sample %lld is",
             (long long)(last * p.opened.golden.n_samples + 1));
    capture_start(&ranks.capture);
    CHECK(sq_forward_agree(p.forward, &ranks.comm, sq_forward_finish_block(p.forward)) == SQ_ERR_NUMERIC);
    CHECK(is_error_of(last, capture_stop(&ranks.capture), text));
    close_forward(&p);
    ranks_end_test();
}

static void test_failure_in_the_final_norm(void **state)
{
    (void)state;
    struct pass p;
    open_forward("opt", &p);
    CHECK(sq_forward_load_block(p.forward, &ranks.comm, sq_model_n_blocks(p.opened.model)) == SQ_OK);
    set_hidden(&p, 0, 0, INFINITY);
    capture_start(&ranks.capture);
    CHECK(sq_forward_agree(p.forward, &ranks.comm, sq_forward_to_group(p.forward, 0)) == SQ_ERR_NUMERIC);
    CHECK(is_error_of(0, capture_stop(&ranks.capture), "after the last block: the final norm of sample 0 is"));
    close_forward(&p);
    ranks_end_test();
}

/* Another status passes through: who met it has said so already. */
static void test_agreement_says_nothing_of_other_failures(void **state)
{
    (void)state;
    struct pass p;
    open_forward("opt", &p);
    enum sq_status mine = ranks.comm.rank == ranks.comm.size - 1 ? SQ_ERR_MEMORY : SQ_OK;
    capture_start(&ranks.capture);
    CHECK(sq_forward_agree(p.forward, &ranks.comm, SQ_OK) == SQ_OK);
    CHECK(sq_forward_agree(p.forward, &ranks.comm, mine) == SQ_ERR_MEMORY);
    CHECK(*capture_stop(&ranks.capture) == '\0');
    close_forward(&p);
    ranks_end_test();
}

static void test_too_long_samples_are_refused(void **state)
{
    (void)state;
    struct pass p;
    open_forward("opt", &p);
    struct sq_forward *forward = NULL;
    struct sq_forward_options options = {.compute = SQ_F32, .length = sq_model_max_length(p.opened.model) + 1};
    capture_start(&ranks.capture);
    CHECK(sq_forward_create(p.backend, p.opened.model, &options, &forward) == SQ_ERR_INPUT && !forward);
    CHECK(capture_is_one_error(capture_stop(&ranks.capture), (const char *const[4]){"64", "65"}));
    close_forward(&p);
    ranks_end_test();
}

/* A device takes the host's memory. */
static void test_folder_that_is_not_there(void **state)
{
    (void)state;
    if (!backend_in_host_memory()) skip();
    struct pass p;
    open_forward("opt", &p);
    struct sq_forward *forward = NULL;
    struct sq_forward_options options = {.compute = SQ_F32,
                                         .n_samples = 1,
                                         .length = 8,
                                         .place = SQ_ACTIVATIONS_IN_FILE,
                                         .folder = "/nonexistent/folder"};
    capture_start(&ranks.capture);
    CHECK(sq_forward_create(p.backend, p.opened.model, &options, &forward) == SQ_ERR_IO && !forward);
    CHECK(capture_is_one_error(capture_stop(&ranks.capture), (const char *const[4]){"/nonexistent/folder"}));
    close_forward(&p);
    ranks_end_test();
}

/* Creation with the n-th allocation failing, for n = 1, 2, 3 ... until it passes: an error each time, nothing leaked
 * (the sanitizers look). */
static void test_running_out_of_memory(void **state)
{
    (void)state;
    struct pass p;
    open_forward("llama", &p);
    struct sq_forward_options options = {.compute = SQ_F32, .n_samples = 1, .length = 8};
    enum sq_status status = SQ_ERR_MEMORY;
    capture_start(&ranks.capture);
    int n = 0;
    while (status == SQ_ERR_MEMORY && n < 100) {
        struct sq_forward *forward = NULL;
        sq_memory_fail_at(++n);
        status = sq_forward_create(p.backend, p.opened.model, &options, &forward);
        sq_memory_fail_at(0);
        sq_forward_destroy(forward);
    }
    capture_stop(&ranks.capture);
    CHECK(status == SQ_OK && n > (backend_in_host_memory() ? 5 : 2));
    close_forward(&p);
    ranks_end_test();
}

/* The last rank's n-th allocation failing while weights are on their way, until none does: every rank knows of each. */
static void test_running_out_of_memory_on_the_way(void **state)
{
    (void)state;
    if (!backend_in_host_memory()) skip(); /* minutes */
    struct pass p;
    open_forward("llama", &p);
    struct sq_forward *forward;
    struct sq_forward_options options = {.compute = SQ_F32,
                                         .n_samples = p.opened.golden.n_samples,
                                         .length = p.opened.golden.length,
                                         .groups_ahead = SQ_FORWARD_AHEAD};
    CHECK(sq_forward_create(p.backend, p.opened.model, &options, &forward) == SQ_OK);
    enum sq_status status = SQ_ERR_MEMORY;
    int n = 0;
    capture_start(&ranks.capture);
    while (status == SQ_ERR_MEMORY && n < 1000) {
        CHECK(sq_forward_embed(forward, &ranks.comm, p.opened.golden.ids) == SQ_OK);
        n++;
        if (ranks.comm.rank == ranks.comm.size - 1) sq_memory_fail_at(n);
        status = sq_forward_run_blocks(forward, &ranks.comm, 0);
        sq_memory_fail_at(0);
    }
    capture_stop(&ranks.capture);
    CHECK(status == SQ_OK && n > 5);
    sq_forward_destroy(forward);
    close_forward(&p);
    ranks_end_test();
}

static int run(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_number_is_refused_where_it_appears),
        cmocka_unit_test(test_overflow_in_a_block_is_refused),
        cmocka_unit_test(test_routing_scores_that_are_no_numbers_are_refused),
        cmocka_unit_test(test_sample_is_named_by_its_place_in_the_job),
        cmocka_unit_test(test_failure_in_the_final_norm),
        cmocka_unit_test(test_agreement_says_nothing_of_other_failures),
        cmocka_unit_test(test_too_long_samples_are_refused),
        cmocka_unit_test(test_folder_that_is_not_there),
        cmocka_unit_test(test_running_out_of_memory),
        cmocka_unit_test(test_running_out_of_memory_on_the_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    return ranks_main(&argc, &argv, run);
}
