/* The configuration as YAML: what is read, what is refused and in which words, and what is written back. */
#define _POSIX_C_SOURCE 200809L
#include "config_fixture.h"

#include "base/memory.h"
#include "capture.h"

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
    free(many);
    free(deep);
}

/* The record of a job on DeepSeek-R1, as long as a line for each of its layers makes it, is read; without end nothing
 * is.
 */
static void test_large(void **state)
{
    (void)state;
    struct sq_config config;
    char *text = NULL;
    size_t bytes = 0;
    FILE *file = open_memstream(&text, &bytes);
    fputs("{\"shardq\": \"1\", \"config\": {\"bits\": 3}, \"layers\": [", file);
    for (int i = 0; i < 61 * 256 * 3; i++)
        fprintf(file, "%s\n    {\"name\": \"model.layers.%d.mlp.experts.%d.down_proj\", \"error\": 0.0026%0250d}",
                i ? "," : "", i / 768, i % 256, i);
    fputs("]}", file);
    fclose(file);
    assert_int_equal(read_text(text, &config), SQ_OK);
    assert_int_equal(config.bits, 3);
    sq_config_release(&config);
    assert_int_equal(sq_config_set_defaults(&config), SQ_OK);
    const size_t limit = (size_t)1 << 26;
    text = realloc(text, limit + 1);
    memset(text, '#', limit + 1);
    assert_int_equal(sq_config_read_yaml("large", text, limit + 1, &config), SQ_ERR_USAGE);
    sq_config_release(&config);
    free(text);
}

/* What is set beside a record: as long as it says the same, the record's bytes are meant. */
static void test_record(void **state)
{
    (void)state;
    struct folder folder;
    char path[1024];
    struct sq_config config;
    write_file("{\"shardq\": \"1\", \"config\": {\"model\": \"/m\", \"tokens\": \"/t\", \"bits\": 3, \"isa\": "
               "\"avx2\", \"static_groups\": true},"
               " \"fingerprint\": {\"bits\": \"3\", \"libraries\": \"a: b\"}, \"layers\": []}",
               &folder, path);
#define RECORD(...) PARSE(SQ_COMMAND_QUANTIZE, &config, "--out", "o", "--config", path, __VA_ARGS__)
    assert_int_equal(RECORD("--bits", "3", "--threads", "2", "--set", "isa=avx2", "--format", "gptq_v2"), SQ_OK);
    assert_string_equal(config.record.fingerprint, "bits: 3\nlibraries: a: b\n");
    assert_false(config.record.has_other_inputs);
    sq_config_release(&config);
    assert_int_equal(RECORD("--model", "/n"), SQ_OK);
    assert_non_null(config.record.fingerprint);
    assert_true(config.record.has_other_inputs);
    sq_config_release(&config);
    static char *const changes[] = {"--bits=4", "--isa=generic", "--compute=fp32", "--backend=cpu", "--skip=x"};
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        assert_int_equal(RECORD(changes[i]), SQ_OK);
        assert_null(config.record.fingerprint);
        sq_config_release(&config);
    }
#undef RECORD
    folder_remove(&folder);
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

/* What a mistake says: option, place, value, what is allowed, the nearest name; one line. */
static void test_messages(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *message;
    } cases[] = {
        {"\nbits: 5\n", "shardq: error: job:2: bits 5: must be 2, 3, 4 or 8\n"},
        {"group-size: 5\n", "shardq: error: job:1: unknown key group-size; did you mean group_size?\n"},
        {"ranks: [1, x]\n", "shardq: error: job:1: ranks x: must be 1 to 1048576\n"},
        {"ranks: []\n", "shardq: error: job:1: ranks: the value is empty\n"},
        {"ranks: ~\n", "shardq: error: job:1: ranks ~: must be 1 to 1048576\n"},
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

/* What follows `--set`-like words, as JSON and read again as a record of a job: the same settings. */
static void test_json(void **state)
{
    (void)state;
    struct sq_config config, again;
    char *json = NULL, *yaml = NULL, *yaml_again = NULL, record[4096];
    assert_int_equal(QUANTIZE(&config, "--model", "a \"b\"\\c\n\t\xc3\xa9", "--bits", "3", "--damping", "1e-5",
                              "--shard-size", "1500K", "--skip", "a, b: [c]", "--set",
                              "rules=[{pattern: x, bits: 8, group_size: 32}]"),
                     SQ_OK);
    assert_int_equal(sq_config_to_json(&config, &json), SQ_OK);
    assert_non_null(strstr(json, "\"bits\": 3, \"group_size\": \"auto\", \"ragged\": false"));
    assert_non_null(strstr(json, "\"damping\": 1e-05"));
    assert_non_null(strstr(json, "{\"pattern\": \"x\", \"bits\": 8, \"group_size\": 32}"));
    snprintf(record, sizeof record, "{\"shardq\": \"1\", \"config\": %s, \"layers\": [{\"a\": null}]}", json);
    assert_int_equal(read_text(record, &again), SQ_OK);
    assert_int_equal(sq_config_to_yaml(&config, &yaml), SQ_OK);
    assert_int_equal(sq_config_to_yaml(&again, &yaml_again), SQ_OK);
    assert_string_equal(yaml, yaml_again);
    assert_refused("{\"config\": {}}");
    assert_refused("{\"shardq\": \"1\", \"config\": {\"bitz\": 3}}");
    sq_free(json);
    sq_free(yaml);
    sq_free(yaml_again);
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

static void config_path(const char *name, char *path, size_t bytes)
{
    snprintf(path, bytes, "%s/configs/%s", SHARDQ_SOURCE, name);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_yaml),        cmocka_unit_test(test_bad_yaml),
        cmocka_unit_test(test_absurd_yaml), cmocka_unit_test(test_large),
        cmocka_unit_test(test_record),      cmocka_unit_test(test_rules),
        cmocka_unit_test(test_messages),    cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_json),        cmocka_unit_test(test_reference_is_up_to_date),
        cmocka_unit_test(test_recipes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
