#define _POSIX_C_SOURCE 200809L
#include "mpi/trace_file.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/node.h"
#include "base/trace.h"

static const char *const tracks[SQ_N_TRACE] = {
    [SQ_TRACE_STAGE] = "stages",   [SQ_TRACE_COLLECTIVE] = "collectives", [SQ_TRACE_FILES] = "files",
    [SQ_TRACE_COMPUTE] = "stream", [SQ_TRACE_COPY_IN] = "copies in",      [SQ_TRACE_COPY_OUT] = "copies out of stream",
    [SQ_TRACE_NCCL] = "NCCL"};

struct writer {
    const char *path;
    char *tmp;
    FILE *file; /* rank 0 */
};

static enum sq_status cannot(const char *what, const char *path)
{
    sq_error("cannot %s trace %s: %s", what, path, strerror(errno));
    return SQ_ERR_IO;
}

static enum sq_status open_file(struct writer *writer)
{
    writer->file = fopen(writer->tmp, "w");
    return writer->file ? SQ_OK : cannot("open", writer->tmp);
}

enum sq_status sq_trace_file_begin(const struct sq_comm *comm, const char *path)
{
    struct writer writer = {.path = path};
    enum sq_status status = sq_string_format(&writer.tmp, "%s.tmp", path);
    if (status == SQ_OK && comm->rank == 0) status = open_file(&writer);
    if (writer.file) fclose(writer.file);
    if (writer.file) unlink(writer.tmp);
    sq_free(writer.tmp);
    status = sq_comm_agree(comm, status);
    if (status == SQ_OK && comm->size > 1) status = sq_comm_barrier(comm);
    if (status == SQ_OK) sq_trace_start();
    return status;
}

/* What a rank's part needs to know. */
struct about {
    int n_ranks, n_threads;
    int64_t planned_bytes;
};

/* --- one rank's part ---------------------------------------------------------------------------------------------- */

static int process_of(int rank)
{
    return rank + 1;
}

static int thread_of(const struct about *about, int rank, int track)
{
    return about->n_ranks + SQ_N_TRACE * SQ_TRACE_STREAMS * rank + track + 1;
}

static void write_names(const struct about *about, int rank, const char *host, FILE *file)
{
    int process = process_of(rank);
    fprintf(file, "{\"ph\":\"M\",\"pid\":%d,\"name\":\"process_name\",\"args\":{\"name\":\"rank %d on %s\"}},\n",
            process, rank, host);
    fprintf(file, "{\"ph\":\"M\",\"pid\":%d,\"name\":\"process_sort_index\",\"args\":{\"sort_index\":%d}},\n", process,
            rank);
    for (int track = 0; track <= SQ_TRACE_FILES; track++)
        fprintf(file, "{\"ph\":\"M\",\"pid\":%d,\"tid\":%d,\"name\":\"thread_name\",\"args\":{\"name\":\"%s\"}},\n",
                process, thread_of(about, rank, track), tracks[track]);
}

/* Streams come after the three that every rank has. */
static int track_of(const struct sq_trace_span *span)
{
    return span->kind <= SQ_TRACE_FILES ? (int)span->kind : (int)span->kind * SQ_TRACE_STREAMS + span->stream;
}

/* The names of the streams that have spans. */
static void write_streams(const struct about *about, int rank, const struct sq_trace_span *spans, int64_t count,
                          FILE *file)
{
    bool seen[SQ_N_TRACE][SQ_TRACE_STREAMS] = {{false}};
    for (int64_t i = 0; i < count; i++) {
        const struct sq_trace_span *span = &spans[i];
        bool is_one = span->kind == SQ_TRACE_COPY_IN || span->kind == SQ_TRACE_NCCL; /* there is no other */
        char number[16] = "";
        if (span->kind <= SQ_TRACE_FILES || seen[span->kind][span->stream]) continue;
        seen[span->kind][span->stream] = true;
        if (!is_one) snprintf(number, sizeof number, " %d", span->stream);
        fprintf(file, "{\"ph\":\"M\",\"pid\":%d,\"tid\":%d,\"name\":\"thread_name\",\"args\":{\"name\":\"%s%s\"}},\n",
                process_of(rank), thread_of(about, rank, track_of(span)), tracks[span->kind], number);
    }
}

/* Microseconds with three digits, of seconds. */
static const char *microseconds(double seconds, char text[32])
{
    long long nanoseconds = llround(1e9 * seconds);
    snprintf(text, 32, "%lld.%03lld", nanoseconds / 1000, nanoseconds % 1000);
    return text;
}

static void write_span(const struct about *about, int rank, const struct sq_trace_span *span, FILE *file)
{
    char start[32], length[32], end[32];
    double last = span->start + span->seconds;
    double rounded = 1e-9 * (double)(llround(1e9 * last) - llround(1e9 * span->start));
    fprintf(file,
            "{\"ph\":\"X\",\"pid\":%d,\"tid\":%d,\"cat\":\"%s\",\"name\":\"%s\",\"ts\":%s,\"dur\":%s,\"args\":{"
            "\"block\":%" PRId64 ",\"bytes\":%" PRId64 "}},\n",
            process_of(rank), thread_of(about, rank, track_of(span)), tracks[span->kind],
            span->name ? span->name : "other work", microseconds(span->start, start), microseconds(rounded, length),
            span->block, span->bytes);
    if (span->held > 0)
        fprintf(file, "{\"ph\":\"C\",\"pid\":%d,\"name\":\"memory\",\"ts\":%s,\"args\":{\"bytes\":%" PRId64 "}},\n",
                process_of(rank), microseconds(last, end), span->held);
}

static void host_name(char name[64])
{
    if (gethostname(name, 63)) snprintf(name, 64, "?");
    name[63] = '\0';
    for (char *c = name; *c; c++)
        if (*c == '"' || *c == '\\' || (unsigned char)*c < 0x20) *c = '?';
}

static void write_events(const struct about *about, int rank, FILE *file)
{
    char host[64];
    int64_t count;
    const struct sq_trace_span *spans = sq_trace_spans(&count);
    host_name(host);
    write_names(about, rank, host, file);
    write_streams(about, rank, spans, count, file);
    for (int64_t i = 0; i < count; i++)
        write_span(about, rank, &spans[i], file);
}

static void write_rank(int rank, int n_threads, int64_t planned_bytes, FILE *file)
{
    char host[64];
    int count;
    const struct sq_trace_sum *sums = sq_trace_sums(&count);
    host_name(host);
    fprintf(file,
            "%s{\"rank\":%d,\"host\":\"%s\",\"threads\":%d,\"peak_bytes\":%" PRId64 ",\"planned_bytes\":%" PRId64
            ",\"sums\":[",
            rank ? ",\n" : "", rank, host, n_threads, sq_process_peak_memory(), planned_bytes);
    for (int i = 0; i < count; i++)
        fprintf(file,
                "%s{\"kind\":\"%s\",\"name\":\"%s\",\"calls\":%" PRId64 ",\"bytes\":%" PRId64 ",\"seconds\":%.6f}",
                i ? "," : "", tracks[sums[i].kind], sums[i].name, sums[i].calls, sums[i].bytes, sums[i].seconds);
    fputs("]}", file);
}

/* --- all ranks' parts, one after the other through rank 0 ----------------------------------------------------------
 */

struct text {
    char *bytes;
    size_t count;
};

typedef void write_fn(void *context, int rank, FILE *file);

static enum sq_status make_text(write_fn *write, void *context, int rank, struct text *text)
{
    FILE *memory = open_memstream(&text->bytes, &text->count);
    if (memory) write(context, rank, memory);
    if (memory && fclose(memory) == 0) return SQ_OK;
    sq_error("cannot write the trace to memory");
    return SQ_ERR_MEMORY;
}

/* Every rank gets the sender's text, rank 0 writes it: one rank's text is in memory at a time. */
static enum sq_status pass_text(const struct sq_comm *comm, struct writer *writer, int sender, const struct text *own)
{
    int64_t bytes = comm->rank == sender ? (int64_t)own->count : 0;
    void *memory = NULL;
    SQ_TRY(sq_comm_broadcast(comm, sender, &bytes, sizeof bytes));
    SQ_TRY(sq_comm_agree(comm, sq_alloc("a rank's part of the trace", bytes, 1, &memory)));
    if (comm->rank == sender) memcpy(memory, own->bytes, own->count);
    enum sq_status status = sq_comm_broadcast(comm, sender, memory, (size_t)bytes);
    if (writer->file) fwrite(memory, 1, (size_t)bytes, writer->file);
    sq_free(memory);
    return status;
}

static enum sq_status pass_all(const struct sq_comm *comm, struct writer *writer, write_fn *write, void *context)
{
    struct text own = {0};
    enum sq_status status = sq_comm_agree(comm, make_text(write, context, comm->rank, &own));
    for (int sender = 0; sender < comm->size && status == SQ_OK; sender++)
        status = pass_text(comm, writer, sender, &own);
    free(own.bytes);
    return status;
}

static void write_events_of(void *context, int rank, FILE *file)
{
    write_events(context, rank, file);
}

static void write_rank_of(void *context, int rank, FILE *file)
{
    const struct about *about = context;
    write_rank(rank, about->n_threads, about->planned_bytes, file);
}

static enum sq_status write_all(const struct sq_comm *comm, struct writer *writer, struct about *about, double seconds)
{
    if (writer->file) fputs("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n", writer->file);
    SQ_TRY(pass_all(comm, writer, write_events_of, about));
    if (writer->file)
        fprintf(writer->file,
                "{\"ph\":\"M\",\"pid\":1,\"name\":\"process_labels\",\"args\":{\"labels\":\"shardq\"}}],\n"
                "\"otherData\":{\"program\":\"shardq " SHARDQ_VERSION "\",\"seconds\":%.6f,\"ranks\":[\n",
                seconds);
    SQ_TRY(pass_all(comm, writer, write_rank_of, about));
    if (writer->file) fputs("]}}\n", writer->file);
    return SQ_OK;
}

static enum sq_status close_file(struct writer *writer, enum sq_status status)
{
    bool good = fflush(writer->file) == 0 && !ferror(writer->file);
    if (status == SQ_OK && !good) status = cannot("write", writer->tmp);
    fclose(writer->file);
    if (status == SQ_OK && rename(writer->tmp, writer->path)) status = cannot("rename", writer->tmp);
    if (status != SQ_OK) unlink(writer->tmp);
    return status;
}

static double last_end(void)
{
    int64_t count;
    double end = 0;
    const struct sq_trace_span *spans = sq_trace_spans(&count);
    for (int64_t i = 0; i < count; i++)
        if (spans[i].start + spans[i].seconds > end) end = spans[i].start + spans[i].seconds;
    return end;
}

enum sq_status sq_trace_file_finish(const struct sq_comm *comm, const char *path, int n_threads, int64_t planned_bytes)
{
    struct writer writer = {.path = path};
    struct about about = {comm->size, n_threads, planned_bytes};
    sq_trace_pause();
    double end = last_end();
    enum sq_status status = sq_string_format(&writer.tmp, "%s.tmp", path);
    if (status == SQ_OK && comm->rank == 0) status = open_file(&writer);
    status = sq_comm_agree(comm, status);
    if (status == SQ_OK) status = sq_comm_max_f64(comm, &end, 1);
    if (status == SQ_OK) status = write_all(comm, &writer, &about, end);
    if (writer.file) status = close_file(&writer, status);
    sq_free(writer.tmp);
    sq_trace_stop();
    return sq_comm_agree(comm, status);
}
