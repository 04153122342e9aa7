/* Plain-C inner loops compiled once per instruction set (cmake/KernelVariants.cmake) and chosen at run time.
 * Each source in this folder defines one const table, named SQ_KERNEL(table): table_generic, table_avx2, table_avx512.
 */
#ifndef SQ_TENSOR_KERNELS_H
#define SQ_TENSOR_KERNELS_H

#define SQ_KERNEL_JOIN2(name, variant) name##_##variant
#define SQ_KERNEL_JOIN(name, variant) SQ_KERNEL_JOIN2(name, variant)
#define SQ_KERNEL(name) SQ_KERNEL_JOIN(name, SQ_KERNEL_VARIANT)

struct sq_forward_kernels; /* kernels/forward.h */
struct sq_solve_kernels;   /* kernels/solve.h */
struct sq_hessian_kernels; /* kernels/hessian.h */

extern const struct sq_forward_kernels sq_forward_kernels_generic, sq_forward_kernels_avx2, sq_forward_kernels_avx512;
extern const struct sq_solve_kernels sq_solve_kernels_generic, sq_solve_kernels_avx2, sq_solve_kernels_avx512;
extern const struct sq_hessian_kernels sq_hessian_kernels_generic, sq_hessian_kernels_avx2, sq_hessian_kernels_avx512;

#endif
