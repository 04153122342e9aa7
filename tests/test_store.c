/* The store when all goes well, and what it refuses. */
#define _XOPEN_SOURCE 700
#include <sys/stat.h>
#include <time.h>

#include "io/codes.h"
#include "store_fixture.h"

/* --- codes ------------------------------------------------------------------------------------------------------- */

static void plain_pack(const uint8_t *codes, int64_t n, int bits, uint8_t *packed)
{
    memset(packed, 0, (size_t)sq_codes_row_bytes(n, bits));
    for (int64_t i = 0; i < n * bits; i++)
        if (codes[i / bits] >> i % bits & 1) packed[i / 8] |= (uint8_t)(1 << i % 8);
}

static void test_codes(void **state)
{
    (void)state;
    uint8_t codes[80], packed[80], wanted[80], back[80];
    for (int bits = 1; bits <= 8; bits++) {
        for (int64_t n = 0; n <= 70; n++) {
            int64_t bytes = sq_codes_row_bytes(n, bits);
            for (int64_t j = 0; j < n; j++)
                codes[j] = (uint8_t)((j * 37 + n * 11 + 5) & ((1 << bits) - 1));
            memset(packed, 0xee, sizeof packed);
            memset(back, 0xee, sizeof back);
            plain_pack(codes, n, bits, wanted);
            sq_codes_pack_row(codes, n, bits, packed);
            CHECK(memcmp(packed, wanted, (size_t)bytes) == 0 && packed[bytes] == 0xee);
            sq_codes_unpack_row(packed, n, bits, back);
            CHECK(memcmp(back, codes, (size_t)n) == 0 && back[n] == 0xee);
        }
    }
    end_test();
}

/* --- the plain way ----------------------------------------------------------------------------------------------- */

static void test_round_trip(void **state)
{
    (void)state;
    char path[1024];
    struct sq_store *store = NULL;
    int n_layers = 0;
    make_full(&ranks.comm, ranks_file("full.h5", path));
    CHECK(!exists(path, ".tmp") && !exists(path, ".lock"));
    if (CHECK(sq_store_open(&ranks.comm, path, false, NULL, 0, NULL, &store) == SQ_OK)) {
        CHECK(strcmp(sq_store_config(store), CONFIG) == 0);
        CHECK(strcmp(sq_store_fingerprint(store), FINGERPRINT) == 0);
        const struct sq_store_layer *found = sq_store_layers(store, &n_layers);
        CHECK(n_layers == N_LAYERS);
        for (int l = 0; l < N_LAYERS; l++) {
            CHECK(strcmp(found[l].name, layers[l].name) == 0);
            CHECK(found[l].out_features == layers[l].out_features && found[l].in_features == layers[l].in_features);
            CHECK(found[l].is_transposed == layers[l].is_transposed);
            CHECK(memcmp(&found[l].grid, &layers[l].grid, sizeof layers[l].grid) == 0);
            CHECK(sq_store_is_done(store, l));
            CHECK(fixture_holds(store, layers, l));
        }
        sq_store_close(store);
    }
    end_test();
}

/* The same bytes from all ranks as from one, and at another time of day (HDF5's times count seconds). */
static void test_same_bytes(void **state)
{
    (void)state;
    char path[1024], alone_path[1024];
    struct sq_comm alone;
    const struct timespec wait = {1, 100000000};
    if (sq_comm_split(&ranks.comm, ranks.comm.rank, &alone) != SQ_OK) abort();
    if (ranks.comm.rank == 0) {
        nanosleep(&wait, NULL);
        make_full(&alone, ranks_file("alone.h5", alone_path));
        CHECK(ranks_same_files(ranks_file("full.h5", path), alone_path));
        unlink(alone_path);
    }
    sq_comm_free(&alone);
    end_test();
}

/* What nobody wrote is zero, and room for all of it is taken from the disk. */
static void test_reserved(void **state)
{
    (void)state;
    char path[1024];
    struct sq_store *store = NULL;
    struct stat info;
    CHECK(create(&ranks.comm, ranks_file("new.h5", path), &store) == SQ_OK);
    CHECK(store && !sq_store_is_done(store, 0) && !sq_store_is_done(store, N_LAYERS - 1));
    sq_store_close(store);
    CHECK(stat(path, &info) == 0 && (int64_t)info.st_blocks * 512 >= (int64_t)info.st_size);
    int64_t predicted = sq_store_predict_bytes(layers, N_LAYERS);
    CHECK(predicted >= (int64_t)info.st_size && predicted <= (int64_t)info.st_size + 40000);
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    hid_t codes = H5Dopen2(file, "layers/model.layers.3.up_proj/codes", H5P_DEFAULT);
    static uint8_t bytes[100 * 96];
    memset(bytes, 1, sizeof bytes);
    CHECK(H5Dread(codes, H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, bytes) >= 0);
    for (size_t i = 0; i < sizeof bytes; i++)
        if (bytes[i] != 0 && !CHECK(bytes[i] == 0)) break;
    H5Dclose(codes);
    H5Fclose(file);
    remove_file("new.h5");
    end_test();
}

/* --- refusals ---------------------------------------------------------------------------------------------------- */

static void test_existing_and_locked(void **state)
{
    (void)state;
    char path[1024];
    struct sq_store *store = NULL, *second = NULL;
    ranks_file("full.h5", path);
    ranks_listen();
    CHECK(create(&ranks.comm, path, &second) == SQ_ERR_USAGE);
    EXPECT_ERROR(0, path, "exists already", "--resume");
    CHECK(open_again(path, true, &store) == SQ_OK);
    ranks_listen();
    CHECK(open_again(path, true, &second) == SQ_ERR_BUSY);
    EXPECT_ERROR(0, path, "another job", "full.h5.lock");
    CHECK(open_again(path, false, &second) == SQ_OK); /* looking is allowed */
    sq_store_close(second);
    sq_store_close(store);
    CHECK(open_again(path, true, &store) == SQ_OK);
    sq_store_close(store);
    CHECK(!exists(path, ".lock"));
    end_test();
}

static void test_other_run(void **state)
{
    (void)state;
    char path[1024];
    struct sq_store *store = NULL;
    struct sq_store_layer others[N_LAYERS];
    memcpy(others, layers, sizeof others);
    others[4].grid.bits = 2;
    ranks_file("full.h5", path);
    ranks_listen();
    CHECK(sq_store_open(&ranks.comm, path, true, layers, N_LAYERS, "model: 0123\nbits: 3\nseed: 7\n", &store) ==
          SQ_ERR_USAGE);
    EXPECT_ERROR(0, "bits: store has 4, this run has 3", "order: store has activation, this run has nothing",
                 "seed: store has nothing, this run has 7");
    ranks_listen();
    CHECK(sq_store_open(&ranks.comm, path, true, others, N_LAYERS, FINGERPRINT, &store) == SQ_ERR_INPUT);
    EXPECT_ERROR(0, "layer 4", "4 bits", "2 bits");
    others[4] = layers[4];
    others[3].is_transposed = false;
    ranks_listen();
    CHECK(sq_store_open(&ranks.comm, path, true, others, N_LAYERS, FINGERPRINT, &store) == SQ_ERR_INPUT);
    EXPECT_ERROR(0, "layer 3", "transposed");
    ranks_listen();
    CHECK(sq_store_open(&ranks.comm, path, true, layers, N_LAYERS - 1, FINGERPRINT, &store) == SQ_ERR_INPUT);
    EXPECT_ERROR(0, path, "6 layers", "5");
    CHECK(!exists(path, ".lock"));
    end_test();
}

/* Copies the full store with its size cut and one byte changed (offset -1: none). Collective. */
static const char *damaged_copy(long keep, long offset, char path[1024])
{
    ranks_file("damaged.h5", path);
    if (ranks.comm.rank == 0) {
        char full[1024];
        long size = 0;
        unsigned char *bytes = ranks_read_file(ranks_file("full.h5", full), &size);
        if (offset >= 0) bytes[offset] ^= 0x10;
        folder_write(&ranks.folder, "damaged.h5", bytes, (size_t)(keep ? keep : size));
        free(bytes);
    }
    ranks_barrier();
    return path;
}

static void test_no_store(void **state)
{
    (void)state;
    char path[1024];
    struct sq_store *store = NULL;
    ranks_listen();
    CHECK(open_again(ranks_file("absent.h5", path), false, &store) == SQ_ERR_INPUT);
    EXPECT_ERROR(0, path, "No such file");
    ranks_listen();
    CHECK(open_again(damaged_copy(5000, -1, path), true, &store) == SQ_ERR_INPUT);
    EXPECT_ERROR(0, path, "truncated file");
    ranks_listen();
    CHECK(open_again(damaged_copy(0, 3, path), false, &store) == SQ_ERR_INPUT);
    EXPECT_ERROR(0, path, "signature");
    ranks_listen();
    CHECK(create(&ranks.comm, ranks_file("nowhere/x.h5", path), &store) == SQ_ERR_IO);
    EXPECT_ERROR(0, path, "No such file");
    remove_file("damaged.h5");
    end_test();
}

/* No damage to one byte of what HDF5 itself keeps may crash or hang. */
static void test_damaged_metadata(void **state)
{
    (void)state;
    char path[1024];
    for (long offset = 0; offset < 40000; offset += ranks.comm.size == 1 ? 211 : 2111) {
        struct sq_store *store = NULL;
        damaged_copy(0, offset, path);
        ranks_listen();
        enum sq_status status = open_again(path, false, &store);
        capture_stop(&ranks.capture);
        CHECK((status == SQ_OK) == (store != NULL));
        sq_store_close(store);
        ranks_barrier();
    }
    remove_file("damaged.h5");
    end_test();
}

/* Where a dataset begins in the whole store. */
static long offset_of(const char *name)
{
    char path[1024];
    hid_t file = H5Fopen(ranks_file("full.h5", path), H5F_ACC_RDONLY, H5P_DEFAULT);
    hid_t dataset = H5Dopen2(file, name, H5P_DEFAULT);
    long offset = (long)H5Dget_offset(dataset);
    H5Dclose(dataset);
    H5Fclose(file);
    return offset;
}

/* Where a text first stands in the whole store. */
static long find_text(const char *text)
{
    char path[1024];
    long size = 0, at = 0;
    char *bytes = (char *)ranks_read_file(ranks_file("full.h5", path), &size);
    while (at < size - (long)strlen(text) && memcmp(bytes + at, text, strlen(text)) != 0)
        at++;
    free(bytes);
    return at;
}

/* What is written once, and HDF5 keeps without a checksum: one bit of it is not taken for something else. */
static void test_damaged_head(void **state)
{
    (void)state;
    char path[1024];
    const long offsets[] = {find_text(CONFIG), find_text(FINGERPRINT) + 8, find_text("\nHDF5 ") + 6};
    for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++) {
        struct sq_store *store = NULL;
        damaged_copy(0, offsets[i], path);
        ranks_listen();
        CHECK(open_again(path, false, &store) == SQ_ERR_INPUT);
        EXPECT_ERROR(0, path, "the checksum of its settings and layers is", "the stored one");
    }
    remove_file("damaged.h5");
    end_test();
}

static void set_attribute(const char *path, const char *object, const char *name, int64_t value)
{
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    hid_t group = H5Gopen2(file, object, H5P_DEFAULT), attribute = H5Aopen(group, name, H5P_DEFAULT);
    CHECK(H5Awrite(attribute, H5T_NATIVE_INT64, &value) >= 0);
    H5Aclose(attribute);
    H5Gclose(group);
    H5Fclose(file);
}

static void test_damaged_layer(void **state)
{
    (void)state;
    char path[1024];
    static const char *const names[] = {"symmetric", "transposed"}; /* that nothing else contradicts */
    for (int i = 0; i < 2; i++) {
        struct sq_store *store = NULL;
        damaged_copy(0, -1, path);
        if (ranks.comm.rank == 0) set_attribute(path, "layers/model.layers.2.up_proj", names[i], i == 1);
        ranks_barrier();
        ranks_listen();
        CHECK(open_again(path, false, &store) == SQ_ERR_INPUT);
        EXPECT_ERROR(0, path, "the checksum of its settings and layers is", "the stored one");
    }
    remove_file("damaged.h5");
    end_test();
}

/* A byte changed in the codes of layer 3, row 65. */
static void test_damaged_codes(void **state)
{
    (void)state;
    char path[1024];
    struct sq_store *store = NULL;
    static struct fixture_tile tile;
    struct sq_store_rows rows = fixture_rows(&tile);
    CHECK(open_again(damaged_copy(0, offset_of("layers/model.layers.3.up_proj/codes") + 65 * 96 + 7, path), false,
                     &store) == SQ_OK);
    CHECK(sq_store_read_tile(store, 3, 1, &rows) == SQ_OK);
    capture_start(&ranks.capture);
    CHECK(sq_store_read_tile(store, 3, 2, &rows) == SQ_ERR_INPUT);
    EXPECT_ERROR(ranks.comm.rank, path, "layer model.layers.3.up_proj", "rows 64 ... 95", "checksum");
    sq_store_close(store);
    remove_file("damaged.h5");
    end_test();
}

/* A layer that is found damaged and written again, here by rank 0 alone, is whole for every rank: also for those that
 * have seen the damage. */
static void test_recheck(void **state)
{
    (void)state;
    char path[1024];
    struct sq_store *store = NULL;
    const int last = N_LAYERS - 1;
    const struct sq_layer_report report = fixture_report(last);
    CHECK(open_again(damaged_copy(0, offset_of("layers/model.layers.5.up_proj/codes") + 95 * 64 + 7, path), true,
                     &store) == SQ_OK);
    ranks_listen();
    CHECK(sq_store_recheck(store) == SQ_OK);
    const char *words = capture_stop(&ranks.capture);
    CHECK(ranks.comm.rank != 0 || (strstr(words, layers[last].name) && strstr(words, "from row 64 on")));
    for (int l = 0; l < N_LAYERS; l++)
        CHECK(sq_store_is_done(store, l) == (l != last));
    enum sq_status written = ranks.comm.rank == 0 ? fixture_write(store, layers, last, 0, 1) : SQ_OK;
    CHECK(sq_store_finish_layers(store, written, &last, 1, &report) == SQ_OK);
    for (int l = N_LAYERS - 1; l >= 0; l--)
        CHECK(fixture_holds(store, layers, l));
    CHECK(sq_store_recheck(store) == SQ_OK && sq_store_is_done(store, last));
    sq_store_close(store);
    remove_file("damaged.h5");
    end_test();
}

/* A report goes into the checkpoint, too: one that has changed is made again, with its layer. */
static void test_recheck_report(void **state)
{
    (void)state;
    char path[1024];
    struct sq_store *store = NULL;
    const int damaged = 2;
    const struct sq_layer_report report = fixture_report(damaged);
    CHECK(open_again(damaged_copy(0, offset_of("reports") + damaged * (long)sizeof report + 3, path), true, &store) ==
          SQ_OK);
    ranks_listen();
    CHECK(sq_store_recheck(store) == SQ_OK);
    const char *words = capture_stop(&ranks.capture);
    CHECK(ranks.comm.rank != 0 || (strstr(words, "the report of layer") && strstr(words, layers[damaged].name)));
    for (int l = 0; l < N_LAYERS; l++)
        CHECK(sq_store_is_done(store, l) == (l != damaged));
    CHECK(fixture_finish(store, &ranks.comm, layers, damaged) == SQ_OK);
    sq_store_close(store);
    CHECK(open_again(path, true, &store) == SQ_OK);
    CHECK(sq_store_recheck(store) == SQ_OK && sq_store_is_done(store, damaged));
    CHECK(fixture_holds(store, layers, damaged));
    sq_store_close(store);
    remove_file("damaged.h5");
    end_test();
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_codes),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_same_bytes),
        cmocka_unit_test(test_reserved),
        cmocka_unit_test(test_existing_and_locked),
        cmocka_unit_test(test_other_run),
        cmocka_unit_test(test_no_store),
        cmocka_unit_test(test_damaged_metadata),
        cmocka_unit_test(test_damaged_head),
        cmocka_unit_test(test_damaged_layer),
        cmocka_unit_test(test_damaged_codes),
        cmocka_unit_test(test_recheck),
        cmocka_unit_test(test_recheck_report),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    fixture_layers(layers);
    return ranks_main(&argc, &argv, run);
}
