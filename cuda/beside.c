/* Copies that go on beside the work, on streams of their own. */
#include "cuda/cuda_private.h"

enum sq_status sq_cuda_event_create(cudaEvent_t *event_p)
{
    return sq_cuda_checked(cudaEventCreateWithFlags(event_p, cudaEventDisableTiming), "creating an event");
}

enum sq_status sq_cuda_stream_create(cudaStream_t *stream_p)
{
    return sq_cuda_checked(cudaStreamCreateWithFlags(stream_p, cudaStreamNonBlocking), "creating a stream");
}

enum sq_status sq_cuda_beside_create(struct sq_cuda *cuda)
{
    SQ_TRY(sq_cuda_stream_create(&cuda->in));
    for (int lane = 0; lane < SQ_LANES; lane++)
        SQ_TRY(sq_cuda_event_create(&cuda->sent[lane]));
    for (int w = 0; w < cuda->n_made; w++) {
        SQ_TRY(sq_cuda_stream_create(&cuda->workers[w].out));
        SQ_TRY(sq_cuda_event_create(&cuda->workers[w].ready));
        SQ_TRY(sq_cuda_event_create(&cuda->workers[w].fetched));
    }
    return SQ_OK;
}

static void destroy_stream(cudaStream_t stream)
{
    if (!stream) return;
    (void)cudaStreamSynchronize(stream);
    (void)cudaStreamDestroy(stream);
}

/* What was never made is NULL. Errors on the way out change nothing. */
void sq_cuda_beside_destroy(struct sq_cuda *cuda)
{
    for (int w = 0; w < cuda->n_made; w++) {
        struct sq_cuda_worker *worker = &cuda->workers[w];
        destroy_stream(worker->out);
        if (worker->ready) (void)cudaEventDestroy(worker->ready);
        if (worker->fetched) (void)cudaEventDestroy(worker->fetched);
        sq_cuda_timer_destroy(&worker->timer);
        sq_cuda_timer_destroy(&worker->out_timer);
    }
    destroy_stream(cuda->in);
    for (int lane = 0; lane < SQ_LANES; lane++)
        if (cuda->sent[lane]) (void)cudaEventDestroy(cuda->sent[lane]);
    sq_cuda_timer_destroy(&cuda->in_timer);
    sq_cuda_timer_destroy(&cuda->nccl_timer);
    sq_cuda_timer_destroy(&cuda->gather_timer);
    sq_cuda_timer_destroy(&cuda->broadcast_timer);
    sq_cuda_timer_destroy(&cuda->sum_timer);
    if (cuda->origin) (void)cudaEventDestroy(cuda->origin);
}

/* --- results on their way out ------------------------------------------------------------------------------------- */

enum sq_status sq_cuda_fetch_out(struct sq_backend *backend, const void *memory, size_t bytes, void *host)
{
    struct sq_cuda_worker *worker = sq_cuda_worker(backend);
    if (bytes == 0) return SQ_OK;
    if (!((const struct sq_cuda *)backend)->is_parallel) return sq_cuda_download(backend, memory, bytes, host);
    SQ_TRY(sq_cuda_checked(cudaEventRecord(worker->ready, worker->stream), "marking a result"));
    SQ_TRY(sq_cuda_checked(cudaStreamWaitEvent(worker->out, worker->ready, 0), "waiting for a result"));
    SQ_TRY(sq_cuda_timer_begin(&worker->out_timer, worker->out));
    SQ_TRY(sq_cuda_checked(cudaMemcpyAsync(host, memory, bytes, cudaMemcpyDeviceToHost, worker->out), "a download"));
    SQ_TRY(sq_cuda_timer_end(&worker->out_timer, worker->out, bytes));
    return sq_cuda_checked(cudaEventRecord(worker->fetched, worker->out), "marking a download");
}

enum sq_status sq_cuda_settle(struct sq_backend *backend)
{
    const struct sq_cuda_worker *worker = sq_cuda_worker(backend);
    return sq_cuda_checked(cudaStreamWaitEvent(worker->stream, worker->fetched, 0), "waiting for a download");
}

/* --- inputs on their way in --------------------------------------------------------------------------------------- */

enum sq_status sq_cuda_send(struct sq_backend *backend, int lane, const void *host, size_t bytes, void *memory)
{
    struct sq_cuda *cuda = (struct sq_cuda *)backend;
    SQ_TRY(sq_cuda_timer_begin(&cuda->in_timer, cuda->in));
    SQ_TRY(sq_cuda_checked(cudaMemcpyAsync(memory, host, bytes, cudaMemcpyHostToDevice, cuda->in), "an upload"));
    SQ_TRY(sq_cuda_timer_end(&cuda->in_timer, cuda->in, bytes));
    return sq_cuda_checked(cudaEventRecord(cuda->sent[lane], cuda->in), "marking an upload");
}

enum sq_status sq_cuda_sent(struct sq_backend *backend, int lane)
{
    return sq_cuda_checked(cudaEventSynchronize(((const struct sq_cuda *)backend)->sent[lane]), "an upload");
}

enum sq_status sq_cuda_receive(struct sq_backend *backend)
{
    const struct sq_cuda *cuda = (const struct sq_cuda *)backend;
    cudaStream_t stream = sq_cuda_worker(backend)->stream;
    for (int lane = 0; lane < SQ_LANES; lane++)
        SQ_TRY(sq_cuda_checked(cudaStreamWaitEvent(stream, cuda->sent[lane], 0), "waiting for an upload"));
    return SQ_OK;
}
