/* ALiBi (Press et al., "Train short, test long"): a penalty on attention scores that grows with the distance. */
#ifndef SQ_MODEL_ALIBI_H
#define SQ_MODEL_ALIBI_H

#include <stdint.h>

/* slopes [n_heads]: of a power of two p, 2^(-8 h / p), h = 1 ... p; other numbers of heads have those of the next
 * smaller power and then every second one of the next larger. Local. */
void sq_alibi_fill(int64_t n_heads, float *slopes);

#endif
