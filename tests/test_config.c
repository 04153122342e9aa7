/* Options: the table, the command line, and what goes together. */
#define _POSIX_C_SOURCE 200809L
#include "config_fixture.h"

#include <sys/stat.h>

#include "base/memory.h"
#include "capture.h"
#include "config/text.h"

static void test_table_is_consistent(void **state)
{
    (void)state;
    int count;
    const struct sq_option *table = sq_option_table(&count);
    for (int i = 0; i < count; i++) {
        bool off;
        if (!table[i].key) continue;
        assert_ptr_equal(sq_option_find_key(table[i].key), &table[i]);
        assert_ptr_equal(sq_option_find_flag(table[i].flag, &off), &table[i]);
        assert_false(off);
        assert_int_equal(table[i].type == SQ_OPTION_BOOL, table[i].off_flag != NULL);
        assert_int_equal(table[i].type == SQ_OPTION_BOOL, table[i].value_name == NULL);
        assert_int_equal(table[i].required & ~table[i].commands, 0);
        assert_true(table[i].commands != 0);
    }
}

static void test_defaults(void **state)
{
    (void)state;
    struct sq_config config;
    assert_int_equal(QUANTIZE(&config, "--threads", "2"), SQ_OK);
    assert_int_equal(config.bits, 4);
    assert_int_equal(config.group_size, SQ_GROUP_AUTO);
    assert_true(config.symmetric && config.assemble && config.static_groups);
    assert_false(config.ragged || config.resume || config.strict || config.lm_head || config.json || config.help);
    assert_int_equal(config.grid, SQ_GRID_SEARCH);
    assert_int_equal(config.order, SQ_ORDER_ACTIVATION);
    assert_int_equal(config.solver, SQ_SOLVER_GPTQ);
    assert_true(config.damping == 0.01);
    assert_int_equal(config.refine, 4);
    assert_int_equal(config.propagation, SQ_PROPAGATION_QUANTIZED);
    assert_int_equal(config.compute, SQ_COMPUTE_AUTO);
    assert_int_equal(config.shards, 16);
    assert_int_equal(config.scale_dtype, SQ_F16);
    assert_int_equal(config.format, SQ_FORMAT_AUTO);
    assert_int_equal(config.shard_bytes, INT64_C(5) << 30);
    assert_int_equal(config.state_seconds, 300);
    assert_int_equal(config.samples, 128);
    assert_int_equal(config.length, 0);
    assert_int_equal(config.threads, 2);
    assert_string_equal(config.model, "m");
    assert_null(config.store);
    sq_config_release(&config);
}

static void test_flags(void **state)
{
    (void)state;
    struct sq_config config;
    assert_int_equal(QUANTIZE(&config, "--bits=3", "--group-size", "-1", "--asymmetric", "--grid=reference", "--refine",
                              "0", "--order", "natural", "--damping", "5e-3", "--memory", "1.5G", "--compute", "bf16",
                              "--format=gptq_v2", "--scale-dtype", "bf16", "--lm-head", "--no-assemble", "--resume"),
                     SQ_OK);
    assert_int_equal(config.bits, 3);
    assert_int_equal(config.group_size, SQ_GROUP_PER_CHANNEL);
    assert_false(config.symmetric || config.static_groups || config.assemble);
    assert_int_equal(config.grid, SQ_GRID_REFERENCE);
    assert_true(config.damping == 5e-3);
    assert_int_equal(config.memory_bytes, INT64_C(3) << 29);
    assert_int_equal(config.compute, SQ_COMPUTE_BF16);
    assert_int_equal(config.format, SQ_FORMAT_GPTQ_V2);
    assert_int_equal(config.scale_dtype, SQ_BF16);
    assert_true(config.lm_head && config.resume);
    sq_config_release(&config);
}

static void test_precedence(void **state)
{
    (void)state;
    struct folder folder;
    char path[1024];
    write_file("bits: 2\nrefine: 7\ndamping: 0.5\nrules: [{pattern: down, bits: 8}]\n", &folder, path);
    struct sq_config config;
    assert_int_equal(QUANTIZE(&config, "--bits", "8", "--skip", "a", "--set", "bits=3", "--set=refine=2", "--config",
                              path, "--skip=b"),
                     SQ_OK);
    assert_int_equal(config.bits, 8);
    assert_int_equal(config.refine, 2);
    assert_true(config.damping == 0.5);
    assert_int_equal(config.n_rules, 3);
    assert_string_equal(config.rules[0].pattern, "a");
    assert_string_equal(config.rules[1].pattern, "b");
    assert_string_equal(config.rules[2].pattern, "down");
    sq_config_release(&config);
    folder_remove(&folder);
}

static void test_wrong_words(void **state)
{
    (void)state;
    struct sq_config config;
    char *const wrong[][2] = {
        {"--bits", "5"},
        {"--bits", "four"},
        {"--group-size", "0"},
        {"--group-size", "-2"},
        {"--group-size", "64k"},
        {"--refine", "101"},
        {"--refine", " 4"},
        {"--refine", ""},
        {"--damping", "nan"},
        {"--damping", "1.5"},
        {"--damping", "0x1p-3"},
        {"--memory", "1Q"},
        {"--memory", "5"},
        {"--grid", "Search"},
        {"--skip", "("},
        {"--skip", ""},
        {"--ragged=1", "--json"},
        {"--unknown", "1"},
        {"--json", "--bits=4"},
        {"--ranks", "3"},
        {"--set", "bits"},
        {"--set", "bits=5"},
        {"--set", "nobits=4"},
        {"--set", "rules=a"},
        {"stray", "--strict"},
        {"--store", "--strict"},
        {"--model", "\xff"},
        {"--config", "/does/not/exist"},
        {"--symmetric", "--asymmetric"},
        {"--refine", "99999999999999999999"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (QUANTIZE(&config, wrong[i][0], wrong[i][1]) != SQ_ERR_USAGE)
            fail_msg("was not refused: %s %s", wrong[i][0], wrong[i][1]);
    assert_int_equal(QUANTIZE(&config, "--bits"), SQ_ERR_USAGE);
}

/* A value that is wrong is called by the flag that was typed, also one of a list. */
static void test_flag_in_message(void **state)
{
    (void)state;
    static const struct {
        char *flag, *value;
        const char *message;
    } cases[] = {
        {"--bits", "5", "shardq: error: --bits 5: must be 2, 3, 4 or 8\n"},
        {"--ranks", "nonsense", "shardq: error: --ranks nonsense: must be 1 to 1048576\n"},
        {"--ranks", "1,0", "shardq: error: --ranks 0: must be 1 to 1048576\n"},
        {"--ranks", "1,", "shardq: error: --ranks: the value is empty\n"},
        {"--set", "ranks=x", "shardq: error: --set ranks x: must be 1 to 1048576\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sq_config config;
        struct capture capture;
        capture_start(&capture);
        enum sq_status status = PARSE(SQ_COMMAND_PLAN, &config, "--model", "m", cases[i].flag, cases[i].value);
        capture_stop(&capture);
        assert_int_equal(status, SQ_ERR_USAGE);
        assert_string_equal(capture.text, cases[i].message);
    }
}

static void test_required(void **state)
{
    (void)state;
    struct sq_config config;
    assert_int_equal(PARSE(SQ_COMMAND_QUANTIZE, &config, "--model", "m", "--tokens", "t"), SQ_ERR_USAGE);
    assert_int_equal(PARSE(SQ_COMMAND_QUANTIZE, &config, "--model", "m", "--tokens", "t", "--no-assemble"),
                     SQ_ERR_USAGE);
    assert_int_equal(PARSE(SQ_COMMAND_ASSEMBLE, &config, "--out", "o"), SQ_ERR_USAGE);
    assert_int_equal(PARSE(SQ_COMMAND_VERIFY, &config, "--model", "m", "--tokens", "t"), SQ_ERR_USAGE);
    assert_int_equal(PARSE(SQ_COMMAND_INSPECT, &config, "--json"), SQ_ERR_USAGE);
    assert_int_equal(PARSE(SQ_COMMAND_INSPECT, &config, "a", "b"), SQ_ERR_USAGE);
    assert_int_equal(
        PARSE(SQ_COMMAND_QUANTIZE, &config, "--model", "m", "--tokens", "t", "--no-assemble", "--store", "s"), SQ_OK);
    sq_config_release(&config);
    assert_int_equal(PARSE(SQ_COMMAND_INSPECT, &config, "folder", "--json"), SQ_OK);
    assert_string_equal(config.path, "folder");
    sq_config_release(&config);
    assert_int_equal(PARSE(SQ_COMMAND_PLAN, &config, "--model", "m", "--ranks", "1,8,64"), SQ_OK);
    assert_int_equal(config.ranks.count, 3);
    assert_string_equal(config.ranks.items[2], "64");
    sq_config_release(&config);
    assert_int_equal(PARSE(SQ_COMMAND_PLAN, &config, "--model", "m", "--ranks", "1,x"), SQ_ERR_USAGE);
    assert_int_equal(PARSE(SQ_COMMAND_PLAN, &config, "--model", "m", "--ranks", "1,,2"), SQ_ERR_USAGE);
    assert_int_equal(PARSE(SQ_COMMAND_EVAL, &config, "--bits", "5", "--help"), SQ_ERR_USAGE);
    assert_int_equal(PARSE(SQ_COMMAND_EVAL, &config, "--help"), SQ_OK);
    assert_true(config.help);
    sq_config_release(&config);
}

static void test_impossible_combinations(void **state)
{
    (void)state;
    struct sq_config config;
    struct folder folder;
    char path[1024];
    write_file("rules: [{pattern: down, bits: 3}]\n", &folder, path);
    assert_int_equal(QUANTIZE(&config, "--format", "gptq", "--bits", "3"), SQ_ERR_USAGE);
    assert_int_equal(QUANTIZE(&config, "--format", "gptq", "--asymmetric"), SQ_ERR_USAGE);
    assert_int_equal(QUANTIZE(&config, "--format", "gptq", "--config", path), SQ_ERR_USAGE);
    assert_int_equal(QUANTIZE(&config, "--grid", "absmax", "--asymmetric"), SQ_ERR_USAGE);
    assert_int_equal(QUANTIZE(&config, "--no-static-groups"), SQ_ERR_USAGE);
    assert_int_equal(QUANTIZE(&config, "--solver", "obq", "--order", "natural"), SQ_ERR_USAGE);
    assert_int_equal(QUANTIZE(&config, "--solver", "rtn", "--refine", "2"), SQ_ERR_USAGE);
    assert_int_equal(QUANTIZE(&config, "--dequantized", "--no-assemble"), SQ_ERR_USAGE);
    assert_int_equal(QUANTIZE(&config, "--dequantized", "--format", "gptq"), SQ_ERR_USAGE);
    assert_int_equal(QUANTIZE(&config, "--out", "m"), SQ_ERR_USAGE);
    assert_int_equal(QUANTIZE(&config, "--out", "m/"), SQ_ERR_USAGE);
    assert_int_equal(QUANTIZE(&config, "--store", "t.h5"), SQ_ERR_USAGE);
    assert_int_equal(QUANTIZE(&config, "--store", "o"), SQ_ERR_USAGE);
    assert_int_equal(QUANTIZE(&config, "--out", ".", "--model", "./."), SQ_ERR_USAGE);
    assert_int_equal(QUANTIZE(&config, "--solver", "rtn"), SQ_OK);
    assert_int_equal(config.refine, 0);
    sq_config_release(&config);
    assert_int_equal(QUANTIZE(&config, "--solver", "obq", "--asymmetric", "--set", "order=activation"), SQ_OK);
    assert_true(config.static_groups);
    sq_config_release(&config);
    folder_remove(&folder);
}

static void test_folders_end_without_a_slash(void **state)
{
    (void)state;
    struct sq_config config;
    assert_int_equal(PARSE(SQ_COMMAND_QUANTIZE, &config, "--set", "model=a/m//", "--tokens", "t", "--out", "a/o/"),
                     SQ_OK);
    assert_string_equal(config.model, "a/m");
    assert_string_equal(config.out, "a/o");
    sq_config_release(&config);
    assert_int_equal(PARSE(SQ_COMMAND_VERIFY, &config, "--model", "/", "--tokens", "t", "--checkpoint", "c/"), SQ_OK);
    assert_string_equal(config.model, "/");
    assert_string_equal(config.checkpoint, "c");
    sq_config_release(&config);
    assert_int_equal(PARSE(SQ_COMMAND_EVAL, &config, "--model", "m", "--tokens", "t", "--against", "n//"), SQ_OK);
    assert_string_equal(config.against, "n");
    sq_config_release(&config);
    assert_int_equal(QUANTIZE(&config, "--trace", "o.store.h5", "--out", "o/"), SQ_ERR_USAGE);
}

/* Names that the program derives from those given are in use, too. */
static void test_derived_names(void **state)
{
    (void)state;
    static char *const taken[] = {"o",
                                  "o.tmp",
                                  "o.tmp.lock",
                                  "o.store.h5",
                                  "o.store.h5.tmp",
                                  "o.store.h5.lock",
                                  "o.store.h5.state",
                                  "o.store.h5.state.tmp",
                                  "o/inside",
                                  "o.tmp/inside",
                                  "x/../o.tmp"};
    static char *const flags[] = {"--log", "--trace", "--tokens"};
    struct sq_config config;
    struct folder folder;
    char before[1024];
    folder_create(&folder);
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(folder.path), 0);
    assert_int_equal(mkdir("x", 0700), 0);
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        for (int f = 0; f < 3; f++)
            if (QUANTIZE(&config, flags[f], taken[i]) != SQ_ERR_USAGE)
                fail_msg("was not refused: %s %s", flags[f], taken[i]);
    assert_int_equal(QUANTIZE(&config, "--store", "o.tmp"), SQ_ERR_USAGE);
    assert_int_equal(QUANTIZE(&config, "--store", "o/s.h5"), SQ_ERR_USAGE);
    assert_int_equal(QUANTIZE(&config, "--store", "s", "--log", "s.lock"), SQ_ERR_USAGE);
    assert_int_equal(QUANTIZE(&config, "--trace", "r", "--log", "r.tmp"), SQ_ERR_USAGE);
    assert_int_equal(QUANTIZE(&config, "--model", "o.tmp"), SQ_ERR_USAGE);
    char absolute[1100];
    snprintf(absolute, sizeof absolute, "%s/o.store.h5.lock", folder.path);
    assert_int_equal(QUANTIZE(&config, "--log", absolute), SQ_ERR_USAGE);
    assert_int_equal(PARSE(SQ_COMMAND_ASSEMBLE, &config, "--store", "o.tmp", "--out", "o"), SQ_ERR_USAGE);
    assert_int_equal(PARSE(SQ_COMMAND_REPORT, &config, "a", "o.tmp", "--out", "o"), SQ_ERR_USAGE);
    /* what only looks like it */
    assert_int_equal(QUANTIZE(&config, "--log", "o.log", "--trace", "o.trace", "--store", "o.h5"), SQ_OK);
    sq_config_release(&config);
    assert_int_equal(QUANTIZE(&config, "--no-assemble", "--log", "o/log"), SQ_OK);
    sq_config_release(&config);
    assert_int_equal(PARSE(SQ_COMMAND_REPORT, &config, "a", "a", "--out", "o"), SQ_OK);
    sq_config_release(&config);
    assert_int_equal(chdir(before), 0);
    folder_remove(&folder);
}

/* Files of --config are read, and are nothing that a command may write. */
static void test_config_files_stay(void **state)
{
    (void)state;
    struct sq_config config;
    struct folder folder;
    char path[1024], before[1024];
    write_file("threads: 1\n", &folder, path);
    folder_write_text(&folder, "x.tmp", "threads: 2\n");
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(folder.path), 0);
    char *const flags[] = {"--log", "--trace", "--store", "--out"};
    for (int f = 0; f < 4; f++)
        if (QUANTIZE(&config, "--config", path, "--config", "x.tmp", flags[f], "job.yaml") != SQ_ERR_USAGE)
            fail_msg("was not refused: %s", flags[f]);
    assert_int_equal(QUANTIZE(&config, "--config", "x.tmp", "--trace", "x"), SQ_ERR_USAGE);
    assert_int_equal(PARSE(SQ_COMMAND_ASSEMBLE, &config, "--store", "s", "--out", "x", "--config", "x.tmp"),
                     SQ_ERR_USAGE);
    assert_int_equal(PARSE(SQ_COMMAND_REPORT, &config, "a", "--out", "./job.yaml", "--config", path), SQ_ERR_USAGE);
    assert_int_equal(PARSE(SQ_COMMAND_BENCH, &config, "--out", "x", "--config", "x.tmp"), SQ_ERR_USAGE);
    assert_int_equal(QUANTIZE(&config, "--config", path, "--config", path, "--log", "log"), SQ_OK);
    assert_int_equal(config.config_files.count, 2);
    sq_config_release(&config);
    assert_int_equal(chdir(before), 0);
    folder_remove(&folder);
}

/* A file that is renamed to its name must cost nothing but a file: no link, folder, FIFO or device. */
static void test_only_files_are_replaced(void **state)
{
    (void)state;
    struct sq_config config;
    struct folder folder;
    char link[1024], fifo[1024], file[1024];
    folder_create(&folder);
    folder_write_text(&folder, "file", "text");
    folder_file(&folder, "file", file);
    assert_int_equal(symlink("nowhere", folder_file(&folder, "link", link)), 0);
    assert_int_equal(mkfifo(folder_file(&folder, "fifo", fifo), 0600), 0);
    char *const refused[] = {link, fifo, folder.path};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(QUANTIZE(&config, "--trace", refused[i]), SQ_ERR_USAGE);
        assert_int_equal(PARSE(SQ_COMMAND_REPORT, &config, "s.h5", "--out", refused[i]), SQ_ERR_USAGE);
        assert_int_equal(PARSE(SQ_COMMAND_BENCH, &config, "--out", refused[i]), SQ_ERR_USAGE);
    }
    assert_int_equal(QUANTIZE(&config, "--store", link), SQ_ERR_USAGE);
    assert_int_equal(QUANTIZE(&config, "--trace", file), SQ_OK);
    sq_config_release(&config);
    assert_int_equal(PARSE(SQ_COMMAND_REPORT, &config, "s.h5", "--out", file), SQ_OK);
    sq_config_release(&config);
    folder_remove(&folder);
}

static void test_help_has_every_option(void **state)
{
    (void)state;
    char *text = NULL;
    size_t bytes;
    int count;
    const struct sq_option *table = sq_option_table(&count);
    FILE *file = open_memstream(&text, &bytes);
    sq_config_write_help("quantize", "Summary.", SQ_COMMAND_QUANTIZE, file);
    fclose(file);
    for (int i = 0; i < count; i++) {
        char flag[64];
        snprintf(flag, sizeof flag, "\n  %s", table[i].flag ? table[i].flag : "PATH");
        assert_int_equal(strstr(text, flag) != NULL, (table[i].commands & SQ_COMMAND_QUANTIZE) != 0);
    }
    free(text);
}

static void test_nearest(void **state)
{
    (void)state;
    struct sq_nearest nearest = {.word = "groupsize"};
    sq_nearest_try(&nearest, "bits");
    assert_null(nearest.best);
    sq_nearest_try(&nearest, "shard_size");
    sq_nearest_try(&nearest, "group_size");
    assert_string_equal(nearest.best, "group_size");
}

static void test_utf8(void **state)
{
    (void)state;
    assert_true(sq_utf8_is_valid("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x99\x82"));
    static const char *const wrong[] = {"\x80", "\xc3", "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80",
                                        "\xff"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_false(sq_utf8_is_valid(wrong[i]));
}

/* Every allocation in turn fails: an error and no leak (the sanitizer looks). */
static void test_out_of_memory(void **state)
{
    (void)state;
    struct folder folder;
    char path[1024];
    write_file("model: m\ntokens: t\nranks: [1, 2]\nrules: [{pattern: a, skip: true}, {pattern: b, bits: 3}]\n",
               &folder, path);
    enum sq_status status = SQ_ERR_MEMORY;
    int n = 0;
    while (status == SQ_ERR_MEMORY) {
        struct sq_config config;
        sq_memory_fail_at(++n);
        status =
            PARSE(SQ_COMMAND_QUANTIZE, &config, "--config", path, "--out", "o", "--skip", "x", "--set", "ranks=1,2");
        sq_memory_fail_at(0);
        if (status == SQ_OK) sq_config_release(&config);
    }
    assert_int_equal(status, SQ_OK);
    assert_true(n > 10);
    folder_remove(&folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_is_consistent),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_flags),
        cmocka_unit_test(test_precedence),
        cmocka_unit_test(test_wrong_words),
        cmocka_unit_test(test_flag_in_message),
        cmocka_unit_test(test_required),
        cmocka_unit_test(test_impossible_combinations),
        cmocka_unit_test(test_folders_end_without_a_slash),
        cmocka_unit_test(test_derived_names),
        cmocka_unit_test(test_config_files_stay),
        cmocka_unit_test(test_only_files_are_replaced),
        cmocka_unit_test(test_help_has_every_option),
        cmocka_unit_test(test_nearest),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
