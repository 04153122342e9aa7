/* What fused experts are made of: the layouts of their tensors, and the parts of each. */
#ifndef SQ_IO_FUSED_PARTS_H
#define SQ_IO_FUSED_PARTS_H

#include "base/status.h"
#include "io/checkpoint.h"

/* E experts of N outputs and K inputs. In GATE_UP the first half of the outputs is one part, the second the other. */
enum sq_fused_layout {
    SQ_FUSED_ROWS,    /* [E, N, K] */
    SQ_FUSED_COLUMNS, /* [E, K, N] */
    SQ_FUSED_BIASES,  /* [E, N] */
    SQ_FUSED_BLOCKS,  /* [E, N, K / 32, 16], two numbers of 4 bits in a byte: MXFP4 (io/mxfp4.h) */
    SQ_FUSED_SCALES   /* [E, N, K / 32], theirs */
};

/* What is wrong with the shape or type of a tensor whose experts have so many matrices each: "three dimensions: ...".
 * NULL: nothing. */
const char *sq_fused_find_problem(enum sq_fused_layout layout, int n_parts, const struct sq_tensor *tensor);

/* Whether gate_up and down, both of the layout, speak of the same experts. */
bool sq_fused_is_match(enum sq_fused_layout layout, const struct sq_tensor *gate_up, const struct sq_tensor *down);

/* One expert's part of a tensor without problems, as a tensor of its own, but for its name. Not for SQ_FUSED_ROWS. */
struct sq_tensor sq_fused_part(enum sq_fused_layout layout, int n_parts, const struct sq_tensor *whole, int64_t expert,
                               int part);

#endif
