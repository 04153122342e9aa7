#include "io/pack.h"

#include <string.h>

#include "io/codes.h"

/* At most 32 codes of one stream; the words wanted are at words[0], words[stride], ... */
static void pack_stream(int bits, int64_t count, const uint8_t *codes, uint32_t *words, int64_t stride)
{
    uint32_t packed[8] = {0};
    sq_codes_pack_row(codes, count, bits, (uint8_t *)packed);
    for (int64_t w = 0; w * 32 < count * bits; w++)
        words[w * stride] = packed[w];
}

/* Written in runs of 32 codes and 16 streams, so that each row of words is met while it is still in the cache; 32 codes
 * are `bits` whole words. */
void sq_pack_codes(int bits, int64_t columns, int64_t count, const uint8_t *codes, uint32_t *words, int64_t stride)
{
    const int64_t run = 32, block = 16;
    for (int64_t c0 = 0; c0 < columns; c0 += block) {
        int64_t c1 = c0 + block < columns ? c0 + block : columns;
        for (int64_t i = 0; i < count; i += run) {
            int64_t n = i + run < count ? run : count - i;
            for (int64_t c = c0; c < c1; c++)
                pack_stream(bits, n, codes + c * count + i, words + i / run * bits * stride + c, stride);
        }
    }
}

static uint32_t load_word(const unsigned char *words, int64_t index)
{
    uint32_t word;
    memcpy(&word, words + 4 * index, sizeof word);
    return word;
}

void sq_unpack_codes(int bits, int64_t columns, int64_t first, int64_t count, const void *words, int64_t stride,
                     uint8_t *codes)
{
    const uint32_t mask = (1u << bits) - 1;
    for (int64_t i = 0; i < count; i++) {
        int64_t position = (first + i) * bits;
        int shift = (int)(position % 32);
        const unsigned char *low = (const unsigned char *)words + 4 * (position / 32) * stride;
        const unsigned char *high = low + 4 * stride;
        uint8_t *row = codes + i * columns;
        if (shift + bits <= 32)
            for (int64_t c = 0; c < columns; c++)
                row[c] = (uint8_t)((load_word(low, c) >> shift) & mask);
        else
            for (int64_t c = 0; c < columns; c++)
                row[c] = (uint8_t)((load_word(low, c) >> shift | load_word(high, c) << (32 - shift)) & mask);
    }
}
