/* Rates of ranks that are not alike: what becomes of them holds for all. */
#define _GNU_SOURCE
#include "gptq/bench_private.h"
#include "ranks.h"

#include <math.h>

static bool is_near(double a, double b)
{
    return fabs(a - b) <= 1e-12 * fabs(b); /* a few roundings */
}

/* Rank r has 100 / (r + 1) a second, and halves that fall from rank to rank: at the smallest sizes another rank may be
 * the slowest than at the largest. */
static struct sq_rates rates_of(int rank)
{
    struct sq_rates rates = {.operation_seconds = 1e-6 * (5 - rank), .parallel_seconds = 1e-6 * (rank + 1)};
    rates.of[SQ_WORK_F32] = (struct sq_rate){100.0 / (rank + 1), 10.0 / (1 << 2 * rank)};
    rates.of[SQ_WORK_MATH] = (struct sq_rate){1e9, 0};
    return rates; /* of the others nothing was measured */
}

static double unit_seconds(const struct sq_rate *rate, double size)
{
    return (1 + rate->half / size) / rate->per_second;
}

static void test_slowest(void **state)
{
    (void)state;
    struct sq_rates own = rates_of(ranks.comm.rank), rates = own;
    CHECK(sq_bench_take_slowest(&ranks.comm, &rates) == SQ_OK);
    const struct sq_rate *f32 = &rates.of[SQ_WORK_F32];
    CHECK(is_near(f32->per_second, 100.0 / ranks.comm.size)); /* the last rank's */
    CHECK(is_near(f32->half / f32->per_second, 0.1));         /* the first one's */
    for (double size = 1; size < 1e6; size *= 10)
        CHECK(unit_seconds(f32, size) >= (1 - 1e-12) * unit_seconds(&own.of[SQ_WORK_F32], size));
    CHECK(is_near(rates.of[SQ_WORK_MATH].per_second, 1e9) && rates.of[SQ_WORK_MATH].half == 0);
    CHECK(rates.of[SQ_WORK_BF16].per_second == 0 && rates.of[SQ_WORK_BF16].half == 0);
    CHECK(is_near(rates.operation_seconds, 5e-6) && is_near(rates.parallel_seconds, 1e-6 * ranks.comm.size));
    ranks_end_test();
}

static int run(void)
{
    static const struct CMUnitTest tests[] = {cmocka_unit_test(test_slowest)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    return ranks_main(&argc, &argv, run);
}
