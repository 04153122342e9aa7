/* Codes of 2, 3, 4 or 8 bits in 32-bit words, as GPTQ checkpoints pack them.
 *
 * A stream is a run of codes along one dimension of a tensor; code i takes bits [i * bits, (i + 1) * bits) of it, word
 * 0 first, lowest bit first. With 3 bits codes 10 and 21 of every 32 straddle two words. Bits behind the last code are
 * zero. Neighbouring streams lie in neighbouring columns of an int32 matrix:
 *
 *   qweight [ceil(in * bits / 32), out]      out streams along in_features;  stride = out
 *   qzeros  [groups, ceil(out * bits / 32)]  each row is one stream along out_features;  stride = 1 */
#ifndef SQ_IO_PACK_H
#define SQ_IO_PACK_H

#include <stdbool.h>
#include <stdint.h>

/* Whether checkpoints hold codes of this many bits. */
static inline bool sq_pack_bits_known(int64_t bits)
{
    return bits == 2 || bits == 3 || bits == 4 || bits == 8;
}

/* Words of a stream of `count` codes. */
static inline int64_t sq_pack_words(int64_t count, int bits)
{
    return (count * bits + 31) / 32;
}

/* Packs `columns` streams of `count` codes each. codes u8 [columns, count], each below 2^bits; word w of stream c goes
 * to words[w * stride + c]. Local. */
void sq_pack_codes(int bits, int64_t columns, int64_t count, const uint8_t *codes, uint32_t *words, int64_t stride);

/* Codes [first, first + count) of `columns` neighbouring streams: the inverse of sq_pack_codes(), transposed.
 * words: the first word of the first stream, at any address; codes u8 [count, columns] out. Local. */
void sq_unpack_codes(int bits, int64_t columns, int64_t first, int64_t count, const void *words, int64_t stride,
                     uint8_t *codes);

#endif
