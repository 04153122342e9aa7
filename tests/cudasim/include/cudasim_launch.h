/* sq_launch(kernel, grid, block, stream, args...): queues a kernel, as kernel<<<grid, block, 0, stream>>>(args...)
 * does. A macro here, so that messages can name the kernel. Returns the thread's last error, which an earlier call may
 * have left there; of its own it has cudaErrorInvalidConfiguration for a shape that no GPU takes, and
 * cudaErrorInvalidValue for a pointer argument that is not in device or pinned memory. */
#ifndef CUDASIM_LAUNCH_H
#define CUDASIM_LAUNCH_H

#include <cuda_runtime.h>

#include <tuple>
#include <type_traits>

namespace cudasim
{
/* A kernel and its arguments, which every thread reads. */
template <class... P> struct kernel_call {
    void (*kernel)(P...);
    std::tuple<P...> arguments;

    static void run(const void *self)
    {
        const kernel_call &call = *(const kernel_call *)self;
        std::apply(call.kernel, call.arguments);
    }

    static void destroy(const void *self)
    {
        delete (const kernel_call *)self;
    }
};

/* What one thread does: run(call). The call's bytes are all it may read beside the device's memory. */
struct thread_work {
    void (*run)(const void *call), (*destroy)(const void *call);
    const void *call; /* owned by the work */
    size_t bytes;
};

/* What goes wrong is the thread's last error. */
void launch(const char *text, dim3 grid, dim3 block, cudaStream_t stream, thread_work work);
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
    static_assert((std::is_trivially_copyable_v<P> && ...), "arguments travel as bytes");
    typedef kernel_call<P...> call;
    if ((argument_is_valid<P>(text, args) && ...))
        launch(text, grid, block, stream,
               {call::run, call::destroy, new call{kernel, {static_cast<P>(args)...}}, sizeof(call)});
    return cudaGetLastError();
}
} // namespace cudasim

#define sq_launch(...) cudasim::launch_kernel(#__VA_ARGS__, __VA_ARGS__)

#endif
