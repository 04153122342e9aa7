/* What the tests of a backend's contract share: a backend, and seeded matrices in its memory. Tolerances: f32 sums of n
 * terms are good to n * 2^-24 of the sum of magnitudes; bf16 results to one rounding, 2^-8. */
#ifndef SQ_TESTS_BACKEND_FIXTURE_H
#define SQ_TESTS_BACKEND_FIXTURE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backends.h"

static struct sq_backend *backend;
static const struct sq_backend_ops *ops;

static inline int set_up(void **state)
{
    (void)state;
    if (backend_create(2, &backend) != SQ_OK) return -1;
    ops = backend->ops;
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    ops->destroy(backend);
    return 0;
}

/* --- matrices with known values -------------------------------------------------------------------------------------
 */

/* What the backend has been given in the test at hand. */
static void *given[32];
static int n_given;

static inline void *give_array(const void *host, size_t bytes)
{
    return given[n_given++] = backend_give(backend, host, bytes);
}

static inline size_t bytes_of(struct sq_matrix m)
{
    return (size_t)(((m.rows - 1) * m.stride + m.cols) * (int64_t)sq_dtype_size(m.dtype));
}

/* The same matrix in the backend's memory; a matrix without data stays so. */
static inline struct sq_matrix give(struct sq_matrix m)
{
    if (m.data) m.data = give_array(m.data, bytes_of(m));
    return m;
}

/* A result: from the backend's memory into the host's. */
static inline void take(struct sq_matrix from, struct sq_matrix to)
{
    backend_take(backend, from.data, bytes_of(to), to.data);
}

static inline void free_given(void)
{
    while (n_given > 0)
        backend_free(backend, given[--n_given]);
}

/* A seeded matrix inside a wider buffer, so that strides matter. */
static inline struct sq_matrix make(enum sq_dtype dtype, int64_t rows, int64_t cols, uint32_t seed)
{
    int64_t stride = cols + 3;
    char *data = calloc((size_t)(rows * stride + 1), 8);
    for (int64_t i = 0; i < rows * stride; i++) {
        uint32_t hash = (uint32_t)(i + 1) * 2654435761u ^ seed * 40503u;
        hash ^= hash >> 13;
        hash *= 1274126177u;
        float value = (float)(hash >> 8) / 8388608.0f - 1;
        if (dtype == SQ_F32 || dtype == SQ_BF16)
            sq_dtype_from_f32(&value, 1, dtype, data + (size_t)i * sq_dtype_size(dtype));
    }
    return (struct sq_matrix){data, dtype, rows, cols, stride};
}

static inline double at(struct sq_matrix m, int64_t i, int64_t j)
{
    float value;
    sq_dtype_to_f32(m.dtype, sq_matrix_part(m, i, 1, j, 1).data, 1, &value);
    return (double)value;
}

static inline void check_near(struct sq_matrix m, int64_t i, int64_t j, double expected, double magnitude, double terms)
{
    double unit = m.dtype == SQ_BF16 ? 0x1p-8 : 0;
    double bound = magnitude * terms * 0x1p-23 + fabs(expected) * unit + 1e-7;
    if (!(fabs(at(m, i, j) - expected) <= bound))
        fail_msg("entry (%d, %d) is %.9g, expected %.9g within %.2g", (int)i, (int)j, at(m, i, j), expected, bound);
}

/* The type combinations of a product that this machine has. */
static inline int n_types(void)
{
    return backend->has_bf16 ? 3 : 1;
}
static const enum sq_dtype in_types[] = {SQ_F32, SQ_BF16, SQ_BF16};
static const enum sq_dtype out_types[] = {SQ_F32, SQ_F32, SQ_BF16};

#endif
