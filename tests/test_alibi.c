/* ALiBi's slopes against the recursion of its authors. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "model/alibi.h"

/* For a power of two a geometric series that begins with its own ratio. */
static double of_power(int64_t n, int64_t h)
{
    return pow(pow(2, -pow(2, -(log2((double)n) - 3))), (double)(h + 1));
}

static double expected_slope(int64_t n, int64_t h)
{
    int64_t power = (int64_t)exp2(floor(log2((double)n)));
    return h < power ? of_power(power, h) : of_power(2 * power, 2 * (h - power));
}

static void test_slopes(void **state)
{
    (void)state;
    static const int64_t counts[] = {1, 2, 3, 6, 8, 16, 25, 112};
    for (int c = 0; c < 8; c++) {
        float slopes[112];
        sq_alibi_fill(counts[c], slopes);
        for (int64_t h = 0; h < counts[c]; h++)
            assert_true(fabs((double)slopes[h] - expected_slope(counts[c], h)) <= 1e-7 * (double)slopes[h]);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {cmocka_unit_test(test_slopes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
