/* Tests that run on several ranks: a failed check is printed and counted, and at the end of the test all ranks add up
 * their counts, so that they fail together and none is left waiting in a collective call. */
#ifndef SQ_TESTS_RANKS_H
#define SQ_TESTS_RANKS_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>
#include <stdio.h>

#include "capture.h"
#include "folder.h"
#include "mpi/comm.h"

struct ranks {
    struct sq_comm comm;
    struct folder folder; /* one for all ranks */
    int64_t n_failed;
    struct capture capture;
};

static struct ranks ranks;

#define CHECK(condition) ranks_check((condition), #condition, __LINE__)

static inline bool ranks_check(bool good, const char *text, int line)
{
    if (!good) {
        fprintf(stdout, "[rank %d] line %d: %s\n", ranks.comm.rank, line, text);
        fflush(stdout);
        ranks.n_failed++;
    }
    return good;
}

/* Ends a test. Collective. */
static inline void ranks_end_test(void)
{
    int64_t n_failed = ranks.n_failed;
    ranks.n_failed = 0;
    if (sq_comm_sum_i64(&ranks.comm, &n_failed, 1) != SQ_OK) abort();
    assert_int_equal(n_failed, 0);
}

/* Path of a file in the folder that all ranks share. */
static inline const char *ranks_file(const char *name, char path[1024])
{
    return folder_file(&ranks.folder, name, path);
}

static inline void ranks_barrier(void)
{
    if (sq_comm_barrier(&ranks.comm) != SQ_OK) abort();
}

/* From here on what this rank writes to stderr is kept. */
static inline void ranks_listen(void)
{
    capture_start(&ranks.capture);
}

/* Ends it: rank `speaker` must have given one error with all of these parts (NULL ends the list), all others nothing.
 */
static inline void ranks_expect_error(int speaker, int line, const char *const parts[4])
{
    const char *text = capture_stop(&ranks.capture);
    bool good = ranks.comm.rank == speaker ? capture_is_one_error(text, parts) != 0 : text[0] == '\0';
    if (!ranks_check(good, "one clear error", line)) fprintf(stdout, "    it was: %s\n", text);
}

#define EXPECT_ERROR(speaker, ...) ranks_expect_error(speaker, __LINE__, (const char *const[4]){__VA_ARGS__})

/* Local copy of a whole file, released with free(); NULL when it is absent. */
static inline unsigned char *ranks_read_file(const char *path, long *size_p)
{
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    if (fseek(file, 0, SEEK_END) != 0) abort();
    *size_p = ftell(file);
    rewind(file);
    unsigned char *bytes = malloc((size_t)*size_p + 1);
    if (fread(bytes, 1, (size_t)*size_p, file) != (size_t)*size_p) abort();
    fclose(file);
    return bytes;
}

/* Whether two files hold the same bytes. Local. */
static inline bool ranks_same_files(const char *a, const char *b)
{
    long a_size = 0, b_size = 0;
    unsigned char *a_bytes = ranks_read_file(a, &a_size), *b_bytes = ranks_read_file(b, &b_size);
    bool same = a_bytes && b_bytes && a_size == b_size && memcmp(a_bytes, b_bytes, (size_t)a_size) == 0;
    free(a_bytes);
    free(b_bytes);
    return same;
}

/* Runs a group of tests between start and end of MPI; the same exit code on every rank. */
static inline int ranks_main(int *argc, char ***argv, int (*run)(void))
{
    if (sq_comm_init(argc, argv, &ranks.comm) != SQ_OK) return 1;
    if (ranks.comm.rank == 0) folder_create(&ranks.folder);
    if (sq_comm_broadcast(&ranks.comm, 0, ranks.folder.path, sizeof ranks.folder.path) != SQ_OK) return 1;
    int64_t n_failed = run();
    if (sq_comm_max_i64(&ranks.comm, &n_failed, 1) != SQ_OK) n_failed = 1;
    if (ranks.comm.rank == 0) folder_remove(&ranks.folder);
    sq_comm_finalize();
    return n_failed != 0;
}

#endif
