#include "dense.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <vector>

namespace cudasim
{
namespace
{
// One source, compiled for three kinds of processors: they differ in speed only, as nothing is contracted.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define FAST __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FAST
#endif

constexpr int tile_rows = 16, tile_cols = 4;
constexpr int most_parts = 4;        // of a sum
constexpr uintptr_t alignment = 256; // beyond which nobody looks at it

float from_bf16(uint16_t half)
{
    const uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

uint16_t to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (std::isnan(value)) return 0x7fff;
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16); // to nearest, ties to even
}

// panel[p, i] = element(first + i, p) for i < width, zero beyond the last row.
void pack(const operand &x, bool by_columns, int first, int last, int k, int width, float *panel)
{
    for (int p = 0; p < k; p++)
        for (int i = 0; i < width; i++)
            panel[(ptrdiff_t)p * width + i] = first + i >= last ? 0.0f
                                              : by_columns      ? x.get(p, first + i)
                                                                : x.get(first + i, p);
}

typedef float row_vector __attribute__((vector_size(tile_rows * sizeof(float))));

// sums[j][i] = sum over p of a[p, i] b[p, j]: p ascending in each of `parts` parts, which are then added in order.
FAST void multiply_tile(int k, int parts, const float *a, const float *b, float *sums)
{
    row_vector all[tile_cols] = {};
    for (int part = 0, p = 0; part < parts; part++) {
        row_vector s[tile_cols] = {};
        for (const int end = (int)((int64_t)k * (part + 1) / parts); p < end; p++, a += tile_rows, b += tile_cols) {
            row_vector column;
            memcpy(&column, a, sizeof column);
            for (int j = 0; j < tile_cols; j++)
                s[j] += column * b[j];
        }
        for (int j = 0; j < tile_cols; j++)
            all[j] += s[j];
    }
    memcpy(sums, all, sizeof all);
}

// A number that looks random, from numbers.
uint64_t mix(std::initializer_list<uint64_t> numbers)
{
    uint64_t x = 0;
    for (const uint64_t number : numbers) {
        x = (x ^ number) * 0x9E3779B97F4A7C15u;
        x ^= x >> 29;
    }
    return x;
}

uint64_t traits_of(const void *data, bool bf16, bool transposed, ptrdiff_t stride)
{
    return mix({(uintptr_t)data % alignment, bf16, transposed, (uint64_t)stride});
}

void store_tile(const product &p, int row, int col, const float *sums)
{
    for (int j = col; j < std::min(p.n, col + tile_cols); j++)
        for (int i = row; i < std::min(p.m, row + tile_rows); i++) {
            const ptrdiff_t at = i + j * p.c_stride;
            float value = p.alpha * sums[(j - col) * tile_rows + i - row];
            if (p.beta != 0) value += p.beta * (p.c_bf16 ? from_bf16(((uint16_t *)p.c)[at]) : ((float *)p.c)[at]);
            if (p.c_bf16)
                ((uint16_t *)p.c)[at] = to_bf16(value);
            else
                ((float *)p.c)[at] = value;
        }
}

// y[0, n) -= factor x[0, n)
FAST void subtract(int n, float factor, const float *x, float *y)
{
    for (int i = 0; i < n; i++)
        y[i] -= factor * x[i];
}

void transpose(int n, const float *from, ptrdiff_t from_stride, float *to, ptrdiff_t to_stride)
{
    for (int j = 0; j < n; j++)
        for (int i = 0; i < n; i++)
            to[j + i * to_stride] = from[i + j * from_stride];
}
} // namespace

float operand::get(ptrdiff_t row, ptrdiff_t col) const
{
    const ptrdiff_t at = transposed ? col + row * stride : row + col * stride;
    return bf16 ? from_bf16(((const uint16_t *)data)[at]) : ((const float *)data)[at];
}

void multiply(const product &p)
{
    const uint64_t kernel = mix(
        {(uint64_t)p.m, (uint64_t)p.n, (uint64_t)p.k, traits_of(p.a.data, p.a.bf16, p.a.transposed, p.a.stride),
         traits_of(p.b.data, p.b.bf16, p.b.transposed, p.b.stride), traits_of(p.c, p.c_bf16, p.beta != 0, p.c_stride)});
    std::vector<float> a((size_t)tile_rows * p.k), b((size_t)(p.n + tile_cols) * p.k);
    float sums[tile_rows * tile_cols];
    for (int j = 0; j < p.n; j += tile_cols)
        pack(p.b, true, j, p.n, p.k, tile_cols, b.data() + (size_t)j * p.k);
    for (int i = 0; i < p.m; i += tile_rows) {
        pack(p.a, false, i, p.m, p.k, tile_rows, a.data());
        for (int j = 0; j < p.n; j += tile_cols) {
            const int parts = 1 + (int)(mix({kernel, (uint64_t)i, (uint64_t)j}) % most_parts);
            multiply_tile(p.k, parts, a.data(), b.data() + (size_t)j * p.k, sums);
            store_tile(p, i, j, sums);
        }
    }
}

// The right side is worked on as rows of X' (columns of length 1 .. m), so that one loop serves all: X op(A) = B is
// op(A)' X' = B'.
void solve(const triangular_solve &s)
{
    const int order = s.left ? s.m : s.n, others = s.left ? s.n : s.m;
    const bool flipped = s.transposed != !s.left; // solves with A' instead of A
    const bool forward = s.upper == flipped;      // the matrix that is solved with is lower triangular
    std::vector<float> x((size_t)order * others); // x[i * others + j]: unknown i of system j
    const ptrdiff_t step = s.left ? 1 : s.b_stride, across = s.left ? s.b_stride : 1;
    const bool last_first = mix({(uint64_t)s.m, (uint64_t)s.n, traits_of(s.a, false, s.transposed, s.a_stride),
                                 traits_of(s.b, false, s.left, s.b_stride)}) %
                                2 ==
                            1;
    for (int i = 0; i < order; i++)
        for (int j = 0; j < others; j++)
            x[(size_t)i * others + j] = s.alpha * s.b[i * step + j * across];
    for (int t = 0; t < order; t++) {
        const int i = forward ? t : order - 1 - t;
        float *row = &x[(size_t)i * others];
        for (int u = 0; u < t; u++) {
            const int known = last_first ? t - 1 - u : u, k = forward ? known : order - 1 - known;
            subtract(others, flipped ? s.a[k + i * s.a_stride] : s.a[i + k * s.a_stride], &x[(size_t)k * others], row);
        }
        for (int j = 0; j < others && !s.unit; j++)
            row[j] /= s.a[i + i * s.a_stride];
    }
    for (int i = 0; i < order; i++)
        for (int j = 0; j < others; j++)
            s.b[i * step + j * across] = x[(size_t)i * others + j];
}

// Column by column, each column's updates in the order of the columns before it, or the other way round.
static int cholesky_lower(int n, float *a, ptrdiff_t stride, bool last_first)
{
    for (int j = 0; j < n; j++) {
        float *column = a + j * stride;
        for (int i = 0; i < j; i++) {
            const int k = last_first ? j - 1 - i : i;
            subtract(n - j, a[j + k * stride], a + j + k * stride, column + j);
        }
        if (!(column[j] > 0) || !std::isfinite(column[j])) return j + 1;
        column[j] = std::sqrt(column[j]);
        for (int i = j + 1; i < n; i++)
            column[i] /= column[j];
    }
    return 0;
}

int cholesky(bool upper, int n, float *a, ptrdiff_t stride)
{
    const bool last_first = mix({(uint64_t)n, traits_of(a, false, upper, stride)}) % 2 == 1;
    if (!upper) return cholesky_lower(n, a, stride, last_first);
    std::vector<float> lower((size_t)n * n);
    transpose(n, a, stride, lower.data(), n);
    const int info = cholesky_lower(n, lower.data(), n, last_first);
    for (int j = 0; j < n; j++)
        for (int i = 0; i <= j; i++)
            a[i + j * stride] = lower[(size_t)j + (size_t)i * n];
    return info;
}
} // namespace cudasim
