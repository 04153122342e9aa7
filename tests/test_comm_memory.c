/* Exchanges of ranks in the memory of their backends: hosts', and devices', over the devices' own links or, where they
 * share one, by way of the host. */
#define _GNU_SOURCE /* mkdtemp */
#include "ranks.h"

#include <stdlib.h>
#include <string.h>

#include "mpi/comm_memory.h"
#include "place_fixture.h"

#define PIECE ((size_t)32 << 20) /* that goes by way of the host at a time */
#define BEHIND 5                 /* bytes after what is received, which stay as they are */

typedef size_t size_fn(int from, int to);

static unsigned char byte_between(int from, int to, size_t i)
{
    return (unsigned char)(1 + 50 * from + 12 * to + (int)(i % 11));
}

/* What this rank has for all, or is to get from all: its bytes by rank, and their sum. */
static size_t set_sizes(size_fn *size, bool is_sender, size_t bytes[4])
{
    size_t all = 0;
    for (int r = 0; r < place.comm.size; r++) {
        bytes[r] = is_sender ? size(place.comm.rank, r) : size(r, place.comm.rank);
        all += bytes[r];
    }
    return all;
}

static unsigned char *fill(bool is_sender, const size_t bytes[4], size_t all)
{
    unsigned char *host = malloc(all + BEHIND);
    size_t at = 0;
    for (int r = 0; r < place.comm.size; r++)
        for (size_t i = 0; i < bytes[r]; i++)
            host[at++] = is_sender ? byte_between(place.comm.rank, r, i) : byte_between(r, place.comm.rank, i);
    memset(host + all, 'x', BEHIND);
    return host;
}

/* To each other rank one, between hosts; by way of the host one for each piece. */
static int64_t count_shifts(const size_t *to, const size_t *from)
{
    int rank = place.comm.rank, size = place.comm.size;
    int64_t count = 0;
    for (int distance = 1; distance < size; distance++) {
        size_t out = to[(rank + distance) % size], in = from[(rank + size - distance) % size];
        count += place.backend->is_host ? 1 : (int64_t)(((out > in ? out : in) + PIECE - 1) / PIECE);
    }
    return count;
}

/* Between devices one exchange of what leaves this rank, else shifts. */
static void check_traffic(const struct sq_traffic *traffic, const size_t *to, const size_t *from, size_t n_to)
{
    bool by_device = place.comm.device != NULL, is_alone = place.comm.size == 1;
    int64_t sent = is_alone ? 0 : (int64_t)(n_to - to[place.comm.rank]);
    CHECK(traffic->calls[SQ_TRAFFIC_EXCHANGE] == by_device);
    CHECK(traffic->bytes[SQ_TRAFFIC_EXCHANGE] == (by_device ? sent : 0));
    CHECK(traffic->calls[SQ_TRAFFIC_SHIFT] == (by_device ? 0 : count_shifts(to, from)));
    CHECK(traffic->bytes[SQ_TRAFFIC_SHIFT] == (by_device ? 0 : sent));
    CHECK(traffic->calls[SQ_TRAFFIC_AGREE] == (is_alone ? 0 : by_device ? 1 : 2));
}

static void check_exchange(size_fn *size)
{
    struct sq_traffic traffic = {.is_dry = false};
    struct sq_comm comm = place.comm;
    size_t to[4], from[4], n_to = set_sizes(size, true, to), n_from = set_sizes(size, false, from);
    unsigned char *given = fill(true, to, n_to), *wanted = fill(false, from, n_from), *got = malloc(n_from + BEHIND);
    void *send = backend_give(place.backend, given, n_to + BEHIND);
    memset(got, 'x', n_from + BEHIND);
    void *receive = backend_give(place.backend, got, n_from + BEHIND);
    comm.traffic = &traffic;
    CHECK(sq_comm_memory_exchange(&comm, place.backend, send, to, receive, from) == SQ_OK);
    backend_take(place.backend, receive, n_from + BEHIND, got);
    CHECK(memcmp(got, wanted, n_from + BEHIND) == 0);
    check_traffic(&traffic, to, from, n_to);
    backend_free(place.backend, send);
    backend_free(place.backend, receive);
    free(given), free(wanted), free(got);
}

/* --- sizes -------------------------------------------------------------------------------------------------------- */

/* None where `from` + 2 `to` is a multiple of five. */
static size_t few(int from, int to)
{
    return (size_t)((from + 2 * to) % 5);
}

static size_t odd(int from, int to)
{
    return few(from, to) * 99991;
}

/* From the last rank alone, but not to itself. */
static size_t from_last(int from, int to)
{
    return from == place.comm.size - 1 && to != from ? 1001 : 0;
}

static size_t to_first(int from, int to)
{
    return to == 0 && from > 0 ? 77 : 0;
}

static size_t own(int from, int to)
{
    return from == to ? 3 : 0;
}

static size_t none(int from, int to)
{
    (void)from, (void)to;
    return 0;
}

/* More than two pieces one way, and nearly two the other. */
static size_t above_a_piece(int from, int to)
{
    if (from > 1 || to > 1) return few(from, to);
    return from == to ? 1 : from == 0 ? 2 * PIECE + 7 : 2 * PIECE - 1;
}

static void test_exchanges(void **state)
{
    size_fn *const sizes[] = {few, odd, from_last, to_first, own, none};
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        check_exchange(sizes[i]);
    ranks_end_test();
}

static void test_exchange_above_a_piece(void **state)
{
    (void)state;
    check_exchange(above_a_piece);
    ranks_end_test();
}

/* --- failures ----------------------------------------------------------------------------------------------------- */

static enum sq_status fail_to_copy(struct sq_backend *backend, const void *source, size_t bytes, void *target)
{
    (void)backend, (void)source, (void)bytes, (void)target;
    return SQ_ERR_LIBRARY;
}

/* A rank that has failed before anything was sent: all of them say so, none waits for it. */
static void test_exchange_fails(void **state)
{
    (void)state;
    const struct sq_backend_ops *ops = place.backend->ops;
    struct sq_backend_ops failing = *ops;
    size_t bytes[4] = {2, 2, 2, 2};
    void *send = backend_give(place.backend, "sent to all", 8), *receive = backend_give(place.backend, "xxxxxxxx", 8);
    failing.copy = fail_to_copy;
    if (place.comm.rank == place.comm.size - 1) place.backend->ops = &failing;
    CHECK(sq_comm_memory_exchange(&place.comm, place.backend, send, bytes, receive, bytes) == SQ_ERR_LIBRARY);
    place.backend->ops = ops;
    CHECK(sq_comm_memory_exchange(&place.comm, place.backend, send, bytes, receive, bytes) == SQ_OK);
    backend_free(place.backend, send);
    backend_free(place.backend, receive);
    ranks_end_test();
}

/* --- parts -------------------------------------------------------------------------------------------------------- */

/* Every other rank: their sums go over the devices' links where those of all ranks do, and not where a part is one
 * rank.
 */
static void test_parts(void **state)
{
    (void)state;
    struct sq_traffic traffic = {.is_dry = false};
    struct sq_comm comm = place.comm, part;
    int64_t sum = 1000 + comm.rank, wanted = 0;
    comm.traffic = &traffic;
    CHECK(sq_comm_split(&comm, comm.rank % 2, &part) == SQ_OK);
    CHECK(sq_comm_memory_join(&comm, &part) == SQ_OK);
    CHECK((part.device != NULL) == (comm.device != NULL && part.size > 1));
    CHECK(traffic.calls[SQ_TRAFFIC_AGREE] + traffic.calls[SQ_TRAFFIC_BROADCAST] == 0);
    for (int r = comm.rank % 2; r < comm.size; r += 2)
        wanted += 1000 + r;
    void *memory = backend_give(place.backend, &sum, sizeof sum);
    CHECK(sq_comm_memory_sum_i64(&part, place.backend, memory, 1) == SQ_OK);
    backend_take(place.backend, memory, sizeof sum, &sum);
    CHECK(sum == wanted);
    CHECK(!part.device || traffic.calls[SQ_TRAFFIC_SUM] == 1); /* counted again once it has joined */
    backend_free(place.backend, memory);
    sq_comm_memory_leave(&part);
    CHECK(part.device == NULL);
    sq_comm_free(&part);
    ranks_end_test();
}

static int run(void)
{
    static const struct CMUnitTest tests[] = {cmocka_unit_test(test_exchanges),
                                              cmocka_unit_test(test_exchange_above_a_piece),
                                              cmocka_unit_test(test_exchange_fails), cmocka_unit_test(test_parts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    return place_main(&argc, &argv, run);
}
