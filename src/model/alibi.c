#include "model/alibi.h"

#include <math.h>

void sq_alibi_fill(int64_t n_heads, float *slopes)
{
    int64_t power = 1;
    while (2 * power <= n_heads)
        power *= 2;
    for (int64_t h = 0; h < n_heads; h++) {
        double step = h < power ? (double)(h + 1) / (double)power : (double)(2 * (h - power) + 1) / (double)(2 * power);
        slopes[h] = (float)exp2(-8 * step);
    }
}
