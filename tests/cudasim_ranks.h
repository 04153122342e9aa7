/* Tests of the stand-in's NCCL: each rank is a child process, so ranks may fail, hang back and die. */
#ifndef CUDASIM_RANKS_H
#define CUDASIM_RANKS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <cudasim.h>
#include <nccl.h>

enum { max_ranks = 4 };

/* One rank's side: what a body works with. */
struct rank {
    int rank, ranks;
    ncclUniqueId id;
    ncclComm_t comm;
    cudaStream_t stream;
    int bell[2]; /* pipes between the ranks: one byte is one signal; */
    int post[2]; /* the id, once for each */
};

/* In a child nothing of cmocka's may run: a failed check says where and ends the rank. */
#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "rank %d: line %d: %s\n", r->rank, __LINE__, #condition);                                  \
            _exit(1);                                                                                                  \
        }                                                                                                              \
    } while (0)

/* Rank 0 makes the id and hands it round. */
static inline void get_id(struct rank *r)
{
    if (r->rank == 0) {
        CHECK(ncclGetUniqueId(&r->id) == ncclSuccess);
        for (int i = 0; i < r->ranks; i++)
            CHECK(write(r->post[1], &r->id, sizeof r->id) == sizeof r->id);
    }
    CHECK(read(r->post[0], &r->id, sizeof r->id) == sizeof r->id);
}

static inline void open_rank(struct rank *r)
{
    get_id(r);
    CHECK(cudaSetDevice(r->rank) == cudaSuccess);
    CHECK(cudaStreamCreateWithFlags(&r->stream, cudaStreamNonBlocking) == cudaSuccess);
    CHECK(ncclCommInitRank(&r->comm, r->ranks, r->id, r->rank) == ncclSuccess);
}

static inline void close_rank(struct rank *r)
{
    CHECK(ncclCommDestroy(r->comm) == ncclSuccess);
    CHECK(cudaStreamDestroy(r->stream) == cudaSuccess);
}

/* Runs body in every rank and checks the exit codes; every rank must say `words` unless NULL. */
static inline void run_ranks(int ranks, const char *order, void (*body)(struct rank *r), const int *codes,
                             const char *words)
{
    struct rank r = {.ranks = ranks};
    int errors[max_ranks], statuses[max_ranks];
    pid_t children[max_ranks];
    assert_int_equal(pipe(r.bell) || pipe(r.post), 0);
    fflush(NULL);
    for (r.rank = 0; r.rank < ranks; r.rank++) {
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        children[r.rank] = fork();
        if (children[r.rank] == 0) {
            dup2(ends[1], STDERR_FILENO);
            setenv("CUDASIM_ORDER", order, 1);
            body(&r);
            exit(0); /* with the check for what is left */
        }
        close(ends[1]);
        errors[r.rank] = ends[0];
    }
    for (int ended = 0, status; ended < ranks; ended++) { /* in any order: the dead must not linger */
        pid_t child = wait(&status);
        for (int i = 0; i < ranks; i++)
            if (children[i] == child) statuses[i] = status;
    }
    close(r.bell[0]), close(r.bell[1]), close(r.post[0]), close(r.post[1]);
    for (int i = 0; i < ranks; i++) {
        char text[16384] = "";
        ssize_t got = read(errors[i], text, sizeof text - 1);
        close(errors[i]);
        int code = WIFSIGNALED(statuses[i]) ? 128 + WTERMSIG(statuses[i]) : WEXITSTATUS(statuses[i]);
        if (got < 0 || code != (codes ? codes[i] : 0) || (words && code != 3 && !strstr(text, words)))
            fail_msg("rank %d of %d, order %s: exit code %d; it said: %s", i, ranks, order, code, text);
    }
}

static inline void run_all(void (*body)(struct rank *r))
{
    static const char *const orders[] = {"late", "early", "1", "2", "3"};
    for (int ranks = 1; ranks <= max_ranks; ranks++)
        for (size_t i = 0; i < sizeof orders / sizeof *orders; i++)
            run_ranks(ranks, orders[i], body, NULL, NULL);
}

/* Returns when all of `count` ranks, rank 0 among them, are here. */
static inline void meet(const struct rank *r, int count)
{
    char byte = 0;
    if (r->rank > 0) CHECK(write(r->bell[1], &byte, 1) == 1 && read(r->post[0], &byte, 1) == 1);
    for (int i = 1; i < count && r->rank == 0; i++)
        CHECK(read(r->bell[0], &byte, 1) == 1);
    for (int i = 1; i < count && r->rank == 0; i++)
        CHECK(write(r->post[1], &byte, 1) == 1);
}

/* Asks until the communicator fails as it should; ends when all of `count` ranks have seen the failure and nobody takes
 * this one's end for its cause. */
static inline _Noreturn void expect_failure(struct rank *r, ncclResult_t expected, int count)
{
    ncclResult_t error = ncclSuccess;
    while (error == ncclSuccess) {
        CHECK(cudaStreamQuery(r->stream) == cudaErrorNotReady);
        CHECK(ncclCommGetAsyncError(r->comm, &error) == ncclSuccess);
    }
    CHECK(error == expected);
    CHECK(cudaStreamQuery(r->stream) == cudaErrorNotReady);
    meet(r, count);
    _exit(0);
}

#endif
