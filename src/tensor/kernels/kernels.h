/* Plain-C inner loops compiled once per instruction set (cmake/KernelVariants.cmake) and chosen at run time.
 * Each source in this folder defines one const table, named SQ_KERNEL(table): table_generic, table_avx2, table_avx512,
 * table_avx512bf16, table_amx. */
#ifndef SQ_TENSOR_KERNELS_H
#define SQ_TENSOR_KERNELS_H

#define SQ_KERNEL_JOIN2(name, variant) name##_##variant
#define SQ_KERNEL_JOIN(name, variant) SQ_KERNEL_JOIN2(name, variant)
#define SQ_KERNEL(name) SQ_KERNEL_JOIN(name, SQ_KERNEL_VARIANT)

/* Tile registers (Intel AMX) for bf16, by the names of gcc and of older clang. */
#if defined(__AMX_BF16__) || defined(__AMXBF16__)
#define SQ_KERNEL_TILES
#endif

struct sq_forward_kernels;   /* kernels/forward.h */
struct sq_solve_kernels;     /* kernels/solve.h */
struct sq_hessian_kernels;   /* kernels/hessian.h */
struct sq_gram_kernels;      /* kernels/gram.h */
struct sq_attention_kernels; /* kernels/attention.h */

#define SQ_KERNEL_TABLES(variant)                                                                                      \
    extern const struct sq_forward_kernels sq_forward_kernels_##variant;                                               \
    extern const struct sq_solve_kernels sq_solve_kernels_##variant;                                                   \
    extern const struct sq_hessian_kernels sq_hessian_kernels_##variant;                                               \
    extern const struct sq_gram_kernels sq_gram_kernels_##variant;                                                     \
    extern const struct sq_attention_kernels sq_attention_kernels_##variant
SQ_KERNEL_TABLES(generic);
SQ_KERNEL_TABLES(avx2);
SQ_KERNEL_TABLES(avx512);
SQ_KERNEL_TABLES(avx512bf16);
SQ_KERNEL_TABLES(amx);

#endif
