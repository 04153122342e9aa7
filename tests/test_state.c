#define _GNU_SOURCE
#include <sys/mount.h>
#include <sys/stat.h>

#include <hdf5.h>

#include "base/memory.h"
#include "io/state.h"
#include "ranks.h"

#define N_SAMPLES 7
#define SAMPLE_BYTES 1000
#define FINGERPRINT "model: 0123\nbits: 4\n"

/* Ends a test; no handle of HDF5 may be left. Collective. */
static void end_test(void)
{
    CHECK(H5Fget_obj_count((hid_t)H5F_OBJ_ALL, H5F_OBJ_ALL) == 0);
    ranks_end_test();
}

/* This rank's samples as of before a block. */
struct part {
    int64_t first, count;
    uint8_t bytes[N_SAMPLES * SAMPLE_BYTES];
};

static uint8_t content(int64_t block, int64_t sample, int64_t i)
{
    return (uint8_t)(block * 31 + sample * 7 + i * 13 + i / 256);
}

static struct part part_of(int64_t block)
{
    struct part part = {0};
    part.first = N_SAMPLES * ranks.comm.rank / ranks.comm.size;
    part.count = N_SAMPLES * (ranks.comm.rank + 1) / ranks.comm.size - part.first;
    for (int64_t s = 0; s < part.count; s++)
        for (int64_t i = 0; i < SAMPLE_BYTES; i++)
            part.bytes[s * SAMPLE_BYTES + i] = content(block, part.first + s, i);
    return part;
}

static enum sq_status open_state(const char *path, struct sq_state **state_p, int64_t *newest_p)
{
    return sq_state_open(&ranks.comm, path, FINGERPRINT, N_SAMPLES, SAMPLE_BYTES, state_p, newest_p);
}

static enum sq_status get_sample(void *samples, int64_t sample, void *bytes)
{
    memcpy(bytes, (uint8_t *)samples + sample * SAMPLE_BYTES, SAMPLE_BYTES);
    return SQ_OK;
}

static enum sq_status set_sample(void *samples, int64_t sample, void *bytes)
{
    memcpy((uint8_t *)samples + sample * SAMPLE_BYTES, bytes, SAMPLE_BYTES);
    return SQ_OK;
}

static enum sq_status save(struct sq_state *state, int64_t block)
{
    struct part part = part_of(block);
    return sq_state_save(state, block, part.first, part.count, get_sample, part.bytes);
}

/* Opens the file, expects this newest block and, unless it is -1, its samples: all of them on every rank. */
static void check_newest(const char *path, int64_t block)
{
    struct sq_state *state = NULL;
    int64_t newest = -2;
    bool same = true;
    static uint8_t bytes[N_SAMPLES * SAMPLE_BYTES];
    if (!CHECK(open_state(path, &state, &newest) == SQ_OK)) return;
    if (CHECK(newest == block) && block >= 0) {
        memset(bytes, 0, sizeof bytes);
        CHECK(sq_state_load(state, 0, N_SAMPLES, set_sample, bytes) == SQ_OK);
        for (int64_t s = 0; s < N_SAMPLES; s++)
            for (int64_t i = 0; i < SAMPLE_BYTES; i++)
                same = same && bytes[s * SAMPLE_BYTES + i] == content(block, s, i);
        CHECK(same);
    }
    sq_state_close(state, 0);
}

/* A file with saves before blocks 1 ... last. */
static const char *make_state(int64_t last, char path[1024])
{
    struct sq_state *state = NULL;
    int64_t newest = -2;
    CHECK(open_state(ranks_file("run.state.h5", path), &state, &newest) == SQ_OK);
    CHECK(newest == -1);
    for (int64_t block = 1; block <= last; block++)
        CHECK(save(state, block) == SQ_OK);
    sq_state_close(state, 0);
    return path;
}

static void remove_state(const char *path)
{
    ranks_barrier();
    if (ranks.comm.rank == 0) unlink(path);
    ranks_barrier();
}

/* Changes one byte at `offset` of a dataset of the file. Collective. */
static void damage(const char *path, const char *dataset_name, long offset)
{
    ranks_barrier();
    if (ranks.comm.rank == 0) {
        hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT), dataset = H5Dopen2(file, dataset_name, H5P_DEFAULT);
        long place = (long)H5Dget_offset(dataset) + offset;
        H5Dclose(dataset);
        H5Fclose(file);
        FILE *stream = fopen(path, "r+b");
        fseek(stream, place, SEEK_SET);
        int byte = fgetc(stream);
        fseek(stream, place, SEEK_SET);
        fputc(byte ^ 0x20, stream);
        fclose(stream);
    }
    ranks_barrier();
}

/* --- tests ------------------------------------------------------------------------------------------------------- */

static void test_round_trip(void **unused)
{
    (void)unused;
    char path[1024];
    struct stat info;
    make_state(0, path);
    CHECK(stat(path, &info) == 0 && (int64_t)info.st_blocks * 512 >= (int64_t)info.st_size);
    check_newest(path, -1);
    remove_state(path);
    for (int64_t last = 1; last <= 4; last++) {
        check_newest(make_state(last, path), last);
        remove_state(path);
    }
    end_test();
}

/* The same file from all ranks as from one. */
static void test_same_bytes(void **unused)
{
    (void)unused;
    char path[1024], alone_path[1024];
    struct sq_comm alone, all = ranks.comm;
    make_state(3, path);
    if (sq_comm_split(&ranks.comm, ranks.comm.rank, &alone) != SQ_OK) abort();
    if (ranks.comm.rank == 0) {
        struct sq_state *state = NULL;
        int64_t newest;
        ranks.comm = alone;
        CHECK(open_state(ranks_file("alone.state.h5", alone_path), &state, &newest) == SQ_OK);
        for (int64_t block = 1; block <= 3; block++)
            CHECK(save(state, block) == SQ_OK);
        sq_state_close(state, 1);
        CHECK(access(alone_path, F_OK) != 0); /* removed on request */
        CHECK(open_state(alone_path, &state, &newest) == SQ_OK);
        for (int64_t block = 1; block <= 3; block++)
            CHECK(save(state, block) == SQ_OK);
        sq_state_close(state, 0);
        CHECK(ranks_same_files(path, alone_path));
        unlink(alone_path);
        ranks.comm = all;
    }
    sq_comm_free(&alone);
    remove_state(path);
    end_test();
}

/* A slot whose header or checksums do not hold is none: the older one counts. */
static void test_torn_header(void **unused)
{
    (void)unused;
    char path[1024];
    for (long word = 0; word < 4; word++) {
        make_state(4, path); /* block 4 is in slot 1, block 3 in slot 0 */
        damage(path, "slot1/header", 8 * word);
        check_newest(path, 3);
        damage(path, "slot0/header", 8 * word + 3);
        check_newest(path, -1);
        remove_state(path);
    }
    make_state(3, path);
    damage(path, "slot0/checksums", 17);
    check_newest(path, 2);
    remove_state(path);
    end_test();
}

/* The next save goes into the slot that does not hold, and the good one survives it. */
static void test_save_after_torn(void **unused)
{
    (void)unused;
    char path[1024];
    struct sq_state *state = NULL;
    int64_t newest = -2;
    make_state(4, path);
    damage(path, "slot1/header", 0);
    CHECK(open_state(path, &state, &newest) == SQ_OK && newest == 3);
    CHECK(save(state, 9) == SQ_OK);
    sq_state_close(state, 0);
    check_newest(path, 9);
    damage(path, "slot1/header", 0);
    check_newest(path, 3);
    remove_state(path);
    end_test();
}

/* Changed samples under a good header are an error on every rank, with one line of rank 0. */
static void test_damaged_samples(void **unused)
{
    (void)unused;
    char path[1024];
    struct sq_state *state = NULL;
    int64_t newest = -2;
    make_state(2, path);
    damage(path, "slot1/samples", 1); /* rank 0 reads sample 0, the last one 5 */
    damage(path, "slot1/samples", 5 * SAMPLE_BYTES + 3);
    CHECK(open_state(path, &state, &newest) == SQ_OK && newest == 2);
    struct part part = part_of(0);
    const char *said = ranks.comm.size > 1 ? "sample 5 (before block 2)" : "sample 0 (before block 2)";
    ranks_listen();
    CHECK(sq_state_load(state, part.first, part.count, set_sample, part.bytes) == SQ_ERR_INPUT);
    const char *text = capture_stop(&ranks.capture);
    CHECK(ranks.comm.rank == 0 ? strstr(text, "warning: ") && strstr(text, path) && strstr(text, said) : !*text);
    sq_state_close(state, 1);
    ranks_barrier();
    CHECK(access(path, F_OK) != 0);
    end_test();
}

/* A file of another run or shape, cut off, or no state file at all is made anew, and rank 0 says so. */
static void test_made_anew(void **unused)
{
    (void)unused;
    char path[1024];
    struct sq_state *state = NULL;
    static const char *const said[] = {"another run", "another run", "truncated file", "signature"};
    for (int how = 0; how < 4; how++) {
        int64_t newest = -2;
        make_state(2, path);
        ranks_barrier();
        if (ranks.comm.rank == 0 && how == 2) CHECK(truncate(path, 9000) == 0);
        if (ranks.comm.rank == 0 && how == 3) CHECK(truncate(path, 0) == 0);
        ranks_barrier();
        ranks_listen();
        CHECK(sq_state_open(&ranks.comm, path, how == 0 ? "bits: 3\n" : FINGERPRINT, N_SAMPLES - (how == 1),
                            SAMPLE_BYTES, &state, &newest) == SQ_OK);
        const char *text = capture_stop(&ranks.capture);
        CHECK(ranks.comm.rank == 0 ? strstr(text, said[how]) && strstr(text, path) : !*text);
        CHECK(newest == -1);
        ranks_listen();
        struct part part = part_of(0);
        CHECK(sq_state_load(state, part.first, part.count, set_sample, part.bytes) == SQ_ERR_INPUT);
        EXPECT_ERROR(0, path, "no complete state");
        sq_state_close(state, 0);
        remove_state(path);
    }
    end_test();
}

/* The n-th allocation fails on the last rank: an error everywhere, no hang. */
static void test_failed_allocations(void **unused)
{
    (void)unused;
    char path[1024];
    enum sq_status status = SQ_ERR_MEMORY;
    int n = 0;
    ranks_file("memory.state.h5", path);
    while (status == SQ_ERR_MEMORY && n < 100) {
        struct sq_state *state = NULL;
        int64_t newest = -2;
        n++;
        ranks_listen();
        sq_memory_fail_at(ranks.comm.rank == ranks.comm.size - 1 ? n : 0);
        status = open_state(path, &state, &newest);
        sq_memory_fail_at(0);
        capture_stop(&ranks.capture);
        CHECK(status == SQ_OK || status == SQ_ERR_MEMORY);
        sq_state_close(state, 0);
    }
    CHECK(status == SQ_OK && n > 3 && n < 100);
    remove_state(path);
    end_test();
}

/* Needs the right to mount; without it the test is skipped, on all ranks. */
static void test_full_disk(void **unused)
{
    (void)unused;
    char folder[1024], path[2048];
    int64_t cannot = 0, newest = -2;
    struct sq_state *state = NULL;
    ranks_file("small_disk", folder);
    snprintf(path, sizeof path, "%s/s.h5", folder);
    if (ranks.comm.rank == 0) cannot = mkdir(folder, 0777) != 0 || mount("tmpfs", folder, "tmpfs", 0, "size=1m") != 0;
    if (sq_comm_max_i64(&ranks.comm, &cannot, 1) != SQ_OK) abort();
    if (cannot) skip();
    ranks_listen();
    CHECK(sq_state_open(&ranks.comm, path, FINGERPRINT, 1000, 1000, &state, &newest) == SQ_ERR_IO);
    EXPECT_ERROR(0, path, "cannot reserve 2.0 MiB", "No space left on device");
    CHECK(access(path, F_OK) != 0);
    ranks_barrier();
    if (ranks.comm.rank == 0) {
        umount2(folder, MNT_DETACH);
        rmdir(folder);
    }
    end_test();
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),         cmocka_unit_test(test_same_bytes),
        cmocka_unit_test(test_torn_header),        cmocka_unit_test(test_save_after_torn),
        cmocka_unit_test(test_damaged_samples),    cmocka_unit_test(test_made_anew),
        cmocka_unit_test(test_failed_allocations), cmocka_unit_test(test_full_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    return ranks_main(&argc, &argv, run);
}
