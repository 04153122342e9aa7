/* 16-bit floating point as uint16_t bit patterns, and 8-bit as uint8_t; round to nearest even, NaN stays NaN.
 * Inline and without branches, so that loops over them become vector code. */
#ifndef SQ_BASE_HALF_H
#define SQ_BASE_HALF_H

#include <stdint.h>
#include <string.h>

/* nvcc makes these functions for the device, too: both sides round alike */
#ifdef __CUDACC__
#define SQ_ANYWHERE __host__ __device__
#else
#define SQ_ANYWHERE
#endif

/* The bits of a float, and back. */
SQ_ANYWHERE static inline uint32_t sq_f32_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

SQ_ANYWHERE static inline float sq_f32_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* condition ? yes : no, by masks: a compiler that minds floating point traps moves the arithmetic of a ?: into a
 * branch. */
SQ_ANYWHERE static inline uint32_t sq_bits_select(int condition, uint32_t yes, uint32_t no)
{
    uint32_t mask = 0u - (uint32_t)condition;
    return (yes & mask) | (no & ~mask);
}

SQ_ANYWHERE static inline float sq_bf16_to_f32(uint16_t bits)
{
    return sq_f32_from_bits((uint32_t)bits << 16);
}

SQ_ANYWHERE static inline uint16_t sq_f32_to_bf16(float value)
{
    uint32_t bits = sq_f32_bits(value);
    uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    uint32_t quiet = (bits >> 16) | 0x40u; /* rounding could carry a NaN into infinity or beyond the sign */
    return (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
}

SQ_ANYWHERE static inline float sq_f16_to_f32(uint16_t bits)
{
    uint32_t sign = (uint32_t)(bits & 0x8000u) << 16;
    uint32_t magnitude = bits & 0x7fffu;
    uint32_t normal = (magnitude << 13) + (112u << 23); /* exponent bias 15 -> 127 */
    uint32_t special = (magnitude << 13) | 0x7f800000u;
    uint32_t tiny = sq_f32_bits((float)(int32_t)magnitude * 0x1p-24f); /* below 2^-14; exact in f32 */
    uint32_t value = sq_bits_select(magnitude < 0x400u, tiny, normal);
    return sq_f32_from_bits(sign | sq_bits_select(magnitude >= 0x7c00u, special, value));
}

/* E4M3 without infinities: 4 bits of exponent with bias 7, 3 of mantissa; all seven set is NaN. */
SQ_ANYWHERE static inline float sq_f8_e4m3_to_f32(uint8_t bits)
{
    uint32_t sign = (uint32_t)(bits & 0x80u) << 24;
    uint32_t magnitude = bits & 0x7fu;
    uint32_t normal = (magnitude << 20) + (120u << 23);
    uint32_t tiny = sq_f32_bits((float)(int32_t)magnitude * 0x1p-9f); /* below 2^-6; exact in f32 */
    uint32_t value = sq_bits_select(magnitude < 0x08u, tiny, normal);
    return sq_f32_from_bits(sign | sq_bits_select(magnitude == 0x7fu, 0x7fc00000u, value));
}

SQ_ANYWHERE static inline uint16_t sq_f32_to_f16(float value)
{
    uint32_t bits = sq_f32_bits(value);
    uint32_t sign = (bits >> 16) & 0x8000u;
    uint32_t magnitude = bits & 0x7fffffffu;
    uint32_t normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    /* below 2^-14: adding 0.5 shifts the subnormal into the low mantissa bits, rounded */
    uint32_t tiny = sq_f32_bits(sq_f32_from_bits(magnitude) + 0.5f) - 0x3f000000u;
    uint32_t special = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
    uint32_t result = sq_bits_select(magnitude < 0x38800000u, tiny, normal);
    return (uint16_t)(sign | sq_bits_select(magnitude >= 0x477ff000u, special, result)); /* 65520 and above: infinity */
}

#endif
