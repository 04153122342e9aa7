/* The store when something fails: writes, memory, disks, processes. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "base/clock.h"
#include "store_fixture.h"

static const char *program;

/* --- failures ---------------------------------------------------------------------------------------------------- */

/* The last rank cannot write one layer: all get the error, the layer is not done, earlier ones are. */
static void test_failed_write(void **state)
{
    (void)state;
    char path[1024];
    struct sq_store *store = NULL;
    int last = ranks.comm.size - 1;
    struct rlimit limit, small;
    CHECK(create(&ranks.comm, ranks_file("limit.h5", path), &store) == SQ_OK);
    CHECK(fixture_finish(store, &ranks.comm, layers, 0) == SQ_OK);
    getrlimit(RLIMIT_FSIZE, &limit);
    small = limit;
    small.rlim_cur = 512;
    signal(SIGXFSZ, SIG_IGN);
    ranks_listen();
    if (ranks.comm.rank == last) setrlimit(RLIMIT_FSIZE, &small);
    CHECK(fixture_finish(store, &ranks.comm, layers, 3) == SQ_ERR_IO); /* 4 tiles: one for each rank */
    setrlimit(RLIMIT_FSIZE, &limit);
    /* Open MPI keeps the system's reason to itself and prints it as a line of its own, before ours */
    const char *text = capture_stop(&ranks.capture), *ours = strstr(text, "shardq: error: ");
    if (ranks.comm.rank == last) CHECK(ours && strstr(ours, "limit.h5:/layers/model.layers.3.up_proj/codes"));
    CHECK((ours != NULL) == (ranks.comm.rank == last) && (!ours || !strstr(ours + 1, "shardq: error: ")));
    CHECK(!sq_store_is_done(store, 3));
    sq_store_close(store);
    CHECK(open_again(path, true, &store) == SQ_OK);
    CHECK(sq_store_is_done(store, 0) && !sq_store_is_done(store, 3) && fixture_holds(store, layers, 0));
    CHECK(fixture_finish(store, &ranks.comm, layers, 3) == SQ_OK);
    CHECK(fixture_holds(store, layers, 3));
    sq_store_close(store);
    remove_file("limit.h5");
    end_test();
}

/* One rank's status ends it for all. */
static void test_failed_rank(void **state)
{
    (void)state;
    char path[1024];
    struct sq_store *store = NULL;
    struct sq_layer_report report = fixture_report(1);
    int layer = 1, last = ranks.comm.size - 1;
    CHECK(create(&ranks.comm, ranks_file("rank.h5", path), &store) == SQ_OK);
    CHECK(sq_store_finish_layers(store, ranks.comm.rank == last ? SQ_ERR_NUMERIC : SQ_OK, &layer, 1, &report) ==
          SQ_ERR_NUMERIC);
    CHECK(!sq_store_is_done(store, 1));
    sq_store_close(store);
    remove_file("rank.h5");
    end_test();
}

/* The n-th allocation fails on one rank, for n = 1, 2, ..., until none is left: an error everywhere and no hang. A
 * store that was to be made is not there, one that was there stays. */
static void fail_allocations(const char *path, int unlucky, bool is_there)
{
    enum sq_status status = SQ_ERR_MEMORY;
    int n = 0;
    while (status == SQ_ERR_MEMORY && n < 200) {
        struct sq_store *store = NULL;
        ranks_listen();
        sq_memory_fail_at(ranks.comm.rank == unlucky ? ++n : (++n, 0));
        status = is_there ? open_again(path, true, &store) : create(&ranks.comm, path, &store);
        sq_memory_fail_at(0);
        capture_stop(&ranks.capture);
        CHECK(status == SQ_OK || status == SQ_ERR_MEMORY);
        sq_store_close(store);
        ranks_barrier();
        CHECK(exists(path, "") == (is_there || status == SQ_OK) && !exists(path, ".tmp"));
        ranks_barrier();
    }
    CHECK(status == SQ_OK && n > 5 && n < 200);
}

static void test_failed_allocations(void **state)
{
    (void)state;
    char path[1024];
    ranks_file("memory.h5", path);
    for (int unlucky = 0; unlucky<ranks.comm.size; unlucky += ranks.comm.size> 1 ? ranks.comm.size - 1 : 1) {
        fail_allocations(path, unlucky, false);
        fail_allocations(path, unlucky, true);
        remove_file("memory.h5");
    }
    end_test();
}

/* The last rank may open no more files: MPI-IO fails on all of them, with the store just made by the first. */
static void test_failed_open(void **state)
{
    (void)state;
    char path[1024];
    struct sq_store *store = NULL;
    struct rlimit limit, none;
    int last = ranks.comm.size - 1;
    if (last == 0) skip(); /* a single rank could not make the file either */
    getrlimit(RLIMIT_NOFILE, &limit);
    none = (struct rlimit){0, limit.rlim_max};
    ranks_file("open.h5", path);
    ranks_listen();
    if (ranks.comm.rank == last) setrlimit(RLIMIT_NOFILE, &none);
    CHECK(create(&ranks.comm, path, &store) == SQ_ERR_IO);
    setrlimit(RLIMIT_NOFILE, &limit);
    const char *text = capture_stop(&ranks.capture);
    if (ranks.comm.rank == last) CHECK(strstr(text, "open.h5 through MPI-IO"));
    ranks_barrier();
    CHECK(!exists(path, "") && !exists(path, ".tmp") && !exists(path, ".lock"));
    ranks_barrier();
    CHECK(create(&ranks.comm, path, &store) == SQ_OK);
    sq_store_close(store);
    remove_file("open.h5");
    end_test();
}

/* A file system of 1 MiB. It needs the right to mount; without it the test is skipped, on all ranks. */
static void test_full_disk(void **state)
{
    (void)state;
    char folder[1024], path[2048];
    int64_t cannot = 0;
    struct sq_store *store = NULL;
    struct sq_store_layer big = layers[0];
    big.out_features = 1 << 16;
    ranks_file("small_disk", folder);
    snprintf(path, sizeof path, "%s/s.h5", folder);
    if (ranks.comm.rank == 0) cannot = mkdir(folder, 0777) != 0 || mount("tmpfs", folder, "tmpfs", 0, "size=1m") != 0;
    if (sq_comm_max_i64(&ranks.comm, &cannot, 1) != SQ_OK) abort();
    if (cannot) skip();
    ranks_listen();
    CHECK(sq_store_create(&ranks.comm, path, &big, 1, CONFIG, FINGERPRINT, &store) == SQ_ERR_IO);
    EXPECT_ERROR(0, path, "cannot reserve 2", "No space left on device");
    CHECK(!exists(path, "") && !exists(path, ".tmp") && !exists(path, ".lock"));
    ranks_barrier();
    CHECK(create(&ranks.comm, path, &store) == SQ_OK);
    if (ranks.comm.rank == 0) { /* others fill the disk meanwhile: the store has its room already */
        char filler[2048];
        snprintf(filler, sizeof filler, "%s/filler", folder);
        int fd = open(filler, O_RDWR | O_CREAT, 0666);
        static const char block[4096];
        while (write(fd, block, sizeof block) > 0)
            continue;
        CHECK(errno == ENOSPC);
        close(fd);
    }
    ranks_barrier();
    for (int l = 0; l < N_LAYERS; l++)
        CHECK(fixture_finish(store, &ranks.comm, layers, l) == SQ_OK);
    for (int l = 0; l < N_LAYERS; l++)
        CHECK(fixture_holds(store, layers, l));
    sq_store_close(store);
    ranks_barrier();
    if (ranks.comm.rank == 0) {
        umount2(folder, MNT_DETACH);
        rmdir(folder);
    }
    end_test();
}

/* --- kills ------------------------------------------------------------------------------------------------------- */

/* What the killed process does: create or continue a store, write what is missing, end. Says so in its exit code. */
static int run_victim(const char *path)
{
    struct sq_comm comm;
    struct sq_store *store;
    char ready[4096];
    snprintf(ready, sizeof ready, "%s.ready", path);
    if (sq_comm_init(NULL, NULL, &comm) != SQ_OK || creat(ready, 0666) < 0) return 2;
    enum sq_status status = exists(path, "") ? sq_store_open(&comm, path, true, layers, N_LAYERS, FINGERPRINT, &store)
                                             : create(&comm, path, &store);
    for (int l = 0; status == SQ_OK && l < N_LAYERS; l++) {
        if (sq_store_is_done(store, l) && !fixture_holds(store, layers, l)) return 3;
        if (!sq_store_is_done(store, l)) status = fixture_finish(store, &comm, layers, l);
    }
    if (status != SQ_OK) return 4;
    sq_store_close(store);
    sq_comm_finalize();
    return 0;
}

/* Whether a variable ties a process to the MPI job that it was started in. */
static bool is_of_job(const char *variable)
{
    static const char *const prefixes[] = {"OMPI_", "PMIX_", "ORTE_", "OPAL_"};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (strncmp(variable, prefixes[i], strlen(prefixes[i])) == 0) return true;
    return false;
}

/* Starts this program as a victim, outside of the job that this one belongs to. */
static pid_t start_victim(const char *path)
{
    pid_t child = fork();
    if (child != 0) return child;
    char *environment[1024] = {0};
    size_t used = 0;
    for (char **variable = environ; *variable && used < 1023; variable++)
        if (!is_of_job(*variable)) environment[used++] = *variable;
    char *arguments[] = {(char *)program, "victim", (char *)path, NULL};
    execve(program, arguments, environment);
    _exit(5);
}

/* Starts a victim and kills it `seconds` after MPI has started in it (0: not at all). Whether it was killed. */
static bool run_and_kill(const char *path, double seconds)
{
    char ready[4096];
    int how = 0;
    const struct timespec step = {0, 100000}, wait = {0, (long)(seconds * 1e9)};
    snprintf(ready, sizeof ready, "%s.ready", path);
    pid_t child = start_victim(path);
    if (seconds > 0) {
        while (access(ready, F_OK) != 0 && waitpid(child, &how, WNOHANG) == 0)
            nanosleep(&step, NULL);
        nanosleep(&wait, NULL);
        kill(child, SIGKILL);
    }
    waitpid(child, &how, 0);
    unlink(ready);
    CHECK(WIFSIGNALED(how) || WEXITSTATUS(how) == 0);
    return WIFSIGNALED(how);
}

/* What is marked after a kill must be whole. Returns how many layers are marked; -1: there is no store yet. */
static int check_after_kill(const char *path)
{
    struct sq_store *store = NULL;
    int n_done = 0;
    if (!exists(path, "")) return -1;
    if (!CHECK(open_again(path, true, &store) == SQ_OK)) return -1;
    for (int l = 0; l < N_LAYERS; l++) {
        CHECK(!sq_store_is_done(store, l) || fixture_holds(store, layers, l));
        n_done += sq_store_is_done(store, l);
    }
    sq_store_close(store);
    return n_done;
}

/* How many victims were killed, and how many of their stores hold some of the layers. */
struct kills {
    int all, halfway;
};

static bool are_enough(const struct kills *kills)
{
    return kills->all >= 3 && kills->halfway >= 1;
}

/* A victim that was at its end before it could be killed takes less time than was thought. */
static void kill_once(const char *path, double share, double *seconds, struct kills *kills)
{
    bool is_killed = run_and_kill(path, *seconds * share);
    int n_done = check_after_kill(path);
    if (!is_killed) *seconds *= 0.8;
    kills->all += is_killed;
    kills->halfway += n_done >= 0 && n_done < N_LAYERS;
}

/* Each round makes a new store, is killed twice at other moments and then left to its end: the same file as ever. */
static void test_killed(void **state)
{
    (void)state;
    char path[1024], full[1024];
    struct kills kills = {0};
    if (ranks.comm.size > 1) skip();
    ranks_file("killed.h5", path);
    double seconds = sq_seconds();
    make_full(&ranks.comm, ranks_file("full.h5", full));
    seconds = sq_seconds() - seconds; /* as long as a victim needs, about */
    for (int round = 0; round < 8 || (round < 64 && !are_enough(&kills)); round++) {
        unlink(path);
        kill_once(path, (round % 8 + 1) / 10., &seconds, &kills);
        kill_once(path, (round % 8 + 5) / 10., &seconds, &kills);
        CHECK(!run_and_kill(path, 0));
        CHECK(ranks_same_files(path, ranks_file("full.h5", full)));
    }
    CHECK(are_enough(&kills));
    remove_file("killed.h5");
    remove_file("killed.h5.tmp");
    end_test();
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_failed_write),       cmocka_unit_test(test_failed_rank),
        cmocka_unit_test(test_failed_allocations), cmocka_unit_test(test_failed_open),
        cmocka_unit_test(test_full_disk),          cmocka_unit_test(test_killed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    fixture_layers(layers);
    program = argv[0];
    if (argc == 3 && strcmp(argv[1], "victim") == 0) return run_victim(argv[2]);
    return ranks_main(&argc, &argv, run);
}
