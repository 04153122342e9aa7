/* H = (2/T) X'X against a double-precision sum, and its bits over ranks and workers. */
#define _GNU_SOURCE
#include "place_fixture.h"

#include <math.h>
#include "base/half.h"
#include "gptq/hessian_private.h"

enum { N = 200, SAMPLES = 21, SHARDS = 16 };

/* One or two samples to a shard: */
struct shape {
    int64_t length;
    int64_t tokens, packed; /* of sq_sizes; 0: the backend's own */
    int64_t panel, slice;   /* likewise */
    int shift;              /* inputs are so many powers of two larger */
    enum sq_status status;  /* that their Hessian ends with */
};
static const struct shape short_shards = {.length = 5};
/* Pieces of 70 rows, and of 129 and 11: each packed in parts of which the last is short or odd; many at once, and
 * one after another. */
static const struct shape long_shards = {.length = 70, .tokens = 129},
                          piece_by_piece = {.length = 70, .tokens = 129, .packed = 1};

/* A value of sample, position, column; columns differ in size by up to 2^40, and column 7 is dead. */
static float input_value(int64_t sample, int64_t position, int64_t column)
{
    uint32_t hash = (uint32_t)(sample * 7919 + position * 104729 + column * 1299709 + 12345) * 2654435761u;
    hash ^= hash >> 15;
    float unit = (float)(hash % 20011) / 10005.5f - 1;
    float value = column == 7 ? 0 : ldexpf(unit, (int)(column % 41) - 20);
    return sq_bf16_to_f32(sq_f32_to_bf16(value)); /* exact in both types */
}

/* Rows lie as in the forward pass (model/slots.h): where they start may decide in which order a library sums. */
static struct sq_matrix make_inputs(const struct sq_shards *shards, const struct shape *shape, enum sq_dtype dtype)
{
    int64_t length = shape->length, rows = shards->samples.count * length, size = (int64_t)sq_dtype_size(dtype);
    int64_t stride = sq_aligned(N * size) / size;
    char *data = calloc((size_t)(rows * stride + 1), (size_t)size);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < N; j++) {
            float value = ldexpf(input_value(shards->samples.first + i / length, i % length, j), shape->shift);
            sq_dtype_from_f32(&value, 1, dtype, data + (i * stride + j) * size);
        }
    return (struct sq_matrix){data, dtype, rows, N, stride};
}

static void set_sizes(const struct shape *shape, struct sq_sizes *sizes)
{
    if (shape->tokens) sizes->hessian_tokens = shape->tokens;
    if (shape->packed && sizes->hessian_packed) sizes->hessian_packed = shape->packed;
    if (shape->panel) sizes->hessian_panel = shape->panel;
    if (shape->slice) sizes->hessian_slice = shape->slice;
}

/* rooms (bytes are found here): a device's inputs stay in host memory, from where it takes them piece by piece; NULL:
 * they are in its own. */
static float *make_hessian_from(const struct shape *shape, const struct sq_hessian_rooms *rooms,
                                const struct sq_comm *comm, int root, int n_threads, enum sq_dtype dtype)
{
    struct sq_backend *backend = place.backend;
    const struct sq_sizes sizes = backend->sizes;
    const int n_workers = backend->n_workers;
    struct sq_hessian_workspace workspace;
    struct sq_shards shards = sq_shards_make(SAMPLES, SHARDS, comm->rank, comm->size);
    struct sq_matrix x = make_inputs(&shards, shape, dtype);
    float *h = calloc(N * N, sizeof *h);
    backend->n_workers = n_threads;
    set_sizes(shape, &backend->sizes);
    size_t row_bytes = (size_t)x.stride * sq_dtype_size(dtype), bytes = (size_t)x.rows * row_bytes;
    struct sq_hessian_rooms given_rooms = rooms ? *rooms : (struct sq_hessian_rooms){0};
    given_rooms.bytes = sq_hessian_room_bytes(&backend->sizes, SAMPLES, SHARDS, shape->length, (int64_t)row_bytes);
    assert_int_equal(sq_hessian_create(backend, N + 30, &given_rooms, &workspace), SQ_OK);
    struct sq_matrix given = x, out = sq_matrix_view(backend_give(backend, h, N * N * sizeof *h), SQ_F32, N, N);
    if (rooms) {
        assert_int_equal(backend->ops->alloc_host(backend, "inputs", bytes, &given.data), SQ_OK);
        memcpy(given.data, x.data, bytes);
    } else {
        given.data = backend_give(backend, x.data, bytes);
    }
    const struct sq_hessian_inputs inputs = {&shards, shape->length, given, rooms != NULL};
    assert_int_equal(sq_hessian_make(backend, comm, root, "a layer", &inputs, &workspace, out), shape->status);
    backend_take(backend, out.data, N * N * sizeof *h, h);
    if (rooms)
        backend->ops->free_host(backend, given.data);
    else
        backend_free(backend, given.data);
    backend_free(backend, out.data);
    sq_hessian_destroy(backend, &workspace);
    backend->sizes = sizes;
    backend->n_workers = n_workers;
    free(x.data);
    return h;
}

static float *make_hessian(const struct shape *shape, const struct sq_comm *comm, int root, int n_threads,
                           enum sq_dtype dtype)
{
    return make_hessian_from(shape, NULL, comm, root, n_threads, dtype);
}

/* exact += x x' of one row. */
static void add_exact(int64_t sample, int64_t position, int shift, double (*exact)[N])
{
    double row[N];
    for (int j = 0; j < N; j++)
        row[j] = ldexp((double)input_value(sample, position, j), shift);
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            exact[i][j] += row[i] * row[j];
}

/* The power of four by which h is larger: its largest entry is near 1. */
static double find_unit(const float *h, double (*exact)[N])
{
    int largest = 0;
    for (int i = 0; i < N; i++)
        if (h[i * N + i] > h[largest * N + largest]) largest = i;
    double here = (double)h[largest * N + largest], exponent = round(log2(here / exact[largest][largest]));
    assert_true(here >= 0.125 && here <= 2 * SHARDS);
    assert_true(fmod(exponent, 2) == 0);
    return exp2(exponent);
}

/* Relative to sqrt(H_ii H_jj): f32 products of at most two samples' rows, and one rounding of the result. Products
 * below 2^-126 may be lost. */
static void check_values(const struct shape *shape, const float *h)
{
    static double exact[N][N];
    const double bound = 4e-7 * (double)shape->length, to_mean = 2.0 / ((double)SAMPLES * (double)shape->length);
    const double lost = 2 * 0x1p-126; /* the mean of 2 / T times all rows */
    memset(exact, 0, sizeof exact);
    for (int64_t s = 0; s < SAMPLES; s++)
        for (int64_t t = 0; t < shape->length; t++)
            add_exact(s, t, shape->shift, exact);
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            exact[i][j] *= to_mean;
    const double unit = find_unit(h, exact);
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            assert_true(fabs(h[i * N + j] / unit - exact[i][j]) <= bound * sqrt(exact[i][i] * exact[j][j]) + lost);
            assert_true(h[i * N + j] == h[j * N + i]);
        }
    assert_true(h[7 * N + 7] == 0);
}

static void test_matches_double_precision(void **state)
{
    (void)state;
    float *h = make_hessian(&short_shards, &place.comm, -1, 2, SQ_F32);
    check_values(&short_shards, h);
    free(h);
}

static void check_bits(const struct shape *shape, const struct shape *other)
{
    struct sq_comm alone;
    assert_int_equal(sq_comm_split(&ranks.comm, ranks.comm.rank, &alone), SQ_OK);
    float *one = make_hessian(shape, &alone, -1, 1, SQ_F32);
    float *all = make_hessian(other, &place.comm, -1, 2, SQ_F32);
    assert_memory_equal(one, all, N * N * sizeof *one);
    int root = ranks.comm.size - 1;
    float *rooted = make_hessian(other, &place.comm, root, 1, SQ_F32);
    if (ranks.comm.rank == root) assert_memory_equal(one, rooted, N * N * sizeof *one);
    sq_comm_free(&alone);
    free(one);
    free(all);
    free(rooted);
}

static void test_bits_do_not_depend_on_ranks_or_workers(void **state)
{
    (void)state;
    check_bits(&short_shards, &short_shards);
}

static void test_pieces(void **state)
{
    (void)state;
    float *h = make_hessian(&long_shards, &place.comm, -1, 2, SQ_F32);
    check_values(&long_shards, h);
    free(h);
    check_bits(&long_shards, &piece_by_piece);
}

/* The sum of a slice beside the products of the next, where there are devices: the same bits whatever the slices. */
static void test_slices(void **state)
{
    (void)state;
    enum { PANEL = 32, WIDEST = PANEL * 7 * PANEL }; /* of seven panels; each one's size is a multiple of the first's */
    static const int64_t slices[] = {1, 2 * WIDEST - 1, 2 * WIDEST, 3 * WIDEST, 4 * WIDEST - PANEL, 4 * WIDEST};
    const struct shape one = {.length = 5, .panel = PANEL}; /* products of panels of other shapes may round otherwise */
    for (size_t i = 0; i < sizeof slices / sizeof *slices; i++) {
        const struct shape shape = {.length = 5, .panel = PANEL, .slice = slices[i]};
        check_bits(&one, &shape);
    }
}

static void check_halves(int64_t slice, int64_t half)
{
    const struct sq_sizes sizes = {.hessian_panel = 2, .hessian_slice = slice};
    const struct sq_hessian_rooms none = {0};
    struct sq_panels panels = sq_panels_make(&sizes, 9, &none); /* five, of 4, 8, 12, 16 and 20 elements */
    assert_int_equal(sq_panels_halve(&panels), half > 0);
    assert_int_equal(panels.sizes.hessian_slice, half > 0 ? half : slice);
}

static void test_halves(void **state)
{
    (void)state;
    check_halves(1, 0);
    check_halves(39, 0); /* the last panel would not fit */
    check_halves(40, 20);
    check_halves(59, 29);
    check_halves(60, 0); /* all is one slice */
}

/* Inputs that a device takes from the host: the same bits as of those that it has, whatever the rooms and slices. */
static void check_on_host(const struct shape *shape, int n_threads, enum sq_dtype dtype)
{
    float *there = make_hessian(shape, &place.comm, -1, 2, dtype);
    const int64_t slices[] = {0, N * N / 4, N * N};
    for (int count = 1; count <= SQ_LANES; count++)
        for (size_t i = 0; i < sizeof slices / sizeof *slices; i++) {
            const struct sq_hessian_rooms rooms = {.count = count, .slice = slices[i]};
            float *here = make_hessian_from(shape, &rooms, &place.comm, -1, n_threads, dtype);
            assert_memory_equal(there, here, N * N * sizeof *there);
            free(here);
        }
    free(there);
}

static void test_inputs_on_the_host(void **state)
{
    (void)state;
    static const struct shape narrow = {.length = 70, .tokens = 129, .panel = 32, .slice = 1};
    if (backend_in_host_memory()) skip();
    check_on_host(&short_shards, 2, SQ_F32);
    check_on_host(&short_shards, 1, SQ_BF16);
    check_on_host(&long_shards, 2, SQ_F32);
    check_on_host(&narrow, 2, SQ_F32);
}

/* What a device has left over goes to fewer slices of the ten panels, and to a second room where that makes them one
 * more at most. */
static void test_rooms(void **state)
{
    (void)state;
    enum { EDGE = 64, WIDTH = 10 * EDGE, ROOM = 100000 };
    const struct sq_sizes sizes = {.hessian_panel = EDGE, .hessian_slice = 1, .hessian_tokens = 1000};
    const struct sq_hessian_rooms least = {ROOM, 1, 0};
    static const struct {
        int64_t bytes, count, slice; /* slice: in squares of a panel's rows */
    } cases[] = {{0, 1, 9},       {ROOM - 1, 1, 11}, {ROOM + 20000, 2, 9}, {ROOM + 140000, 1, 17},
                 {280000, 2, 15}, {720000, 2, 28},   {INT64_MAX, 2, 55}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sq_hessian_rooms rooms = sq_hessian_widen(&sizes, WIDTH, &least, cases[i].bytes);
        size_t before = sq_hessian_bytes(&sizes, WIDTH, &least), after = sq_hessian_bytes(&sizes, WIDTH, &rooms);
        assert_true((int64_t)(after - before) <= cases[i].bytes);
        assert_int_equal(rooms.count, cases[i].count);
        assert_int_equal(rooms.slice, cases[i].slice * EDGE * EDGE);
        assert_int_equal(rooms.bytes, ROOM);
    }
}

/* Errors are relative: small inputs have the Hessian of large ones, and so their layers the same figures. */
static void test_unit(void **state)
{
    (void)state;
    static const struct shape small = {.length = 5, .shift = -30}, large = {.length = 5, .shift = 30};
    float *wanted = make_hessian(&short_shards, &place.comm, -1, 2, SQ_F32);
    float *of_small = make_hessian(&small, &place.comm, -1, 2, SQ_F32);
    float *of_large = make_hessian(&large, &place.comm, -1, 2, SQ_F32);
    assert_memory_equal(wanted, of_small, N * N * sizeof *wanted);
    assert_memory_equal(wanted, of_large, N * N * sizeof *wanted);
    free(wanted);
    free(of_small);
    free(of_large);
}

/* The squares of the smallest columns are nothing in f32, but products of these with others are not. */
static void test_tiny_inputs(void **state)
{
    (void)state;
    static const struct shape tiny = {.length = 8, .shift = -56};
    float *h = make_hessian(&tiny, &place.comm, -1, 2, SQ_F32);
    check_values(&tiny, h);
    free(h);
}

/* Their squares are finite, but not in f32. */
static void test_huge_inputs(void **state)
{
    (void)state;
    static const struct shape huge = {.length = 3, .shift = 44, .status = SQ_ERR_NUMERIC};
    free(make_hessian(&huge, &place.comm, -1, 2, SQ_F32));
}

static void test_bf16_inputs(void **state)
{
    (void)state;
    if (!place.backend->has_bf16) skip();
    const struct shape *shapes[] = {&short_shards, &long_shards, &piece_by_piece};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        float *h = make_hessian(shapes[i], &place.comm, -1, 2, SQ_BF16);
        check_values(shapes[i], h);
        free(h);
    }
}

static int run(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matches_double_precision),
        cmocka_unit_test(test_bits_do_not_depend_on_ranks_or_workers),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_slices),
        cmocka_unit_test(test_halves),
        cmocka_unit_test(test_bf16_inputs),
        cmocka_unit_test(test_inputs_on_the_host),
        cmocka_unit_test(test_rooms),
        cmocka_unit_test(test_unit),
        cmocka_unit_test(test_tiny_inputs),
        cmocka_unit_test(test_huge_inputs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    return place_main(&argc, &argv, run);
}
