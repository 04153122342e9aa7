// Streams and events. A stream is a queue of operations, numbered from 1 (tickets); an event remembers the ticket of
// its last record. Nothing runs by itself: waiting runs what is waited for, and the order of settings may let more run
// at any call.
#include "sim.hpp"

#include <algorithm>
#include <chrono>
#include <deque>
#include <vector>

using cudasim::operation;

struct CUstream_st {
    int device = 0;
    uint64_t queued = 0, done = 0;
    bool busy = false; // some thread is inside its first operation
    std::deque<operation> queue;
};

struct CUevent_st {
    struct record {
        cudaStream_t stream;
        uint64_t ticket;
        bool done = false;
        std::chrono::steady_clock::time_point when;
    };
    bool timed;
    std::shared_ptr<record> last; // empty: never recorded, which counts as done
};

namespace cudasim
{
namespace
{
struct stream_state {
    std::vector<cudaStream_t> streams;
    std::vector<cudaEvent_t> events;
    uint64_t random = 0; // state of the generator; 0: not seeded yet
};

stream_state &state()
{
    static stream_state *const all = new stream_state;
    return *all;
}

bool is_stream(cudaStream_t stream)
{
    const auto &all = state().streams;
    return std::find(all.begin(), all.end(), stream) != all.end();
}

bool is_event(cudaEvent_t event)
{
    const auto &all = state().events;
    return std::find(all.begin(), all.end(), event) != all.end();
}

uint64_t random_number()
{
    uint64_t &x = state().random; // xorshift64
    if (!x) x = get_settings().seed * 0x9E3779B97F4A7C15u + 1;
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    return x >> 16;
}

// Runs the first operation, which is ready.
void step(cudaStream_t stream)
{
    operation op = std::move(stream->queue.front());
    stream->queue.pop_front();
    stream->busy = true;
    {
        device_work work(op.what.c_str(), stream->device);
        op.run();
    }
    stream->busy = false;
    stream->done++;
}

// One step without waiting; false if the stream is empty, stands still or is in use.
bool try_step(cudaStream_t stream)
{
    if (stream->busy || stream->queue.empty()) return false;
    if (stream->queue.front().ready && !stream->queue.front().ready()) return false;
    step(stream);
    return true;
}

// What the order of settings lets run at a call that need not run anything.
void let_run()
{
    auto &all = state().streams;
    if (all.empty()) return;
    if (get_settings().seed)
        for (uint64_t left = random_number() % 4; left > 0; left--)
            try_step(all[random_number() % all.size()]);
    else if (get_settings().early)
        while (step_all())
            ;
}

// A device does not go on beside a copy of memory that is not pinned: who means it to has lost that without a word.
void refuse_behind_pageable(cudaStream_t stream, const operation &op)
{
    for (const operation &before : stream->queue)
        if (before.pageable)
            die("%s is queued behind a %s of host memory that is not pinned, for which nobody has waited",
                op.what.c_str(), before.what.c_str());
}

void finish(cudaStream_t stream)
{
    run_until(stream, stream->queued);
}

operation waiting_for(std::shared_ptr<CUevent_st::record> record)
{
    auto ready = [record] {
        if (!record->done) try_step(record->stream); // as the device would go on there
        return record->done;
    };
    auto await = [record] {
        if (!record->done) run_until(record->stream, record->ticket);
    };
    return {"cudaStreamWaitEvent", [] {}, ready, await};
}
} // namespace

cudaError_t enqueue(cudaStream_t stream, operation op)
{
    stop_if_told_to(op.what);
    if (!is_stream(stream) || stream->device != current_device()) {
        complain("%s: %s", op.what.c_str(),
                 !stream             ? "the default stream is not simulated"
                 : is_stream(stream) ? "the stream is one of another device"
                                     : "no such stream");
        return cudaErrorInvalidResourceHandle;
    }
    refuse_behind_pageable(stream, op);
    stream->queue.push_back(std::move(op));
    stream->queued++;
    let_run();
    return cudaSuccess;
}

uint64_t last_ticket(cudaStream_t stream)
{
    return stream->queued;
}

void run_until(cudaStream_t stream, uint64_t ticket)
{
    while (stream->done < ticket) {
        if (stream->busy) {
            wait_a_little();
            continue;
        }
        if (stream->queue.front().await) {
            stream->busy = true;
            auto await = stream->queue.front().await;
            await();
            stream->busy = false;
        }
        step(stream);
    }
}

bool step_all()
{
    bool moved = false;
    for (size_t i = 0; i < state().streams.size(); i++)
        moved = try_step(state().streams[i]) || moved;
    return moved;
}

void run_everything()
{
    auto &all = state().streams;
    for (size_t i = all.size(); i-- > 0;) // later streams first
        if (i < all.size())               // others may come and go while one waits
            finish(all[i]);
}
} // namespace cudasim

using namespace cudasim;

// --- streams -------------------------------------------------------------------------------------------------------

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned int flags)
{
    call guard;
    if (flags != cudaStreamNonBlocking) {
        complain("cudaStreamCreateWithFlags: streams that wait for the default stream are not simulated");
        return failed(cudaErrorInvalidValue);
    }
    if (should_fail(kind::create)) return failed(cudaErrorMemoryAllocation);
    *stream = new CUstream_st;
    (*stream)->device = current_device();
    state().streams.push_back(*stream);
    count_object("streams", 1);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    call guard;
    if (!is_stream(stream)) return failed(cudaErrorInvalidResourceHandle);
    finish(stream);
    auto &all = state().streams;
    all.erase(std::find(all.begin(), all.end(), stream));
    delete stream;
    count_object("streams", -1);
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    call guard;
    if (!is_stream(stream)) return failed(cudaErrorInvalidResourceHandle);
    if (should_fail(kind::sync)) return failed(cudaErrorLaunchFailure);
    let_run();
    finish(stream);
    return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    call guard;
    if (!is_stream(stream)) return failed(cudaErrorInvalidResourceHandle);
    if (should_fail(kind::sync)) return failed(cudaErrorLaunchFailure);
    let_run();
    try_step(stream); // who asks again and again must get there
    return failed(stream->done == stream->queued ? cudaSuccess : cudaErrorNotReady);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int flags)
{
    call guard;
    if (!is_event(event)) return failed(cudaErrorInvalidResourceHandle);
    if (flags != 0) return failed(cudaErrorInvalidValue);
    if (!event->last) return cudaSuccess;
    return failed(enqueue(stream, waiting_for(event->last)));
}

cudaError_t cudaDeviceSynchronize(void)
{
    call guard;
    if (should_fail(kind::sync)) return failed(cudaErrorLaunchFailure);
    run_everything();
    return cudaSuccess;
}

// --- events --------------------------------------------------------------------------------------------------------

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned int flags)
{
    call guard;
    if (flags != cudaEventDefault && flags != cudaEventDisableTiming) return failed(cudaErrorInvalidValue);
    if (should_fail(kind::create)) return failed(cudaErrorMemoryAllocation);
    *event = new CUevent_st{flags == cudaEventDefault, nullptr};
    state().events.push_back(*event);
    count_object("events", 1);
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    call guard;
    if (!is_event(event)) return failed(cudaErrorInvalidResourceHandle);
    auto &all = state().events;
    all.erase(std::find(all.begin(), all.end(), event));
    delete event;
    count_object("events", -1);
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    call guard;
    if (!is_event(event) || !is_stream(stream)) return failed(cudaErrorInvalidResourceHandle);
    auto record = std::make_shared<CUevent_st::record>();
    record->stream = stream;
    record->ticket = stream->queued + 1;
    event->last = record;
    auto run = [record] {
        record->done = true;
        record->when = std::chrono::steady_clock::now();
    };
    return failed(enqueue(stream, {"cudaEventRecord", run, nullptr, nullptr}));
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    call guard;
    if (!is_event(event)) return failed(cudaErrorInvalidResourceHandle);
    if (should_fail(kind::sync)) return failed(cudaErrorLaunchFailure);
    auto record = event->last;
    if (record && !record->done) run_until(record->stream, record->ticket);
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    call guard;
    if (!is_event(event)) return failed(cudaErrorInvalidResourceHandle);
    if (should_fail(kind::sync)) return failed(cudaErrorLaunchFailure);
    let_run();
    auto record = event->last;
    if (record && !record->done) try_step(record->stream);
    return failed(!record || record->done ? cudaSuccess : cudaErrorNotReady);
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end)
{
    call guard;
    if (!is_event(start) || !is_event(end) || !start->timed || !end->timed || !start->last || !end->last)
        return failed(cudaErrorInvalidResourceHandle);
    if (!start->last->done || !end->last->done) return failed(cudaErrorNotReady);
    *milliseconds = std::chrono::duration<float, std::milli>(end->last->when - start->last->when).count();
    return cudaSuccess;
}
