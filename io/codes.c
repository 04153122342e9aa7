#include "io/codes.h"

#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the word-wise packing below is written for little-endian processors"
#endif

/* `bits` is a constant in every use of the functions below, so each width gets code of its own. */
#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* Eight codes, one in each byte, become 8 * bits neighbouring bits: neighbours are joined in pairs, fours, eights. */
ALWAYS_INLINE uint64_t join8(uint64_t x, int bits)
{
    x = (x & 0x00ff00ff00ff00ffu) | ((x >> 8 & 0x00ff00ff00ff00ffu) << bits);
    x = (x & 0x0000ffff0000ffffu) | ((x >> 16 & 0x0000ffff0000ffffu) << 2 * bits);
    return (x & 0x00000000ffffffffu) | (x >> 32) << 4 * bits;
}

/* The reverse of join8(); bits of x above 8 * bits are ignored. */
ALWAYS_INLINE uint64_t part8(uint64_t x, int bits)
{
    uint64_t four = ((uint64_t)1 << 4 * bits) - 1, two = ((uint64_t)1 << 2 * bits) - 1, one = ((uint64_t)1 << bits) - 1;
    x = (x & four) | (x >> 4 * bits & four) << 32;
    two |= two << 32;
    x = (x & two) | (x >> 2 * bits & two) << 16;
    one |= one << 16 | one << 32 | one << 48;
    return (x & one) | (x >> bits & one) << 8;
}

ALWAYS_INLINE void pack(const uint8_t *codes, int64_t n, int bits, uint8_t *packed)
{
    uint64_t word = 0;
    for (int64_t j = 0; j + 8 <= n; j += 8) {
        memcpy(&word, codes + j, 8);
        word = join8(word, bits);
        memcpy(packed, &word, (size_t)bits);
        packed += bits;
    }
    int64_t rest = n % 8;
    word = 0;
    memcpy(&word, codes + (n - rest), (size_t)rest);
    word = join8(word, bits);
    memcpy(packed, &word, (size_t)sq_codes_row_bytes(rest, bits));
}

ALWAYS_INLINE void unpack(const uint8_t *packed, int64_t n, int bits, uint8_t *codes)
{
    for (int64_t j = 0; j + 8 <= n; j += 8) {
        uint64_t word = 0;
        memcpy(&word, packed, (size_t)bits);
        word = part8(word, bits);
        memcpy(codes + j, &word, 8);
        packed += bits;
    }
    int64_t rest = n % 8;
    uint64_t word = 0;
    memcpy(&word, packed, (size_t)sq_codes_row_bytes(rest, bits));
    word = part8(word, bits);
    memcpy(codes + (n - rest), &word, (size_t)rest);
}

/* Halves of bytes, which compilers make vectors of. */
static void pack_halves(const uint8_t *restrict codes, int64_t n, uint8_t *restrict packed)
{
    for (int64_t i = 0; i < n / 2; i++)
        packed[i] = (uint8_t)(codes[2 * i] | codes[2 * i + 1] << 4);
    if (n % 2) packed[n / 2] = codes[n - 1];
}

static void unpack_halves(const uint8_t *restrict packed, int64_t n, uint8_t *restrict codes)
{
    for (int64_t i = 0; i < n / 2; i++) {
        codes[2 * i] = packed[i] & 15;
        codes[2 * i + 1] = packed[i] >> 4;
    }
    if (n % 2) codes[n - 1] = packed[n / 2] & 15;
}

#define EVERY_WIDTH(X) X(1) X(2) X(3) X(5) X(6) X(7)

void sq_codes_pack_row(const uint8_t *codes, int64_t n, int bits, uint8_t *packed)
{
    switch (bits) {
#define X(width)                                                                                                       \
    case width:                                                                                                        \
        pack(codes, n, width, packed);                                                                                 \
        break;
        EVERY_WIDTH(X)
#undef X
    case 4:
        pack_halves(codes, n, packed);
        break;
    default:
        memcpy(packed, codes, (size_t)n);
    }
}

void sq_codes_unpack_row(const uint8_t *packed, int64_t n, int bits, uint8_t *codes)
{
    switch (bits) {
#define X(width)                                                                                                       \
    case width:                                                                                                        \
        unpack(packed, n, width, codes);                                                                               \
        break;
        EVERY_WIDTH(X)
#undef X
    case 4:
        unpack_halves(packed, n, codes);
        break;
    default:
        memcpy(codes, packed, (size_t)n);
    }
}
