/* Products by cuBLAS. It stores by columns: a row-major c = a b is its c' = b' a'. */
#include "cuda/cuda_private.h"
#include "cuda/kernels/kernels.h"

cudaDataType sq_cuda_type(enum sq_dtype dtype)
{
    return dtype == SQ_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

struct factor {
    struct sq_matrix matrix;
    bool is_turned; /* its transpose is meant */
};

/* c = alpha a b + beta c */
static enum sq_status multiply(struct sq_backend *backend, float alpha, struct factor a, struct factor b, float beta,
                               struct sq_matrix c)
{
    int64_t k = a.is_turned ? a.matrix.rows : a.matrix.cols;
    if (c.rows == 0 || c.cols == 0) return SQ_OK;
    cublasOperation_t left = b.is_turned ? CUBLAS_OP_T : CUBLAS_OP_N, right = a.is_turned ? CUBLAS_OP_T : CUBLAS_OP_N;
    return sq_cublas_checked(cublasGemmEx(sq_cuda_worker(backend)->blas, left, right, (int)c.cols, (int)c.rows, (int)k,
                                          &alpha, b.matrix.data, sq_cuda_type(b.matrix.dtype), (int)b.matrix.stride,
                                          a.matrix.data, sq_cuda_type(a.matrix.dtype), (int)a.matrix.stride, &beta,
                                          c.data, sq_cuda_type(c.dtype), (int)c.stride, CUBLAS_COMPUTE_32F,
                                          CUBLAS_GEMM_DEFAULT),
                             "a product");
}

/* --- linears with a bias, to BF16 --------------------------------------------------------------------------------- */

/* Products go through a worker's room in f32, so that sum and bias are rounded once. (The bias that cublasLt adds
 * itself is generally one of the output's type.) Columns are in pieces, which have all rows: the weights are read once.
 * Where there are more rows than SQ_CUDA_ROOM_ROWS these are in pieces, too, so that pieces stay near to squares, which
 * read least. Their shapes depend on those of x and w alone. */
#define ROOM_ELEMENTS ((int64_t)(SQ_CUDA_ROOM / sizeof(float)))
_Static_assert(SQ_CUDA_ROOM / sizeof(float) >= SQ_CUDA_ROOM_ROWS, "a piece has a column at least");

#define PIECE_UNIT 128 /* rows or columns of a product that keep its tiles and their memory whole */

/* Equal pieces of at most `most`, whole units where those fit; count: one piece. */
static int64_t piece_length(int64_t count, int64_t most)
{
    if (count <= most) return count;
    int64_t n_pieces = (count + most - 1) / most, length = (count + n_pieces - 1) / n_pieces;
    int64_t whole = (length + PIECE_UNIT - 1) / PIECE_UNIT * PIECE_UNIT;
    return whole <= most ? whole : length;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static enum sq_status linear_in_room(struct sq_backend *backend, struct sq_matrix x, struct sq_matrix w,
                                     const float *bias, struct sq_matrix y)
{
    struct sq_cuda_worker *worker = sq_cuda_worker(backend);
    struct sq_matrix sums = sq_matrix_view(worker->room, SQ_F32, y.rows, y.cols);
    SQ_TRY(multiply(backend, 1, (struct factor){x, false}, (struct factor){w, true}, 0, sums));
    return sq_cuda_checked(sq_kernel_add_bias(worker->stream, sums, bias, y), "a bias");
}

static enum sq_status linear_in_pieces(struct sq_backend *backend, struct sq_matrix x, struct sq_matrix w,
                                       const float *bias, struct sq_matrix y)
{
    int64_t most_rows = piece_length(y.rows, SQ_CUDA_ROOM_ROWS);
    int64_t most_cols = piece_length(y.cols, ROOM_ELEMENTS / most_rows);
    for (int64_t col = 0; col < y.cols; col += most_cols)
        for (int64_t row = 0; row < y.rows; row += most_rows) {
            int64_t rows = smaller(y.rows - row, most_rows), cols = smaller(y.cols - col, most_cols);
            SQ_TRY(linear_in_room(backend, sq_matrix_part(x, row, rows, 0, x.cols),
                                  sq_matrix_part(w, col, cols, 0, w.cols), bias + col,
                                  sq_matrix_part(y, row, rows, col, cols)));
        }
    return SQ_OK;
}

/* --- f32 by products in BF16 ---------------------------------------------------------------------------------------
 */

/* With a = a0 + a1 + a2 and b = b0 + b1 + b2 in BF16, each a 2^-9 of the one before at most, and all of f32's bits,
 *
 *     a b = a0 b0 + a0 b1 + a1 b0 + a1 b1 + a0 b2 + a2 b0
 *
 * to 2^-26: one product of matrices whose factors are made in a worker's room. */
#define SPLIT_UNIT 16 /* columns of a, so that rows of its copies start at whole lines of memory */
_Static_assert(SQ_SPLIT_COPIES * sizeof(uint16_t) * 2 * SQ_SOLVE_ROWS_MAX * SPLIT_UNIT + SQ_ALIGNMENT <= SQ_CUDA_ROOM,
               "a piece has so many columns at least");

static enum sq_status split(struct sq_backend *backend, struct sq_split copies, struct sq_matrix x, struct sq_matrix y)
{
    return sq_cuda_checked(sq_kernel_split(sq_cuda_worker(backend)->stream, copies, x, y), "a split");
}

static enum sq_status multiply_split(struct sq_backend *backend, struct sq_matrix a, struct sq_matrix b, float beta,
                                     struct sq_matrix c)
{
    int64_t m = a.rows, k = a.cols, n = b.cols;
    size_t left_bytes = (size_t)sq_aligned(SQ_SPLIT_COPIES * m * k * (int64_t)sizeof(uint16_t));
    char *room = sq_cuda_worker(backend)->room;
    struct sq_matrix left = sq_matrix_view(room, SQ_BF16, m, SQ_SPLIT_COPIES * k);
    struct sq_matrix right = sq_matrix_view(room + left_bytes, SQ_BF16, SQ_SPLIT_COPIES * k, n);
    SQ_TRY(split(backend, (struct sq_split){{0, 0, 1, 1, 0, 2}, k}, a, sq_matrix_part(left, 0, m, 0, k)));
    SQ_TRY(split(backend, (struct sq_split){{0, 1, 0, 1, 2, 0}, k * n}, b, sq_matrix_part(right, 0, k, 0, n)));
    return multiply(backend, 1, (struct factor){left, false}, (struct factor){right, false}, beta, c);
}

/* By the makers' peaks these, of A100, H100, B200 and B300, do at least 14 in that time; of the others none known does
 * more than 4. */
bool sq_cuda_is_split(int capability)
{
    return capability == 80 || capability == 90 || capability == 100 || capability == 103;
}

/* As many columns of a at once as the room holds: a number that depends on the shapes alone. */
static enum sq_status multiply_in_room(struct sq_backend *backend, struct sq_matrix a, struct sq_matrix b,
                                       bool accumulate, struct sq_matrix c)
{
    int64_t column_bytes = SQ_SPLIT_COPIES * (int64_t)sizeof(uint16_t) * (a.rows + b.cols);
    int64_t most = ((int64_t)SQ_CUDA_ROOM - SQ_ALIGNMENT) / column_bytes / SPLIT_UNIT * SPLIT_UNIT;
    for (int64_t k = 0; k < a.cols; k += most) {
        int64_t columns = smaller(a.cols - k, most);
        SQ_TRY(multiply_split(backend, sq_matrix_part(a, 0, a.rows, k, columns),
                              sq_matrix_part(b, k, columns, 0, b.cols), accumulate || k > 0 ? 1 : 0, c));
    }
    return SQ_OK;
}

enum sq_status sq_cuda_matmul_split(struct sq_backend *backend, struct sq_matrix a, struct sq_matrix b, bool accumulate,
                                    struct sq_matrix c)
{
    bool is_split = ((const struct sq_cuda *)backend)->is_split;
    return (is_split ? multiply_in_room : sq_cuda_matmul)(backend, a, b, accumulate, c);
}

/* --- the operations ----------------------------------------------------------------------------------------------- */

enum sq_status sq_cuda_linear(struct sq_backend *backend, struct sq_matrix x, struct sq_matrix w, const float *bias,
                              struct sq_matrix y)
{
    if (y.rows == 0) return SQ_OK;
    if (bias && y.dtype == SQ_BF16) return linear_in_pieces(backend, x, w, bias, y);
    SQ_TRY(multiply(backend, 1, (struct factor){x, false}, (struct factor){w, true}, 0, y));
    if (!bias) return SQ_OK;
    return sq_cuda_checked(sq_kernel_add_bias(sq_cuda_worker(backend)->stream, y, bias, y), "a bias");
}

enum sq_status sq_cuda_matmul(struct sq_backend *backend, struct sq_matrix a, struct sq_matrix b, bool accumulate,
                              struct sq_matrix c)
{
    return multiply(backend, 1, (struct factor){a, false}, (struct factor){b, false}, accumulate ? 1 : 0, c);
}

enum sq_status sq_cuda_gram(struct sq_backend *backend, struct sq_matrix x, struct sq_matrix y, struct sq_matrix c)
{
    return multiply(backend, 1, (struct factor){x, true}, (struct factor){y, false}, 0, c);
}

enum sq_status sq_cuda_update(struct sq_backend *backend, struct sq_matrix a, struct sq_matrix b, struct sq_matrix c)
{
    return multiply(backend, -1, (struct factor){a, false}, (struct factor){b, true}, 1, c);
}
