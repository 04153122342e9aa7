/* Spans of streams in the trace, from events: what a stream really did when, beside what the host saw. */
#include "base/clock.h"
#include "cuda/cuda_private.h"

#define OLD_SECONDS 30.0 /* of the origin: times are f32 milliseconds */

static enum sq_status record(cudaEvent_t *event, cudaStream_t stream)
{
    if (!*event) SQ_TRY(sq_cuda_checked(cudaEventCreateWithFlags(event, cudaEventDefault), "creating an event"));
    return sq_cuda_checked(cudaEventRecord(*event, stream), "marking a time");
}

enum sq_status sq_cuda_timer_begin(struct sq_cuda_timer *timer, cudaStream_t stream)
{
    if (sq_trace_now() == 0 || timer->count == SQ_CUDA_TIMED) return SQ_OK;
    return record(&timer->begin[timer->count], stream);
}

enum sq_status sq_cuda_timer_end(struct sq_cuda_timer *timer, cudaStream_t stream, size_t bytes)
{
    int last = timer->count < SQ_CUDA_TIMED ? timer->count : SQ_CUDA_TIMED - 1;
    if (sq_trace_now() == 0) return SQ_OK;
    SQ_TRY(record(&timer->end[last], stream));
    if (last == timer->count) timer->bytes[timer->count++] = 0;
    timer->bytes[last] += (int64_t)bytes;
    return SQ_OK;
}

static bool has_spans(const struct sq_cuda *cuda)
{
    int count = cuda->in_timer.count + cuda->nccl_timer.count + cuda->sum_timer.count + cuda->gather_timer.count +
                cuda->broadcast_timer.count;
    for (int w = 0; w < cuda->n_made; w++)
        count += cuda->workers[w].timer.count + cuda->workers[w].out_timer.count;
    return count > 0;
}

/* What began before the origin would have to be counted backwards. */
enum sq_status sq_cuda_timeline_start(struct sq_cuda *cuda)
{
    double now = sq_trace_now();
    bool is_young = cuda->origin && now - cuda->origin_seconds < OLD_SECONDS;
    if (now == 0 || is_young || has_spans(cuda)) return SQ_OK;
    SQ_TRY(record(&cuda->origin, cuda->workers[0].stream));
    SQ_TRY(sq_cuda_checked(cudaEventSynchronize(cuda->origin), "marking a time"));
    cuda->origin_seconds = sq_seconds();
    return SQ_OK;
}

static enum sq_status seconds_after(cudaEvent_t first, cudaEvent_t second, double *seconds_p)
{
    float milliseconds = 0;
    SQ_TRY(sq_cuda_checked(cudaEventElapsedTime(&milliseconds, first, second), "asking for a time"));
    *seconds_p = 1e-3 * (double)milliseconds;
    return SQ_OK;
}

static enum sq_status show(const struct sq_cuda *cuda, const struct sq_cuda_timer *timer, int index,
                           enum sq_trace_kind kind, int stream, const char *name)
{
    double start = 0, seconds = 0;
    SQ_TRY(seconds_after(cuda->origin, timer->begin[index], &start));
    SQ_TRY(seconds_after(timer->begin[index], timer->end[index], &seconds));
    sq_trace_add_beside(kind, stream, name, cuda->origin_seconds + start, seconds, timer->bytes[index]);
    return SQ_OK;
}

/* The first `count` spans make room for those after them; events are only moved. */
static void forget(struct sq_cuda_timer *timer, int count)
{
    for (int i = 0; i + count < timer->count; i++) {
        cudaEvent_t begin = timer->begin[i], end = timer->end[i];
        timer->begin[i] = timer->begin[i + count];
        timer->end[i] = timer->end[i + count];
        timer->bytes[i] = timer->bytes[i + count];
        timer->begin[i + count] = begin;
        timer->end[i + count] = end;
    }
    timer->count -= count;
}

enum sq_status sq_cuda_timer_show(const struct sq_cuda *cuda, struct sq_cuda_timer *timer, enum sq_trace_kind kind,
                                  int stream, const char *name)
{
    int n_done = 0;
    for (; n_done < timer->count; n_done++) {
        bool done;
        SQ_TRY(sq_cuda_answered(cudaEventQuery(timer->end[n_done]), "asking for a time", &done));
        if (!done) break;
        SQ_TRY(show(cuda, timer, n_done, kind, stream, name));
    }
    forget(timer, n_done);
    return SQ_OK;
}

enum sq_status sq_cuda_timeline_show(struct sq_cuda *cuda)
{
    if (!cuda->origin) return SQ_OK;
    for (int w = 0; w < cuda->n_made; w++) {
        SQ_TRY(sq_cuda_timer_show(cuda, &cuda->workers[w].timer, SQ_TRACE_COMPUTE, w, NULL));
        SQ_TRY(sq_cuda_timer_show(cuda, &cuda->workers[w].out_timer, SQ_TRACE_COPY_OUT, w, "results"));
    }
    SQ_TRY(sq_cuda_timer_show(cuda, &cuda->sum_timer, SQ_TRACE_NCCL, 0, "a sum over ranks"));
    SQ_TRY(sq_cuda_timer_show(cuda, &cuda->gather_timer, SQ_TRACE_NCCL, 0, "gathering"));
    SQ_TRY(sq_cuda_timer_show(cuda, &cuda->broadcast_timer, SQ_TRACE_NCCL, 0, "a broadcast"));
    return sq_cuda_timer_show(cuda, &cuda->in_timer, SQ_TRACE_COPY_IN, 0, "uploads");
}

void sq_cuda_timer_destroy(struct sq_cuda_timer *timer)
{
    for (int i = 0; i < SQ_CUDA_TIMED; i++) {
        if (timer->begin[i]) (void)cudaEventDestroy(timer->begin[i]);
        if (timer->end[i]) (void)cudaEventDestroy(timer->end[i]);
    }
}
