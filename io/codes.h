/* Rows of codes as little-endian bit streams: code j of a row stands in bits [bits * j, bits * (j + 1)), counted from
 * the lowest bit of the first byte. Local, nothing can fail. */
#ifndef SQ_IO_CODES_H
#define SQ_IO_CODES_H

#include <stdint.h>

/* Bytes of one packed row of n codes; bits in [1, 8]. */
static inline int64_t sq_codes_row_bytes(int64_t n, int bits)
{
    return (n * bits + 7) / 8;
}

/* codes u8 [n], each below 2^bits -> packed u8 [sq_codes_row_bytes(n, bits)]; bits after the last code are zero. */
void sq_codes_pack_row(const uint8_t *codes, int64_t n, int bits, uint8_t *packed);

/* The reverse; bits after the last code are ignored. */
void sq_codes_unpack_row(const uint8_t *packed, int64_t n, int bits, uint8_t *codes);

#endif
