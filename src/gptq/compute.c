#include "gptq/compute.h"

#include "base/log.h"

enum sq_status sq_compute_choose(const struct sq_comm *comm, const struct sq_backend *backend, enum sq_compute wanted,
                                 enum sq_dtype *compute_p)
{
    int64_t lacks[] = {!backend->has_bf16, !backend->bf16_is_faster};
    SQ_TRY(sq_comm_max_i64(comm, lacks, 2));
    if (wanted == SQ_COMPUTE_BF16 && lacks[0]) {
        if (comm->rank == 0) sq_error("--compute bf16: not every rank's processor has bf16 arithmetic (AVX-512 BF16)");
        return SQ_ERR_USAGE;
    }
    *compute_p = sq_compute_of(wanted, !lacks[1]);
    return SQ_OK;
}
