// The arithmetic behind cuBLAS and cuSOLVER. As there, the same call on the same numbers gives the same bits, but in
// which order an element's terms are added depends on all that a library may choose its kernels by (sizes, leading
// dimensions, types, and how addresses are aligned, to 256 bytes), and on the element's place: who wants the same bits
// from any number of ranks must make the same calls on all of them.
#ifndef CUDASIM_DENSE_HPP
#define CUDASIM_DENSE_HPP

#include <cstddef>

namespace cudasim
{
// A matrix stored by columns, f32 or bf16, seen as it is or transposed.
struct operand {
    const void *data;
    bool bf16, transposed;
    ptrdiff_t stride; // elements between stored columns

    float get(ptrdiff_t row, ptrdiff_t col) const;
};

struct product {
    int m, n, k;
    operand a, b; // a [m, k], b [k, n]
    float alpha, beta;
    void *c; // [m, n]
    bool c_bf16;
    ptrdiff_t c_stride;
};
// c = alpha a b + beta c, in f32; c is not read when beta is 0.
void multiply(const product &p);

struct triangular_solve {
    bool left, upper, transposed, unit;
    int m, n;
    float alpha;
    const float *a;
    ptrdiff_t a_stride;
    float *b; // [m, n]
    ptrdiff_t b_stride;
};
// op(A) X = alpha B (left) or X op(A) = alpha B; X takes the place of B.
void solve(const triangular_solve &s);

// A = U' U (upper) or L L', in the triangle that is named; the other one is not touched. Returns 0, or the order of the
// first leading minor that is not positive definite.
int cholesky(bool upper, int n, float *a, ptrdiff_t stride);
} // namespace cudasim

#endif
