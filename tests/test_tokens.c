#define _XOPEN_SOURCE 700
#include <hdf5.h>
#include <sys/stat.h>

#include "base/memory.h"
#include "io/tokens.h"
#include "ranks.h"

#define SAMPLES 5
#define LENGTH 12

/* HDF5 loses some memory of its own over damaged files: the leak checker need not report it. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libhdf5\n";
}

/* Ends a test; no handle of HDF5 may be left. Collective. */
static void end_test(void)
{
    CHECK(H5Fget_obj_count((hid_t)H5F_OBJ_ALL, H5F_OBJ_ALL) == 0);
    ranks_end_test();
}

/* Makes a file with dataset `name` of this type and shape; ids int64. Rank 0 alone; all may call. */
static const char *make_file(const char *name, hid_t type, int n_dims, hsize_t rows, hsize_t columns,
                             const int64_t *ids, char path[1024])
{
    ranks_file("tokens.h5", path);
    ranks_barrier();
    if (ranks.comm.rank == 0) {
        hsize_t dims[3] = {rows, columns, 1};
        hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT),
              space = H5Screate_simple(n_dims, dims, NULL);
        hid_t dataset = H5Dcreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
        if (ids) H5Dwrite(dataset, H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, ids);
        H5Dclose(dataset);
        H5Sclose(space);
        H5Fclose(file);
    }
    ranks_barrier();
    return path;
}

static void fill(int64_t ids[SAMPLES * LENGTH])
{
    for (int64_t i = 0; i < SAMPLES * LENGTH; i++)
        ids[i] = i * i % 97;
}

/* Adds attributes as h5py writes them: variable and fixed text, numbers, an array, and one of a kind that is left out.
 */
static void add_attributes(const char *path)
{
    const char *text = "drawn", *sources[2] = {"a.txt", "b.txt"};
    int64_t seed = -7;
    double share = 0.25;
    hsize_t two = 2;
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT), dataset = H5Dopen2(file, "tokens", H5P_DEFAULT);
    hid_t scalar = H5Screate(H5S_SCALAR), pair = H5Screate_simple(1, &two, NULL);
    hid_t variable = H5Tcopy(H5T_C_S1), fixed = H5Tcopy(H5T_C_S1);
    H5Tset_size(variable, H5T_VARIABLE);
    H5Tset_cset(variable, H5T_CSET_UTF8);
    H5Tset_size(fixed, 5);
    struct {
        const char *name;
        hid_t type, space;
        const void *value;
    } const all[] = {{"method", variable, scalar, &text},       {"files", variable, pair, sources},
                     {"seed", H5T_NATIVE_INT64, scalar, &seed}, {"share", H5T_NATIVE_DOUBLE, scalar, &share},
                     {"hash", fixed, scalar, "ab12\0"},         {"odd", H5T_STD_REF_OBJ, scalar, "12345678"}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        hid_t attribute = H5Acreate2(dataset, all[i].name, all[i].type, all[i].space, H5P_DEFAULT, H5P_DEFAULT);
        H5Awrite(attribute, all[i].type, all[i].value);
        H5Aclose(attribute);
    }
    H5Tclose(fixed);
    H5Tclose(variable);
    H5Sclose(pair);
    H5Sclose(scalar);
    H5Dclose(dataset);
    H5Fclose(file);
}

/* Reads the file and expects SQ_ERR_INPUT with one line that has these parts. */
#define EXPECT_BAD(path, vocab_size, max_length, ...)                                                                  \
    do {                                                                                                               \
        struct sq_tokens tokens_ = {0};                                                                                \
        ranks_listen();                                                                                                \
        CHECK(sq_tokens_read(&ranks.comm, path, vocab_size, max_length, &tokens_) == SQ_ERR_INPUT);                    \
        EXPECT_ERROR(0, path, __VA_ARGS__);                                                                            \
        CHECK(tokens_.ids == NULL && tokens_.provenance == NULL);                                                      \
    } while (0)

static void test_good(void **state)
{
    (void)state;
    char path[1024];
    int64_t ids[SAMPLES * LENGTH];
    struct sq_tokens tokens, wide;
    bool same = true;
    fill(ids);
    make_file("tokens", H5T_STD_I32LE, 2, SAMPLES, LENGTH, ids, path);
    if (ranks.comm.rank == 0) add_attributes(path);
    CHECK(sq_tokens_read(&ranks.comm, path, 97, LENGTH, &tokens) == SQ_OK);
    CHECK(tokens.n_samples == SAMPLES && tokens.length == LENGTH);
    CHECK(strcmp(tokens.provenance, "files: a.txt, b.txt\nhash: ab12\nmethod: drawn\nseed: -7\nshare: 0.25\n") == 0);
    for (int64_t i = 0; i < SAMPLES * LENGTH; i++)
        same = same && tokens.ids[i] == ids[i];
    CHECK(same);
    make_file("tokens", H5T_STD_I64BE, 2, SAMPLES, LENGTH, ids, path);
    CHECK(sq_tokens_read(&ranks.comm, path, 0, 0, &wide) == SQ_OK);
    CHECK(wide.hash == tokens.hash && strcmp(wide.provenance, "") == 0);
    sq_tokens_release(&wide);
    ids[17]++;
    make_file("tokens", H5T_STD_U16LE, 2, SAMPLES, LENGTH, ids, path);
    CHECK(sq_tokens_read(&ranks.comm, path, 0, 0, &wide) == SQ_OK);
    CHECK(wide.hash != tokens.hash);
    sq_tokens_release(&wide);
    sq_tokens_release(&tokens);
    end_test();
}

/* The same ids as samples of another length are other tokens. */
static void test_shape_in_hash(void **state)
{
    (void)state;
    char path[1024];
    int64_t ids[SAMPLES * LENGTH];
    struct sq_tokens tokens, halved;
    fill(ids);
    make_file("tokens", H5T_STD_I32LE, 2, SAMPLES, LENGTH, ids, path);
    CHECK(sq_tokens_read(&ranks.comm, path, 0, 0, &tokens) == SQ_OK);
    make_file("tokens", H5T_STD_I32LE, 2, SAMPLES * 2, LENGTH / 2, ids, path);
    CHECK(sq_tokens_read(&ranks.comm, path, 0, 0, &halved) == SQ_OK);
    CHECK(halved.hash != tokens.hash);
    sq_tokens_release(&halved);
    sq_tokens_release(&tokens);
    end_test();
}

static void test_bad_ids(void **state)
{
    (void)state;
    char path[1024];
    int64_t ids[SAMPLES * LENGTH];
    fill(ids);
    ids[3 * LENGTH + 4] = 97;
    make_file("tokens", H5T_STD_I32LE, 2, SAMPLES, LENGTH, ids, path);
    EXPECT_BAD(path, 97, 0, "sample 3, position 4", "id 97", "vocabulary of 97");
    ids[2 * LENGTH + 11] = -1;
    make_file("tokens", H5T_STD_I32LE, 2, SAMPLES, LENGTH, ids, path);
    EXPECT_BAD(path, 98, 0, "sample 2, position 11", "id -1 is negative");
    ids[0] = (int64_t)1 << 40;
    make_file("tokens", H5T_STD_I64LE, 2, SAMPLES, LENGTH, ids, path);
    EXPECT_BAD(path, 0, 0, "sample 0, position 0", "id 1099511627776 is larger than");
    ids[0] = -1;
    make_file("tokens", H5T_STD_I32LE, 2, SAMPLES, LENGTH, ids, path);
    EXPECT_BAD(path, 0, 0, "sample 0, position 0", "id -1 is negative");
    end_test();
}

static void test_bad_shapes(void **state)
{
    (void)state;
    char path[1024];
    int64_t ids[SAMPLES * LENGTH];
    fill(ids);
    make_file("tokens", H5T_IEEE_F32LE, 2, SAMPLES, LENGTH, NULL, path);
    EXPECT_BAD(path, 0, 0, "/tokens", "no integers");
    make_file("tokens", H5T_STD_I32LE, 1, SAMPLES * LENGTH, 1, ids, path);
    EXPECT_BAD(path, 0, 0, "1 dimensions", "[samples, length]");
    make_file("tokens", H5T_STD_I32LE, 3, SAMPLES, LENGTH, ids, path);
    EXPECT_BAD(path, 0, 0, "3 dimensions");
    make_file("tokens", H5T_STD_I32LE, 2, 0, LENGTH, NULL, path);
    EXPECT_BAD(path, 0, 0, "empty", "[0 samples, 12 tokens]");
    make_file("tokens", H5T_STD_I32LE, 2, SAMPLES, 0, NULL, path);
    EXPECT_BAD(path, 0, 0, "empty", "[5 samples, 0 tokens]");
    make_file("tokens", H5T_STD_I32LE, 2, SAMPLES, LENGTH, NULL, path);
    EXPECT_BAD(path, 0, 0, "[5, 12]", "only 0 bytes");
    make_file("tokens", H5T_STD_I32LE, 2, SAMPLES, LENGTH, ids, path);
    EXPECT_BAD(path, 0, LENGTH - 1, "12 tokens", "11 positions");
    make_file("ids", H5T_STD_I32LE, 2, SAMPLES, LENGTH, ids, path);
    EXPECT_BAD(path, 0, 0, "cannot open dataset", "tokens", "doesn't exist");
    end_test();
}

static void test_bad_files(void **state)
{
    (void)state;
    char path[1024];
    int64_t ids[SAMPLES * LENGTH];
    fill(ids);
    EXPECT_BAD(ranks_file("absent.h5", path), 0, 0, "No such file or directory");
    EXPECT_BAD(ranks.folder.path, 0, 0, "cannot open", "file read failed: Is a directory");
    if (ranks.comm.rank == 0) CHECK(mkfifo(ranks_file("fifo.h5", path), 0600) == 0); /* nobody writes to it */
    ranks_barrier();
    EXPECT_BAD(ranks_file("fifo.h5", path), 0, 0, "as an HDF5 file", "it is no regular file");
    if (ranks.comm.rank == 0) folder_write_text(&ranks.folder, "text.h5", "these are not the tokens you look for\n");
    ranks_barrier();
    EXPECT_BAD(ranks_file("text.h5", path), 0, 0, "as an HDF5 file", "signature");
    make_file("tokens", H5T_STD_I32LE, 2, SAMPLES, LENGTH, ids, path);
    if (ranks.comm.rank == 0) CHECK(truncate(path, 2100) == 0);
    ranks_barrier();
    EXPECT_BAD(path, 0, 0, "truncated file");
    end_test();
}

/* No change of one byte may crash or hang, or leave something in the result. */
static void test_damaged(void **state)
{
    (void)state;
    char path[1024];
    int64_t ids[SAMPLES * LENGTH];
    fill(ids);
    make_file("tokens", H5T_STD_I32LE, 2, SAMPLES, LENGTH, ids, path);
    long size = 0;
    unsigned char *bytes = ranks_read_file(path, &size);
    for (long offset = 0; offset < size; offset += ranks.comm.size == 1 ? 3 : 61) {
        struct sq_tokens tokens = {0};
        bytes[offset] ^= 0x41;
        if (ranks.comm.rank == 0) folder_write(&ranks.folder, "damaged.h5", bytes, (size_t)size);
        bytes[offset] ^= 0x41;
        ranks_listen();
        enum sq_status status = sq_tokens_read(&ranks.comm, ranks_file("damaged.h5", path), 97, 0, &tokens);
        capture_stop(&ranks.capture);
        CHECK(status != SQ_OK || (tokens.ids && tokens.n_samples > 0));
        sq_tokens_release(&tokens);
    }
    free(bytes);
    end_test();
}

/* The n-th allocation fails on the last rank: an error everywhere, no hang. */
static void test_failed_allocations(void **state)
{
    (void)state;
    char path[1024];
    int64_t ids[SAMPLES * LENGTH];
    enum sq_status status = SQ_ERR_MEMORY;
    int n = 0;
    fill(ids);
    make_file("tokens", H5T_STD_I32LE, 2, SAMPLES, LENGTH, ids, path);
    while (status == SQ_ERR_MEMORY && n < 50) {
        struct sq_tokens tokens = {0};
        n++;
        ranks_listen();
        sq_memory_fail_at(ranks.comm.rank == ranks.comm.size - 1 ? n : 0);
        status = sq_tokens_read(&ranks.comm, path, 0, 0, &tokens);
        sq_memory_fail_at(0);
        capture_stop(&ranks.capture);
        sq_tokens_release(&tokens);
    }
    CHECK(status == SQ_OK && n >= 3 && n < 50);
    end_test();
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad_ids),
        cmocka_unit_test(test_shape_in_hash),
        cmocka_unit_test(test_bad_shapes),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_failed_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    return ranks_main(&argc, &argv, run);
}
