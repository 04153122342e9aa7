/* From store to checkpoint: whether a folder is that of a store, that the number of ranks does not show, and that the
 * check finds damage. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>

#include "assemble_fixture.h"
#include "io/assemble_private.h"

static void write_folder(struct sq_store *store, const struct sq_assemble_options *options)
{
    int64_t bytes;
    CHECK(sq_assemble(&ranks.comm, source, store, options, &bytes) == SQ_OK);
}

/* --- a folder that is there already ------------------------------------------------------------------------------- */

static bool matches(struct sq_store *store, const struct sq_assemble_options *options)
{
    bool found = false;
    CHECK(sq_assemble_matches(&ranks.comm, store, options, &found) == SQ_OK);
    return found;
}

/* The folders v1, v2 (in shards), ct and plain (dequantized). */
static void write_folders(void)
{
    char path[1024];
    struct sq_assemble_options options = options_for("v1", false, path);
    write_folder(v1_store, &options);
    options = options_for("v2", true, path);
    options.shard_bytes = 20000;
    write_folder(v2_store, &options);
    options = options_for("ct", false, path);
    options.format = SQ_FORMAT_COMPRESSED_TENSORS;
    write_folder(ct_store, &options);
    options = options_for("plain", true, path);
    options.dequantized = true;
    write_folder(v2_store, &options);
}

static void test_matches(void **state)
{
    (void)state;
    char path[1024];
    write_folders();
    struct sq_assemble_options options = options_for("v1", false, path);
    CHECK(matches(v1_store, &options) && !matches(v2_store, &options));
    options.format = SQ_FORMAT_GPTQ_V2;
    CHECK(!matches(v1_store, &options));
    options.format = SQ_FORMAT_GPTQ;
    options.dequantized = true;
    CHECK(!matches(v1_store, &options));
    options = options_for("v2", true, path);
    CHECK(!matches(v2_store, &options));
    options.shard_bytes = 20000;
    CHECK(matches(v2_store, &options));
    options.format = SQ_FORMAT_COMPRESSED_TENSORS;
    CHECK(!matches(v2_store, &options));
    options = options_for("ct", false, path);
    CHECK(!matches(ct_store, &options));
    options.format = SQ_FORMAT_COMPRESSED_TENSORS;
    CHECK(matches(ct_store, &options));
    options = options_for("plain", true, path);
    CHECK(!matches(v2_store, &options));
    options.dequantized = true;
    CHECK(matches(v2_store, &options) && !matches(v1_store, &options));
    options.shard_bytes = 1 << 20;
    CHECK(!matches(v2_store, &options));
    options = options_for("absent", false, path);
    CHECK(!matches(v1_store, &options));
    ranks_end_test();
}

/* --- the same bytes from any number of ranks ---------------------------------------------------------------------- */

static int count_same_files(const char *a, const char *b)
{
    int same = 0, others = 0;
    DIR *folder = opendir(a);
    if (!folder) return -1;
    for (struct dirent *entry; (entry = readdir(folder));) {
        char x[1400], y[1400];
        if (entry->d_name[0] == '.') continue;
        snprintf(x, sizeof x, "%s/%s", a, entry->d_name);
        snprintf(y, sizeof y, "%s/%s", b, entry->d_name);
        if (ranks_same_files(x, y))
            same++;
        else
            others++;
    }
    closedir(folder);
    return others ? -1 : same;
}

static void check_serial(struct sq_store *store, enum sq_format format, int64_t shard_bytes)
{
    char all_path[1024], one_path[1024];
    int64_t bytes;
    struct sq_comm alone;
    char all_name[8], one_name[8];
    snprintf(all_name, sizeof all_name, "all%d", (int)format);
    snprintf(one_name, sizeof one_name, "one%d", (int)format);
    struct sq_assemble_options all = options_for(all_name, false, all_path);
    struct sq_assemble_options one = options_for(one_name, false, one_path);
    all.format = one.format = format;
    all.shard_bytes = one.shard_bytes = shard_bytes;
    CHECK(sq_assemble(&ranks.comm, source, store, &all, &bytes) == SQ_OK);
    CHECK(sq_comm_split(&ranks.comm, ranks.comm.rank, &alone) == SQ_OK);
    if (ranks.comm.rank == 0) {
        CHECK(sq_assemble(&alone, source, store, &one, &bytes) == SQ_OK);
        int same = count_same_files(all_path, one_path);
        CHECK(same == count_same_files(one_path, all_path));
        CHECK(shard_bytes > 100000 ? same == (format == SQ_FORMAT_GPTQ ? 6 : 5) : same > 10);
    }
    sq_comm_free(&alone);
    ranks_barrier();
}

static void test_same_bytes(void **state)
{
    (void)state;
    check_serial(v1_store, SQ_FORMAT_GPTQ, 1 << 30);
    check_serial(v2_store, SQ_FORMAT_GPTQ_V2, 4096);
    check_serial(ct_store, SQ_FORMAT_COMPRESSED_TENSORS, 1 << 30);
    ranks_end_test();
}

/* --- the check of what was written -------------------------------------------------------------------------------- */

static void flip_byte(const char *file, int64_t offset)
{
    unsigned char byte;
    int fd = open(file, O_RDWR);
    if (pread(fd, &byte, 1, offset) != 1) abort();
    byte ^= 1;
    if (pwrite(fd, &byte, 1, offset) != 1 || close(fd)) abort();
}

/* Checks the finished folder with one byte of the output changed. */
static void check_damage(struct sq_assembly *assembly, const char *name, int64_t offset)
{
    char file[1100];
    struct capture capture;
    const struct sq_output *output = assembly->plan.outputs;
    while (strcmp(output->name, name) != 0)
        output++;
    snprintf(file, sizeof file, "%s/model.safetensors", assembly->tmp);
    ranks_barrier();
    if (ranks.comm.rank == 0) flip_byte(file, output->entry.offset + offset);
    ranks_barrier();
    capture_start(&capture);
    enum sq_status status = sq_comm_agree(&ranks.comm, sq_assembly_check(assembly));
    capture_stop(&capture);
    CHECK(status == SQ_ERR_IO);
    ranks_barrier();
    if (ranks.comm.rank == 0) flip_byte(file, output->entry.offset + offset);
    ranks_barrier();
}

static void test_check_finds_damage(void **state)
{
    (void)state;
    char path[1024];
    const struct sq_assemble_options options = options_for("checked", false, path);
    write_folder(v1_store, &options);
    struct sq_assembly assembly = {
        .comm = &ranks.comm, .checkpoint = source, .store = v1_store, .options = &options, .tmp = path};
    CHECK(sq_assemble_plan_make(source, v1_store, &options, ranks.comm.size, &assembly.plan) == SQ_OK);
    CHECK(sq_comm_agree(&ranks.comm, sq_assembly_check(&assembly)) == SQ_OK);
    check_damage(&assembly, Q0 ".qweight", 0);
    check_damage(&assembly, DOWN0 ".qweight", (22 * 70 - 1) * 4);
    check_damage(&assembly, DOWN0 ".qzeros", 9);
    check_damage(&assembly, Q1 ".scales", 5);
    check_damage(&assembly, HEAD ".g_idx", 4);
    check_damage(&assembly, "odd", 2);
    check_damage(&assembly, SKIPPED ".weight", 64 * 172 * 2 - 1);
    check_damage(&assembly, "model.embed_tokens.weight", 96 * 64 * 2 - 1);
    sq_assemble_plan_release(&assembly.plan);
    ranks_end_test();
}

static int run_group(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matches),
        cmocka_unit_test(test_same_bytes),
        cmocka_unit_test(test_check_finds_damage),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

int main(int argc, char **argv)
{
    return ranks_main(&argc, &argv, run_group);
}
