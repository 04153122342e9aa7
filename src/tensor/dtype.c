#include "tensor/dtype.h"

#include <assert.h>
#include <string.h>

#include "base/half.h"

static const struct {
    const char *name;
    size_t size;
} dtypes[] = {
#define X(name, text, bytes) [name] = {text, bytes},
    SQ_DTYPE_LIST(X)
#undef X
};

size_t sq_dtype_size(enum sq_dtype dtype)
{
    return dtypes[dtype].size;
}

const char *sq_dtype_name(enum sq_dtype dtype)
{
    return dtypes[dtype].name;
}

int sq_dtype_parse(const char *name)
{
    for (int i = 0; i < (int)(sizeof dtypes / sizeof *dtypes); i++)
        if (dtypes[i].size > 0 && !strcmp(name, dtypes[i].name)) return i;
    return -1;
}

bool sq_dtype_is_floating(enum sq_dtype dtype)
{
    return dtype == SQ_F32 || dtype == SQ_F16 || dtype == SQ_BF16 || dtype == SQ_F8_E4M3 || dtype == SQ_MXFP4;
}

bool sq_dtype_has_scales(enum sq_dtype dtype)
{
    return dtype == SQ_F8_E4M3 || dtype == SQ_MXFP4;
}

/* The source may lie at any address (data of a file with an odd header), so each element is loaded by memcpy. */
static void f16_to_f32(const unsigned char *restrict source, int64_t count, float *restrict target)
{
    for (int64_t i = 0; i < count; i++) {
        uint16_t bits;
        memcpy(&bits, source + 2 * i, sizeof bits);
        target[i] = sq_f16_to_f32(bits);
    }
}

static void bf16_to_f32(const unsigned char *restrict source, int64_t count, float *restrict target)
{
    for (int64_t i = 0; i < count; i++) {
        uint16_t bits;
        memcpy(&bits, source + 2 * i, sizeof bits);
        target[i] = sq_bf16_to_f32(bits);
    }
}

static void f8_e4m3_to_f32(const unsigned char *restrict source, int64_t count, float *restrict target)
{
    for (int64_t i = 0; i < count; i++)
        target[i] = sq_f8_e4m3_to_f32(source[i]);
}

static void f32_to_f16(const float *restrict source, int64_t count, uint16_t *restrict target)
{
    for (int64_t i = 0; i < count; i++)
        target[i] = sq_f32_to_f16(source[i]);
}

static void f32_to_bf16(const float *restrict source, int64_t count, uint16_t *restrict target)
{
    for (int64_t i = 0; i < count; i++)
        target[i] = sq_f32_to_bf16(source[i]);
}

void sq_dtype_to_f32(enum sq_dtype dtype, const void *source, int64_t count, float *target)
{
    switch (dtype) {
    case SQ_F32:
        memcpy(target, source, (size_t)count * sizeof *target);
        return;
    case SQ_F16:
        f16_to_f32(source, count, target);
        return;
    case SQ_BF16:
        bf16_to_f32(source, count, target);
        return;
    case SQ_F8_E4M3:
        f8_e4m3_to_f32(source, count, target);
        return;
    default:
        assert(!"only floating types convert");
    }
}

void sq_dtype_from_f32(const float *source, int64_t count, enum sq_dtype dtype, void *target)
{
    switch (dtype) {
    case SQ_F32:
        memcpy(target, source, (size_t)count * sizeof *source);
        return;
    case SQ_F16:
        f32_to_f16(source, count, target);
        return;
    case SQ_BF16:
        f32_to_bf16(source, count, target);
        return;
    default:
        assert(!"only floating types convert");
    }
}
