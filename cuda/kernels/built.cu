/* For which devices the kernels were compiled. */
#include "cuda/kernels/device.cuh"
#include "cuda/kernels/kernels.h"

static constexpr int capabilities[] = {__CUDA_ARCH_LIST__}; // times 100, ascending
static_assert(capabilities[0] >= 800, "from sm_80 on products take bf16 at full speed, as the backend says of all");

int sq_kernels_lowest_capability(void)
{
    return capabilities[0] / 10;
}
