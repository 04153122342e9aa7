/* Experts that lie fused in one tensor. */
#ifndef SQ_IO_FUSED_H
#define SQ_IO_FUSED_H

#include "base/status.h"
#include "io/checkpoint.h"

/* Puts a tensor for each expert in the place of P.experts.gate_up_proj [experts, 2 width, hidden] (gate, then up) and
 * P.experts.down_proj [experts, hidden, width]: P.experts.N.gate_proj.weight, .up_proj.weight, .down_proj.weight, views
 * of the same data. Of Mixtral they, and the routers, get the names of published checkpoints, which readers look for:
 * P.block_sparse_moe.experts.N.w1.weight, .w3.weight, .w2.weight. So everything above sees one layout. Scales of 8-bit
 * ones, P.experts.gate_up_proj_scale_inv or _scale [experts] or [experts, row blocks, column blocks], are taken apart
 * with them. Those with a bias beside them stay as they are, and so do all where the shapes of one are not of this
 * kind: that is said by sq_fused_check().
 *
 * GPT-OSS has weights with inputs before outputs, or blocks and scales of MXFP4 (io/mxfp4.h), and biases:
 *   P.experts.gate_up_proj [experts, hidden, 2 width]             P.experts.down_proj [experts, width, hidden]
 *   P.experts.gate_up_proj_bias [experts, 2 width]                P.experts.down_proj_bias [experts, hidden]
 *   P.experts.gate_up_proj_blocks U8 [experts, 2 width, hidden / 32, 16], and of down_proj likewise
 *   P.experts.gate_up_proj_scales U8 [experts, 2 width, hidden / 32]
 * which become the same P.experts.N.gate_proj.weight (and .weight_scale), .bias and so on. Its outputs are gate and up
 * in turn: what is called gate_proj is the first half of them, up_proj the second, as GPTQModel takes them apart.
 * Local. */
enum sq_status sq_fused_split(struct sq_checkpoint *checkpoint) SQ_MUST_CHECK;

/* Fused experts that are still there and should not be are SQ_ERR_INPUT naming the first. For whoever knows that the
 * architecture has experts of this kind. Local. */
enum sq_status sq_fused_check(const struct sq_checkpoint *checkpoint) SQ_MUST_CHECK;

#endif
