/* Options: the table, the command line, YAML, rules, and what is written back. */
#define _POSIX_C_SOURCE 200809L
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "config/options.h"
#include "config/text.h"
#include "capture.h"
#include "folder.h"

#define ARGC(words) ((int)(sizeof(words) / sizeof *(words)))

/* Parses words of `shardq quantize` after the three that it needs. */
#define QUANTIZE(config, ...)                                                                                          \
    parse_words(SQ_COMMAND_QUANTIZE, config,                                                                           \
                (char *[]){"--model", "m", "--tokens", "t.h5", "--out", "o", __VA_ARGS__, NULL})
#define PARSE(command, config, ...) parse_words(command, config, (char *[]){__VA_ARGS__, NULL})

static enum sq_status parse_words(unsigned command, struct sq_config *config, char **words)
{
    int count = 0;
    while (words[count])
        count++;
    return sq_config_parse(count, words, command, config);
}

static enum sq_status read_text(const char *text, struct sq_config *config)
{
    assert_int_equal(sq_config_set_defaults(config), SQ_OK);
    return sq_config_read_yaml("test.yaml", text, strlen(text), config);
}

static void assert_refused(const char *yaml)
{
    struct sq_config config;
    if (read_text(yaml, &config) != SQ_ERR_USAGE) fail_msg("was not refused: %s", yaml);
    sq_config_release(&config);
}

/* A file with this text in a folder of its own; its path is valid until folder_remove(). */
static void write_file(const char *text, struct folder *folder, char path[1024])
{
    folder_create(folder);
    folder_write_text(folder, "job.yaml", text);
    folder_file(folder, "job.yaml", path);
}

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
    assert_int_equal(config.length, 2048);
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

static void test_yaml(void **state)
{
    (void)state;
    struct sq_config config;
    assert_int_equal(read_text("bits: 8\n"
                               "'group_size': \"32\"\n"
                               "store: ~\n"
                               "ranks: [1, 2]\n"
                               "rules:\n"
                               "  - pattern: layers\\.0\\.\n"
                               "    skip: true\n"
                               "  - {pattern: 'it''s', bits: 3, group_size: -1}\n",
                               &config),
                     SQ_OK);
    assert_int_equal(config.bits, 8);
    assert_int_equal(config.group_size, 32);
    assert_null(config.store);
    assert_int_equal(config.ranks.count, 2);
    assert_int_equal(config.n_rules, 2);
    assert_true(config.rules[0].skip);
    assert_string_equal(config.rules[1].pattern, "it's");
    assert_int_equal(config.rules[1].bits, 3);
    assert_int_equal(config.rules[1].group_size, -1);
    sq_config_release(&config);
    assert_int_equal(read_text("", &config), SQ_OK);
    sq_config_release(&config);
    assert_int_equal(read_text("# nothing\n---\n...\n", &config), SQ_ERR_USAGE);
    sq_config_release(&config);
}

static void test_bad_yaml(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "bitz: 4\n",
        "bits: 4\nbits: 4\n",
        "bits: [4]\n",
        "bits: {a: 1}\n",
        "bits:\n",
        "bits: 5\n",
        "[bits, 4]\n",
        "4\n",
        "bits: 4\n---\nbits: 4\n",
        "? [a]\n: 4\n",
        "bits: !!int 4\n",
        "bits: \"4\\0\"\n",
        "model: \"\"\n",
        "model: [a]\n",
        "symmetric: yes\n",
        "bits: 4\n  x: 1\n",
        "bits: \"4\n",
        "\xff\xfe\xff",
        "model: \xff\n",
        "a: *b\n",
        "<<: {bits: 4}\n",
        "rules: 3\n",
        "rules: {}\n",
        "rules: [3]\n",
        "rules: [{}]\n",
        "rules: [{pattern: a}]\n",
        "rules: [{skip: true}]\n",
        "rules: [{pattern: a, skip: true, bits: 4}]\n",
        "rules: [{pattern: a, skip: false}]\n",
        "rules: [{pattern: a, bitz: 4}]\n",
        "rules: [{pattern: a, pattern: b, skip: true}]\n",
        "rules: [{pattern: '(', skip: true}]\n",
        "rules: [{pattern: a, bits: 7}]\n",
        "rules: [{pattern: [a], bits: 4}]\n",
        "rules: &a [*a]\n",
        "bits: &a 4\n",
        "ranks: [[1]]\n",
        "path: x\n",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_refused(wrong[i]);
}

/* Nesting without end and lists beyond any use end in an error, soon. */
static void test_absurd_yaml(void **state)
{
    (void)state;
    enum { DEPTH = 200000 };
    char *deep = malloc(DEPTH + 8), *many = malloc(DEPTH * 8);
    memcpy(deep, "bits: ", 6);
    memset(deep + 6, '[', DEPTH);
    deep[6 + DEPTH] = '\0';
    assert_refused(deep);
    strcpy(many, "rules:");
    for (int i = 0; i < 300; i++)
        strcat(many, "\n- {pattern: x, skip: true}");
    assert_refused(many);
    struct sq_config config;
    assert_int_equal(sq_config_set_defaults(&config), SQ_OK);
    char *large = calloc(1, (1 << 20) + 1);
    memset(large, '#', 1 << 20);
    assert_int_equal(sq_config_read_yaml("large", large, 1 << 20, &config), SQ_OK);
    assert_int_equal(sq_config_read_yaml("large", large, (1 << 20) + 1, &config), SQ_ERR_USAGE);
    sq_config_release(&config);
    free(large);
    free(many);
    free(deep);
}

static void assert_match(const struct sq_config *config, const char *name, int expected)
{
    const struct sq_rule *rule = NULL;
    assert_int_equal(sq_config_match_rule(config, name, &rule), SQ_OK);
    assert_int_equal(rule ? rule - config->rules : -1, expected);
}

static void test_rules(void **state)
{
    (void)state;
    struct sq_config config;
    assert_int_equal(read_text("rules:\n"
                               "- {pattern: 'layers\\.1\\.', skip: true}\n"
                               "- {pattern: down_proj$, bits: 8}\n"
                               "- {pattern: '^(a+)+$', group_size: 64}\n",
                               &config),
                     SQ_OK);
    assert_match(&config, "model.layers.1.mlp.down_proj", 0);
    assert_match(&config, "model.layers.11.mlp.down_proj", 1);
    assert_match(&config, "model.layers.11.mlp.down_proj.x", -1);
    assert_match(&config, "aaa", 2);
    const struct sq_rule *rule = NULL;
    char name[64] = "";
    memset(name, 'a', 40);
    strcat(name, "!"); /* backtracking without end is an error, not "no match" */
    assert_int_equal(sq_config_match_rule(&config, name, &rule), SQ_ERR_USAGE);
    assert_null(rule);
    sq_config_release(&config);
}

/* The resolved copy, read again, says the same; so does the whole reference. */
static void test_round_trip(void **state)
{
    (void)state;
    struct sq_config config, again;
    char *yaml = NULL, *yaml_again = NULL, *lines = NULL, *lines_again = NULL;
    assert_int_equal(QUANTIZE(&config, "--model", "a \"b\"\\c\n\t\xc3\xa9\xef\xbb\xbf", "--bits", "3", "--damping",
                              "0.1", "--shard-size", "1500K", "--skip", "a, b: [c]", "--skip", "#'x", "--threads", "3",
                              "--store", "s", "--set", "shards=5"),
                     SQ_OK);
    assert_int_equal(sq_config_to_yaml(&config, &yaml), SQ_OK);
    assert_int_equal(read_text(yaml, &again), SQ_OK);
    assert_int_equal(sq_config_to_yaml(&again, &yaml_again), SQ_OK);
    assert_string_equal(yaml, yaml_again);
    assert_string_equal(again.model, config.model);
    assert_string_equal(again.rules[1].pattern, "#'x");
    assert_int_equal(again.shard_bytes, 1500 * 1024);
    assert_null(again.store);
    assert_int_equal(again.threads, 0);
    assert_int_equal(sq_config_fingerprint(&config, &lines), SQ_OK);
    assert_int_equal(sq_config_fingerprint(&again, &lines_again), SQ_OK);
    assert_string_equal(lines, lines_again);
    assert_non_null(strstr(lines, "bits: 3\n"));
    assert_non_null(strstr(lines, "damping: 0.1\n"));
    assert_null(strstr(lines, "model:"));
    assert_null(strstr(lines, "threads"));
    assert_null(strstr(lines, "shard_size"));
    sq_free(yaml);
    sq_free(yaml_again);
    sq_free(lines);
    sq_free(lines_again);
    sq_config_release(&config);
    sq_config_release(&again);
}

static char *reference_of(const struct sq_config *config)
{
    char *text = NULL;
    size_t bytes;
    FILE *file = open_memstream(&text, &bytes);
    assert_non_null(file);
    sq_config_write_reference(config, file);
    fclose(file);
    return text;
}

/* configs/ beside this file's folder. */
static void config_path(const char *name, char *path, size_t bytes)
{
    const char *slash = strrchr(__FILE__, '/');
    assert_non_null(slash);
    snprintf(path, bytes, "%.*s/../configs/%s", (int)(slash - __FILE__), __FILE__, name);
}

static void test_reference_is_up_to_date(void **state)
{
    (void)state;
    struct sq_config config;
    char path[4096], stored[65536] = "";
    assert_int_equal(sq_config_set_defaults(&config), SQ_OK);
    char *text = reference_of(&config);
    config_path("reference.yaml", path, sizeof path);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    stored[fread(stored, 1, sizeof stored - 1, file)] = '\0';
    fclose(file);
    if (strcmp(text, stored)) fail_msg("configs/reference.yaml is out of date: shardq config > configs/reference.yaml");
    assert_int_equal(sq_config_read_yaml("reference", text, strlen(text), &config), SQ_OK);
    char *again = reference_of(&config);
    assert_string_equal(text, again);
    free(again);
    free(text);
    sq_config_release(&config);
}

static void test_recipes(void **state)
{
    (void)state;
    static const char *const recipes[] = {"reference.yaml", "4bit-g128.yaml", "3bit-g64.yaml", "paper.yaml",
                                          "quality.yaml"};
    for (size_t i = 0; i < sizeof recipes / sizeof *recipes; i++) {
        struct sq_config config;
        char path[4096];
        config_path(recipes[i], path, sizeof path);
        assert_int_equal(QUANTIZE(&config, "--config", path), SQ_OK);
        sq_config_release(&config);
    }
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

/* What a mistake says: option, place, value, what is allowed, the nearest name; one line. */
static void test_messages(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *message;
    } cases[] = {
        {"\nbits: 5\n", "shardq: error: job:2: bits 5: must be 2, 3, 4 or 8\n"},
        {"group-size: 5\n", "shardq: error: job:1: unknown key group-size; did you mean group_size?\n"},
        {"damping: 2\n", "shardq: error: job:1: damping 2: must be 0 to 1\n"},
        {"rules:\n- {pattern: a,\n   group_size: 0}\n", "job:3: group_size 0: must be auto, -1 or 1 to 1048576\n"},
        {"rules: [{pattern: '(', skip: true}]\n", "bad regular expression \"(\": missing closing parenthesis"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sq_config config;
        struct capture capture;
        assert_int_equal(sq_config_set_defaults(&config), SQ_OK);
        capture_start(&capture);
        enum sq_status status = sq_config_read_yaml("job", cases[i].yaml, strlen(cases[i].yaml), &config);
        capture_stop(&capture);
        assert_int_equal(status, SQ_ERR_USAGE);
        if (!strstr(capture.text, cases[i].message)) fail_msg("said: %s", capture.text);
        assert_ptr_equal(strchr(capture.text, '\n') + 1, capture.text + strlen(capture.text));
        sq_config_release(&config);
    }
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
        cmocka_unit_test(test_required),
        cmocka_unit_test(test_impossible_combinations),
        cmocka_unit_test(test_yaml),
        cmocka_unit_test(test_bad_yaml),
        cmocka_unit_test(test_absurd_yaml),
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_reference_is_up_to_date),
        cmocka_unit_test(test_recipes),
        cmocka_unit_test(test_help_has_every_option),
        cmocka_unit_test(test_nearest),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
