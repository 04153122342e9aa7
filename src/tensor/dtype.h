/* Element types of tensors, as named by safetensors. */
#ifndef SQ_TENSOR_DTYPE_H
#define SQ_TENSOR_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* X(enum, safetensors name, bytes) */
#define SQ_DTYPE_LIST(X)                                                                                               \
    X(SQ_F32, "F32", 4)                                                                                                \
    X(SQ_F16, "F16", 2)                                                                                                \
    X(SQ_BF16, "BF16", 2)                                                                                              \
    X(SQ_F8_E4M3, "F8_E4M3", 1)                                                                                        \
    X(SQ_F64, "F64", 8)                                                                                                \
    X(SQ_I64, "I64", 8)                                                                                                \
    X(SQ_I32, "I32", 4)                                                                                                \
    X(SQ_I16, "I16", 2)                                                                                                \
    X(SQ_I8, "I8", 1)                                                                                                  \
    X(SQ_U8, "U8", 1)                                                                                                  \
    X(SQ_BOOL, "BOOL", 1)                                                                                              \
    X(SQ_MXFP4, "MXFP4", 0) /* two numbers in a byte, with scales (io/mxfp4.h): no type of a file's */

enum sq_dtype {
#define X(name, text, bytes) name,
    SQ_DTYPE_LIST(X)
#undef X
};

/* Bytes of one element; 0 where two are in one. */
size_t sq_dtype_size(enum sq_dtype dtype);

/* safetensors name, such as "BF16". */
const char *sq_dtype_name(enum sq_dtype dtype);

/* The type of that safetensors name; -1 when unknown. */
int sq_dtype_parse(const char *name);

/* Whether elements of the type are floating-point numbers that the program reads. */
bool sq_dtype_is_floating(enum sq_dtype dtype);

/* Whether numbers of the type mean nothing without a tensor of scales (io/scales.h). */
bool sq_dtype_has_scales(enum sq_dtype dtype);

/* Converts count elements of F32, F16, BF16 or F8_E4M3 into float, or float into F32, F16 or BF16 (round to nearest
 * even). The arrays do not overlap; the source of to_f32 may lie at any address. */
void sq_dtype_to_f32(enum sq_dtype dtype, const void *source, int64_t count, float *target);
void sq_dtype_from_f32(const float *source, int64_t count, enum sq_dtype dtype, void *target);

#endif
