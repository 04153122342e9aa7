/* From store to checkpoint: what is refused, and that failures leave nothing. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include "assemble_fixture.h"
#include "base/memory.h"
#include "mpi/stop.h"

/* --- refusals ----------------------------------------------------------------------------------------------------- */

static void test_existing_out(void **state)
{
    (void)state;
    char path[1024], file[1100];
    int64_t bytes;
    struct sq_assemble_options options = options_for("v1", false, path);
    CHECK(sq_assemble(&ranks.comm, source, v1_store, &options, &bytes) == SQ_OK);
    ranks_listen();
    CHECK(sq_assemble(&ranks.comm, source, v1_store, &options, &bytes) == SQ_ERR_USAGE);
    EXPECT_ERROR(0, "v1 is there already");
    options.replace = true;
    options.format = SQ_FORMAT_GPTQ_V2; /* it came from the other store */
    ranks_listen();
    CHECK(sq_assemble(&ranks.comm, source, v2_store, &options, &bytes) == SQ_ERR_USAGE);
    EXPECT_ERROR(0, "/v1 is there", "not assembled from this store");
    options.format = SQ_FORMAT_GPTQ;
    snprintf(file, sizeof file, "%s/leftover", path);
    if (ranks.comm.rank == 0) close(open(file, O_CREAT | O_WRONLY, 0666));
    ranks_barrier();
    CHECK(sq_assemble(&ranks.comm, source, v1_store, &options, &bytes) == SQ_OK);
    CHECK(exists_with(path, "/config.json") && !sq_folder_exists(file) && !exists_with(path, "/.replaced"));
    ranks_end_test();
}

static void test_asymmetric_v1(void **state)
{
    (void)state;
    char path[1024];
    int64_t bytes;
    const struct sq_assemble_options options = options_for("asym", false, path);
    ranks_listen();
    CHECK(sq_assemble(&ranks.comm, source, v2_store, &options, &bytes) == SQ_ERR_USAGE);
    EXPECT_ERROR(0, Q0, "gptq_v2");
    CHECK(!exists_with(path, "") && !exists_with(path, ".tmp"));
    ranks_end_test();
}

static void check_model_refused(const char *name, const struct fixture_tensor *extra, const char *message)
{
    char path[1024], out_path[1024], out_name[64];
    int64_t bytes;
    struct sq_checkpoint *checkpoint = NULL;
    ranks_file(name, path);
    if (ranks.comm.rank == 0) fixture_write_model(path, extra);
    ranks_barrier();
    CHECK(sq_checkpoint_open(path, &checkpoint) == SQ_OK);
    snprintf(out_name, sizeof out_name, "%s_out", name);
    const struct sq_assemble_options options = options_for(out_name, false, out_path);
    ranks_listen();
    CHECK(sq_assemble(&ranks.comm, checkpoint, v1_store, &options, &bytes) == SQ_ERR_INPUT);
    EXPECT_ERROR(0, extra->name, message);
    CHECK(!exists_with(out_path, "") && !exists_with(out_path, ".tmp"));
    sq_checkpoint_close(checkpoint);
}

/* A part of a layer that is there already, and a kept tensor of 8 bits whose scales are missing. */
static void test_other_tensors(void **state)
{
    (void)state;
    check_model_refused("part", &(struct fixture_tensor){Q0 ".qzeros", "I32", "[1]", 4}, "already has");
    check_model_refused("unscaled", &(struct fixture_tensor){"head.weight", "F8_E4M3", "[2,2]", 4},
                        "neither head.weight_scale_inv nor head.weight_scale");
    ranks_end_test();
}

/* A short last group, and 3 bits. */
static void test_packed(void **state)
{
    (void)state;
    char path[1024];
    int64_t bytes;
    struct sq_assemble_options options = options_for("packed", false, path);
    options.format = SQ_FORMAT_COMPRESSED_TENSORS;
    ranks_listen();
    CHECK(sq_assemble(&ranks.comm, source, v1_store, &options, &bytes) == SQ_ERR_USAGE);
    EXPECT_ERROR(0, DOWN0, "compressed-tensors holds whole groups only");
    ranks_listen();
    CHECK(sq_assemble(&ranks.comm, source, v2_store, &options, &bytes) == SQ_ERR_USAGE);
    EXPECT_ERROR(0, Q0, "compressed-tensors holds 2, 4 and 8 bits only; 3 bits need gptq_v2");
    CHECK(!exists_with(path, "") && !exists_with(path, ".tmp"));
    ranks_end_test();
}

static void test_incomplete_store(void **state)
{
    (void)state;
    char path[1024];
    int64_t bytes;
    const struct sq_assemble_options options = options_for("partial", false, path);
    struct sq_store *store = fixture_store("partial.h5", "bits: 4\n", v1_layers, 2);
    ranks_listen();
    CHECK(sq_assemble(&ranks.comm, source, store, &options, &bytes) == SQ_ERR_USAGE);
    EXPECT_ERROR(0, "2 of the store's 4 layers", Q1);
    sq_store_close(store);
    ranks_end_test();
}

static void test_other_model(void **state)
{
    (void)state;
    char path[1024];
    int64_t bytes;
    const struct sq_assemble_options options = options_for("other", false, path);
    struct sq_store_layer layers[N_LAYERS];
    memcpy(layers, v1_layers, sizeof layers);
    layers[1].out_features = 71;
    struct sq_store *store = fixture_store("other.h5", "bits: 4\n", layers, N_LAYERS);
    ranks_listen();
    CHECK(sq_assemble(&ranks.comm, source, store, &options, &bytes) == SQ_ERR_INPUT);
    EXPECT_ERROR(0, DOWN0 ".weight [71, 172] transposed");
    CHECK(!exists_with(path, "") && !exists_with(path, ".tmp"));
    sq_store_close(store);
    ranks_end_test();
}

/* The same shapes, but other weights. */
static void test_other_training_step(void **state)
{
    (void)state;
    char path[1024];
    int64_t bytes;
    const struct sq_assemble_options options = options_for("step", false, path);
    struct sq_store *store = fixture_store("step.h5", "bits: 4\nmodel_hash: 0123456789abcdef\n", v1_layers, N_LAYERS);
    ranks_listen();
    CHECK(sq_assemble(&ranks.comm, source, store, &options, &bytes) == SQ_ERR_USAGE);
    EXPECT_ERROR(0, "not the model", "0123456789abcdef");
    sq_store_close(store);
    ranks_end_test();
}

/* --- values that are not finite ----------------------------------------------------------------------------------- */

/* Fills elements [first, first + count) of a tensor of the model in `folder` with ones, which is a NaN in every type.
 */
static void poke(const char *folder, int tensor, int64_t first, int64_t count)
{
    char path[1100];
    int64_t length, offset = 8,
                    element = (int64_t)sq_dtype_size((enum sq_dtype)sq_dtype_parse(fixture_tensors[tensor].dtype));
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    FILE *file = fopen(path, "r+b");
    if (!file || fread(&length, sizeof length, 1, file) != 1) abort();
    for (int i = 0; i < tensor; i++)
        offset += (int64_t)fixture_tensors[i].bytes;
    if (fseek(file, (long)(offset + length + first * element), SEEK_SET) != 0) abort();
    for (int64_t i = 0; i < count * element; i++)
        fputc(0xff, file);
    if (fclose(file) != 0) abort();
}

/* Every tensor that is copied is looked at; many bad values, which all ranks meet, are one line. */
static void test_not_finite(void **state)
{
    (void)state;
    static const struct {
        int tensor;
        int64_t first, count;
        const char *place;
    } cases[] = {
        {0, 67, 96 * 64 - 67, "row 1, column 3"}, /* with all that follows it, and another tensor */
        {2, 63, 1, "row 63, column 0"},
        {6, 63 * 172 + 171, 1, "row 63, column 171"},
        {9, 0, 64, "row 0, column 0"},
    };
    char folder[1024], path[1024];
    int64_t bytes;
    struct sq_assemble_options options = options_for("nan", false, path);
    options.dequantized = true; /* nothing to say about the settings of layers */
    ranks_file("nan_model", folder);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sq_checkpoint *model;
        if (ranks.comm.rank == 0) {
            fixture_write_model(folder, NULL);
            poke(folder, cases[i].tensor, cases[i].first, cases[i].count);
            if (i == 0) poke(folder, 6, 0, 64);
        }
        ranks_barrier();
        if (sq_checkpoint_open(folder, &model) != SQ_OK) abort();
        ranks_listen();
        CHECK(sq_assemble(&ranks.comm, model, v1_store, &options, &bytes) == SQ_ERR_NUMERIC);
        EXPECT_ERROR(0, "nan_model/model.safetensors", fixture_tensors[cases[i].tensor].name, cases[i].place);
        CHECK(!exists_with(path, "") && !exists_with(path, ".tmp"));
        sq_checkpoint_close(model);
        ranks_barrier();
        if (ranks.comm.rank == 0) sq_folder_remove(folder);
    }
    ranks_end_test();
}

/* --- failures leave nothing --------------------------------------------------------------------------------------- */

static void test_file_too_large(void **state)
{
    (void)state;
    char path[1024];
    int64_t bytes;
    struct rlimit old, small;
    const struct sq_assemble_options options = options_for("large", false, path);
    getrlimit(RLIMIT_FSIZE, &old);
    small = (struct rlimit){20000, old.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    ranks_listen();
    enum sq_status status = sq_assemble(&ranks.comm, source, v1_store, &options, &bytes);
    setrlimit(RLIMIT_FSIZE, &old);
    CHECK(status == SQ_ERR_IO);
    EXPECT_ERROR(0, "cannot reserve", "model.safetensors");
    CHECK(!exists_with(path, "") && !exists_with(path, ".tmp"));
    ranks_end_test();
}

static void test_full_disk(void **state)
{
    (void)state;
    char mount_path[1024], path[1100];
    int64_t bytes, failed = 0;
    ranks_file("small", mount_path);
    snprintf(path, sizeof path, "%s/out", mount_path);
    if (ranks.comm.rank == 0)
        failed = mkdir(mount_path, 0777) || mount("none", mount_path, "tmpfs", 0, "size=48k") ? 1 : 0;
    if (sq_comm_max_i64(&ranks.comm, &failed, 1) != SQ_OK) abort();
    if (failed) skip(); /* no right to mount */
    struct sq_assemble_options options = options_for("small", false, mount_path);
    options.out = path;
    ranks_listen();
    CHECK(sq_assemble(&ranks.comm, source, v1_store, &options, &bytes) == SQ_ERR_IO);
    EXPECT_ERROR(0, "cannot reserve", "small/out.tmp/model.safetensors", strerror(ENOSPC));
    CHECK(!exists_with(path, "") && !exists_with(path, ".tmp"));
    ranks_barrier();
    if (ranks.comm.rank == 0) umount(mount_path);
    ranks_end_test();
}

/* A signal to one rank stops all of them, and the next attempt is not disturbed by it. */
static void test_stopped(void **state)
{
    (void)state;
    char path[1024];
    int64_t bytes;
    const struct sq_assemble_options options = options_for("stopped", false, path);
    sq_stop_catch_signals();
    if (ranks.comm.rank == ranks.comm.size - 1) raise(SIGUSR1);
    CHECK(sq_assemble(&ranks.comm, source, v1_store, &options, &bytes) == SQ_STOPPED);
    CHECK(!exists_with(path, "") && !exists_with(path, ".tmp"));
    sq_stop_catch_signals();
    CHECK(sq_assemble(&ranks.comm, source, v1_store, &options, &bytes) == SQ_OK);
    CHECK(exists_with(path, "/config.json"));
    ranks_end_test();
}

/* Every allocation fails once, until none is left to fail. */
static void check_out_of_memory(struct sq_store *store, const struct sq_assemble_options *options)
{
    int64_t bytes, n = 0;
    enum sq_status status = SQ_ERR_MEMORY;
    const char *path = options->out;
    while (status == SQ_ERR_MEMORY) {
        struct capture capture;
        capture_start(&capture);
        sq_memory_fail_at(++n);
        status = sq_assemble(&ranks.comm, source, store, options, &bytes);
        sq_memory_fail_at(0);
        const char *text = capture_stop(&capture);
        if (!CHECK(status == SQ_OK || status == SQ_ERR_MEMORY)) printf("allocation %d: %s\n", (int)n, text);
        if (status != SQ_OK) CHECK(!exists_with(path, "") && !exists_with(path, ".tmp"));
    }
    CHECK(n > 50);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    char path[1024];
    struct sq_assemble_options options = options_for("memory", false, path);
    check_out_of_memory(v1_store, &options);
    options = options_for("memory_ct", false, path);
    options.format = SQ_FORMAT_COMPRESSED_TENSORS;
    check_out_of_memory(ct_store, &options);
    ranks_end_test();
}

/* Makes NAME.tmp with a folder `inside` (NULL: nothing) in it. Collective. */
static void make_tmp(const char *path, const char *inside)
{
    char tmp[1100], file[1200];
    snprintf(tmp, sizeof tmp, "%s.tmp", path);
    snprintf(file, sizeof file, "%s/%s", tmp, inside ? inside : "");
    if (ranks.comm.rank == 0 && (mkdir(tmp, 0777) || (inside && mkdir(file, 0777)))) abort();
    ranks_barrier();
}

/* Killed before the marker was there, and after. */
static void test_stale_tmp(void **state)
{
    (void)state;
    char path[1024];
    int64_t bytes;
    for (int marked = 0; marked < 2; marked++) {
        const struct sq_assemble_options options = options_for(marked ? "stale" : "empty", false, path);
        make_tmp(path, marked ? ".shardq-unfinished" : NULL);
        CHECK(sq_folder_check_parent(path) == SQ_OK);
        CHECK(sq_assemble(&ranks.comm, source, v1_store, &options, &bytes) == SQ_OK);
        CHECK(exists_with(path, "/config.json") && !exists_with(path, "/.shardq-unfinished"));
        CHECK(!exists_with(path, ".tmp"));
    }
    ranks_end_test();
}

/* Somebody else's NAME.tmp stays as it is. */
static void test_foreign_tmp(void **state)
{
    (void)state;
    char path[1024];
    int64_t bytes;
    const struct sq_assemble_options options = options_for("foreign", false, path);
    make_tmp(path, "thesis");
    ranks_listen();
    CHECK(sq_assemble(&ranks.comm, source, v1_store, &options, &bytes) == SQ_ERR_USAGE);
    EXPECT_ERROR(0, "foreign.tmp", "left unfinished");
    CHECK(exists_with(path, ".tmp/thesis") && !exists_with(path, ""));
    struct capture capture;
    capture_start(&capture);
    CHECK(sq_folder_check_parent(path) == SQ_ERR_USAGE);
    capture_stop(&capture);
    ranks_end_test();
}

/* What another job is writing stays as it is, as does what it has just finished. */
static void test_locked(void **state)
{
    (void)state;
    char path[1024], tmp[1100];
    int64_t bytes;
    int lock = -1;
    const struct sq_assemble_options options = options_for("locked", false, path);
    snprintf(tmp, sizeof tmp, "%s.tmp", path);
    make_tmp(path, ".shardq-unfinished");
    if (ranks.comm.rank == 0) CHECK(sq_folder_lock(path, tmp, &lock) == SQ_OK && lock >= 0);
    ranks_listen();
    CHECK(sq_assemble(&ranks.comm, source, v1_store, &options, &bytes) == SQ_ERR_BUSY);
    EXPECT_ERROR(0, "/locked is in use by another job", "locked.tmp.lock");
    CHECK(exists_with(path, ".tmp/.shardq-unfinished") && exists_with(path, ".tmp.lock") && !exists_with(path, ""));
    ranks_barrier();
    if (ranks.comm.rank == 0) sq_lock_release(tmp, lock);
    CHECK(sq_assemble(&ranks.comm, source, v1_store, &options, &bytes) == SQ_OK);
    CHECK(exists_with(path, "") && !exists_with(path, ".tmp") && !exists_with(path, ".tmp.lock"));
    ranks_barrier(); /* what comes takes the lock again */
    ranks_listen();
    CHECK(sq_assemble(&ranks.comm, source, v1_store, &options, &bytes) == SQ_ERR_USAGE);
    EXPECT_ERROR(0, "locked is there already");
    CHECK(!exists_with(path, ".tmp.lock"));
    ranks_end_test();
}

static int run_group(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_existing_out),
        cmocka_unit_test(test_asymmetric_v1),
        cmocka_unit_test(test_packed),
        cmocka_unit_test(test_other_tensors),
        cmocka_unit_test(test_incomplete_store),
        cmocka_unit_test(test_other_model),
        cmocka_unit_test(test_other_training_step),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_file_too_large),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_stopped),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_stale_tmp),
        cmocka_unit_test(test_foreign_tmp),
        cmocka_unit_test(test_locked),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

int main(int argc, char **argv)
{
    return ranks_main(&argc, &argv, run_group);
}
