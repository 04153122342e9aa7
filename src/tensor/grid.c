#include "tensor/grid.h"

void sq_grid_dequantize(const struct sq_grid *grid, int64_t rows, int64_t in_features, const uint8_t *codes,
                        const float *scales, const uint8_t *zeros, float *weights)
{
    int64_t n_groups = sq_grid_n_groups(grid, in_features);
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t g = 0; g < n_groups; g++) {
            int64_t end = (g + 1) * grid->group_size < in_features ? (g + 1) * grid->group_size : in_features;
            float scale = scales[r * n_groups + g];
            int zero = zeros[r * n_groups + g];
            for (int64_t i = g * grid->group_size; i < end; i++)
                weights[r * in_features + i] = scale * (float)(codes[r * in_features + i] - zero);
        }
    }
}
