/* Dense products by oneDNN's matmul primitive, each on the calling thread alone. A product's primitive is made once for
 * its shapes and kept per worker; making it again would cost more than a small product. */
#include <dnnl.h>
#include <omp.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "tensor/cpu_private.h"
#include "tensor/kernels/solve.h"

#define CACHE_SLOTS 256 /* per worker; a job uses some dozens of shapes */

/* What a primitive is made for: c[m, n] = a[m, k] b[k, n], element (i, j) of a at i * a_strides[0] + j * a_strides[1].
 */
struct product_key {
    int64_t m, n, k;
    int64_t a_strides[2], b_strides[2], c_stride;
    int32_t in_dtype, out_dtype; /* enum sq_dtype */
    int32_t has_bias, sign;      /* c = a b (+ bias), or c += sign a b */
};

struct product {
    struct product_key key; /* m == 0: empty slot */
    dnnl_primitive_t primitive;
    dnnl_memory_t a, b, c, bias;
};

struct worker_cache {
    dnnl_stream_t stream;
    struct product slots[CACHE_SLOTS];
};

struct sq_cpu_gemm {
    dnnl_engine_t engine;
    int n_workers;
    struct worker_cache *workers; /* [n_workers] */
};

static enum sq_status checked(dnnl_status_t code, const char *what)
{
    if (code == dnnl_success) return SQ_OK;
    static const char *const words[] = {"success",       "out of memory", "invalid arguments", "unimplemented",
                                        "iterator ends", "runtime error", "not required"};
    const char *text = (size_t)code < sizeof words / sizeof *words ? words[code] : "unknown";
    sq_error("oneDNN: %s: %s", what, text);
    return code == dnnl_out_of_memory ? SQ_ERR_MEMORY : SQ_ERR_LIBRARY;
}

static void product_release(struct product *product)
{
    if (product->key.m == 0) return;
    dnnl_primitive_destroy(product->primitive);
    dnnl_memory_t memories[] = {product->a, product->b, product->c, product->bias};
    for (int i = 0; i < 4; i++)
        if (memories[i]) dnnl_memory_destroy(memories[i]);
    memset(product, 0, sizeof *product);
}

enum sq_status sq_cpu_gemm_create(int n_workers, struct sq_cpu_gemm **gemm_p)
{
    void *memory = NULL;
    SQ_TRY(sq_alloc("the GEMM engine", 1, sizeof(struct sq_cpu_gemm), &memory));
    struct sq_cpu_gemm *gemm = memory;
    enum sq_status status = sq_alloc("GEMM caches", n_workers, sizeof *gemm->workers, &memory);
    if (status != SQ_OK) goto out_free;
    gemm->workers = memory;
    /* oneDNN asks OpenMP how many threads to use when it makes a primitive: one, always */
    omp_set_num_threads(1);
    status = checked(dnnl_engine_create(&gemm->engine, dnnl_cpu, 0), "creating the CPU engine");
    if (status != SQ_OK) goto out_free_workers;
    gemm->n_workers = n_workers;
    for (int w = 0; w < n_workers && status == SQ_OK; w++)
        status = checked(dnnl_stream_create(&gemm->workers[w].stream, gemm->engine, dnnl_stream_default_flags),
                         "creating a stream");
    if (status != SQ_OK) goto out_destroy;
    *gemm_p = gemm;
    return SQ_OK;

out_destroy:
    sq_cpu_gemm_destroy(gemm);
    return status;
out_free_workers:
    sq_free(gemm->workers);
out_free:
    sq_free(gemm);
    return status;
}

void sq_cpu_gemm_destroy(struct sq_cpu_gemm *gemm)
{
    for (int w = 0; w < gemm->n_workers; w++) {
        for (int i = 0; i < CACHE_SLOTS; i++)
            product_release(&gemm->workers[w].slots[i]);
        if (gemm->workers[w].stream) dnnl_stream_destroy(gemm->workers[w].stream);
    }
    dnnl_engine_destroy(gemm->engine);
    sq_free(gemm->workers);
    sq_free(gemm);
}

bool sq_cpu_has_bf16(void)
{
    dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa(); /* a set of bits: "all" is not a processor's answer */
    return (isa & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16;
}

static dnnl_data_type_t dnnl_type(int32_t dtype)
{
    return dtype == SQ_BF16 ? dnnl_bf16 : dnnl_f32;
}

static enum sq_status make_memory(dnnl_engine_t engine, int64_t rows, int64_t cols, dnnl_data_type_t type,
                                  const int64_t strides[2], dnnl_memory_desc_t *desc_p, dnnl_memory_t *memory_p)
{
    dnnl_dims_t dims = {rows, cols}, steps = {strides[0], strides[1]};
    SQ_TRY(checked(dnnl_memory_desc_init_by_strides(desc_p, 2, dims, type, steps), "describing a matrix"));
    return checked(dnnl_memory_create(memory_p, desc_p, engine, NULL), "creating a memory object");
}

/* The primitive itself, from the descriptions of its matrices. */
static enum sq_status make_primitive(dnnl_engine_t engine, const struct product_key *key, const dnnl_memory_desc_t *a,
                                     const dnnl_memory_desc_t *b, const dnnl_memory_desc_t *bias,
                                     const dnnl_memory_desc_t *c, dnnl_primitive_t *primitive_p)
{
    dnnl_matmul_desc_t operation;
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_post_ops_t post_ops = NULL;
    dnnl_primitive_desc_t description = NULL;
    const float sign = (float)key->sign;
    SQ_TRY(checked(dnnl_matmul_desc_init(&operation, a, b, key->has_bias ? bias : NULL, c), "describing a product"));
    SQ_TRY(checked(dnnl_primitive_attr_create(&attributes), "creating attributes"));
    enum sq_status status = checked(dnnl_post_ops_create(&post_ops), "creating post-ops");
    if (status != SQ_OK) goto out_attributes;
    if (key->sign) status = checked(dnnl_post_ops_append_sum(post_ops, 1.0f), "adding a sum");
    if (key->sign < 0 && status == SQ_OK)
        status = checked(dnnl_primitive_attr_set_output_scales(attributes, 1, 0, &sign), "setting a sign");
    if (status == SQ_OK) status = checked(dnnl_primitive_attr_set_post_ops(attributes, post_ops), "setting post-ops");
    if (status != SQ_OK) goto out_post_ops;
    status =
        checked(dnnl_primitive_desc_create(&description, &operation, attributes, engine, NULL), "choosing a product");
    if (status != SQ_OK) goto out_post_ops;
    status = checked(dnnl_primitive_create(primitive_p, description), "creating a product");
    dnnl_primitive_desc_destroy(description);
out_post_ops:
    dnnl_post_ops_destroy(post_ops);
out_attributes:
    dnnl_primitive_attr_destroy(attributes);
    return status;
}

static enum sq_status product_make(dnnl_engine_t engine, const struct product_key *key, struct product *product)
{
    dnnl_data_type_t in = dnnl_type(key->in_dtype), out = dnnl_type(key->out_dtype);
    const int64_t c_strides[2] = {key->c_stride, 1}, bias_strides[2] = {key->n, 1};
    dnnl_memory_desc_t a, b, c, bias;
    *product = (struct product){.key = *key};
    enum sq_status status = make_memory(engine, key->m, key->k, in, key->a_strides, &a, &product->a);
    if (status == SQ_OK) status = make_memory(engine, key->k, key->n, in, key->b_strides, &b, &product->b);
    if (status == SQ_OK) status = make_memory(engine, key->m, key->n, out, c_strides, &c, &product->c);
    if (status == SQ_OK) status = make_memory(engine, 1, key->n, dnnl_f32, bias_strides, &bias, &product->bias);
    if (status == SQ_OK) status = make_primitive(engine, key, &a, &b, &bias, &c, &product->primitive);
    if (status != SQ_OK) product_release(product);
    return status;
}

static uint64_t key_hash(const struct product_key *key)
{
    const unsigned char *bytes = (const unsigned char *)key;
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (size_t i = 0; i < sizeof *key; i++)
        hash = (hash ^ bytes[i]) * 1099511628211u;
    return hash ^ (hash >> 29);
}

/* The cached product of this thread for the key, made on first use; a collision replaces the older one. */
static enum sq_status product_find(struct sq_cpu_gemm *gemm, const struct product_key *key,
                                   struct worker_cache **worker_p, struct product **product_p)
{
    struct worker_cache *worker = &gemm->workers[omp_get_thread_num()];
    struct product *product = &worker->slots[key_hash(key) % CACHE_SLOTS];
    if (memcmp(&product->key, key, sizeof *key) != 0) {
        product_release(product);
        SQ_TRY(product_make(gemm->engine, key, product));
    }
    *worker_p = worker;
    *product_p = product;
    return SQ_OK;
}

/* By the strides in the key. */
static enum sq_status multiply(struct sq_backend *backend, const struct product_key *key, void *a, void *b,
                               const float *bias, void *c)
{
    if (key->m == 0 || key->n == 0) return SQ_OK;
    struct worker_cache *worker;
    struct product *product;
    SQ_TRY(product_find(((struct sq_cpu *)backend)->gemm, key, &worker, &product));
    dnnl_memory_set_data_handle(product->a, a);
    dnnl_memory_set_data_handle(product->b, b);
    dnnl_memory_set_data_handle(product->c, c);
    dnnl_memory_set_data_handle(product->bias, (void *)(uintptr_t)bias);
    dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, product->a},
                              {DNNL_ARG_WEIGHTS, product->b},
                              {DNNL_ARG_DST, product->c},
                              {DNNL_ARG_BIAS, product->bias}};
    return checked(dnnl_primitive_execute(product->primitive, worker->stream, bias ? 4 : 3, args), "running a product");
}

enum sq_status sq_cpu_linear(struct sq_backend *backend, struct sq_matrix x, struct sq_matrix w, const float *bias,
                             struct sq_matrix y)
{
    struct product_key key = {.m = x.rows,
                              .n = w.rows,
                              .k = x.cols,
                              .a_strides = {x.stride, 1},
                              .b_strides = {1, w.stride},
                              .c_stride = y.stride,
                              .in_dtype = (int32_t)x.dtype,
                              .out_dtype = (int32_t)y.dtype,
                              .has_bias = bias != NULL};
    return multiply(backend, &key, x.data, w.data, bias, y.data);
}

/* An array of the solver's, whose products are of our own. */
static bool is_tile(struct sq_matrix m)
{
    return m.cols == SQ_SOLVE_ROWS && m.stride == SQ_SOLVE_ROWS;
}

enum sq_status sq_cpu_matmul(struct sq_backend *backend, struct sq_matrix a, struct sq_matrix b, bool accumulate,
                             struct sq_matrix c)
{
    if (is_tile(b) && is_tile(c) && a.cols > 0) {
        const struct sq_tile_factors factors = {a.data, a.stride, a.rows, a.cols, b.data, accumulate, c.data};
        ((struct sq_cpu *)backend)->solve->multiply(&factors);
        return SQ_OK;
    }
    struct product_key key = {.m = a.rows,
                              .n = b.cols,
                              .k = a.cols,
                              .a_strides = {a.stride, 1},
                              .b_strides = {b.stride, 1},
                              .c_stride = c.stride,
                              .in_dtype = (int32_t)a.dtype,
                              .out_dtype = (int32_t)c.dtype,
                              .sign = accumulate};
    return multiply(backend, &key, a.data, b.data, NULL, c.data);
}

enum sq_status sq_cpu_update(struct sq_backend *backend, struct sq_matrix a, struct sq_matrix b, struct sq_matrix c)
{
    struct product_key key = {.m = a.rows,
                              .n = b.rows,
                              .k = a.cols,
                              .a_strides = {a.stride, 1},
                              .b_strides = {1, b.stride},
                              .c_stride = c.stride,
                              .in_dtype = (int32_t)a.dtype,
                              .out_dtype = (int32_t)c.dtype,
                              .sign = -1};
    return multiply(backend, &key, a.data, b.data, NULL, c.data);
}
