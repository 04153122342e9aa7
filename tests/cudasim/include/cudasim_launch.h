/* sq_launch(kernel, grid, block, stream, args...): queues a kernel, as kernel<<<grid, block, 0, stream>>>(args...)
 * does. A macro here, so that messages can name the kernel. Returns cudaErrorInvalidConfiguration for a shape that no
 * GPU takes, cudaErrorInvalidValue for a pointer argument that is not in device or pinned memory. */
#ifndef CUDASIM_LAUNCH_H
#define CUDASIM_LAUNCH_H

#include <cuda_runtime.h>

#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

namespace cudasim
{
cudaError_t launch(const char *text, dim3 grid, dim3 block, cudaStream_t stream, std::function<void()> body);
bool kernel_may_use(const char *text, const void *pointer);

template <class T> bool argument_is_valid(const char *text, T value)
{
    if constexpr (std::is_pointer_v<T>)
        return kernel_may_use(text, (const void *)value);
    else
        return true;
}

template <class... P, class... A>
cudaError_t launch_kernel(const char *text, void (*kernel)(P...), dim3 grid, dim3 block, cudaStream_t stream, A... args)
{
    static_assert(sizeof...(P) == sizeof...(A), "the kernel takes another number of arguments");
    if (!(argument_is_valid<P>(text, args) && ...)) return cudaErrorInvalidValue;
    std::tuple<P...> copies(static_cast<P>(args)...);
    return launch(text, grid, block, stream, [kernel, copies] { std::apply(kernel, copies); });
}
} // namespace cudasim

#define sq_launch(...) cudasim::launch_kernel(#__VA_ARGS__, __VA_ARGS__)

#endif
