/* Which arithmetic a job takes, where its ranks' processors differ. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "gptq/compute.h"
#include "ranks.h"
#include "tensor/cpu_isa.h"

enum { NONE, HAS_IT, FASTER }; /* what a processor's bf16 is */

/* What is chosen where rank 0 has `first` and all others `rest`; -1: refused, by one error of rank 0. */
static int chosen(int first, int rest, enum sq_compute wanted)
{
    int bf16 = ranks.comm.rank == 0 ? first : rest;
    struct sq_backend backend = {.has_bf16 = bf16 >= HAS_IT, .bf16_is_faster = bf16 == FASTER};
    enum sq_dtype compute;
    ranks_listen();
    enum sq_status status = sq_compute_choose(&ranks.comm, &backend, wanted, &compute);
    if (status == SQ_OK) {
        EXPECT_ERROR(-1, NULL);
        return (int)compute;
    }
    EXPECT_ERROR(0, "--compute bf16", NULL);
    CHECK(status == SQ_ERR_USAGE);
    return -1;
}

static void test_compute_of_a_job(void **state)
{
    (void)state;
    static const struct {
        int automatic, asked;
    } cases[] = {[NONE] = {SQ_F32, -1}, [HAS_IT] = {SQ_F32, SQ_BF16}, [FASTER] = {SQ_BF16, SQ_BF16}};
    for (int first = NONE; first <= FASTER; first++)
        for (int rest = NONE; rest <= FASTER; rest++) {
            int least = ranks.comm.size > 1 && rest < first ? rest : first;
            CHECK(chosen(first, rest, SQ_COMPUTE_AUTO) == cases[least].automatic);
            CHECK(chosen(first, rest, SQ_COMPUTE_BF16) == cases[least].asked);
            CHECK(chosen(first, rest, SQ_COMPUTE_FP32) == SQ_F32);
        }
    ranks_end_test();
}

/* What this processor says of itself: bf16 is not faster by instructions that do not have it. */
static void test_compute_of_this_processor(void **state)
{
    (void)state;
    struct sq_backend *backend;
    for (int isa = SQ_ISA_AVX512; isa <= SQ_ISA_GENERIC; isa++)
        CHECK(!sq_cpu_bf16_is_faster(isa));
    if (CHECK(sq_backend_create_cpu(1, SQ_ISA_BEST, &backend) == SQ_OK)) {
        CHECK(backend->has_bf16 || !backend->bf16_is_faster);
        backend->ops->destroy(backend);
    }
    ranks_end_test();
}

static int run(void)
{
    static const struct CMUnitTest tests[] = {cmocka_unit_test(test_compute_of_a_job),
                                              cmocka_unit_test(test_compute_of_this_processor)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    return ranks_main(&argc, &argv, run);
}
