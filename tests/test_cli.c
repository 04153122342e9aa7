/* The built program, as it is called: exit codes, help, one line for a mistake on any number of ranks. */
#define _POSIX_C_SOURCE 200809L
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "folder.h"

#define PATH_BYTES 1024

static char program[PATH_BYTES]; /* build/shardq, beside build/tests/ */

struct outcome {
    int exit_code;
    char text[65536]; /* stdout and stderr */
};

/* Runs `before` PROGRAM `words` in a shell. */
static void run_line(struct outcome *outcome, const char *before, const char *words)
{
    char line[4096];
    snprintf(line, sizeof line, "{ %s '%s' %s; } 2>&1", before, program, words);
    FILE *pipe = popen(line, "r");
    assert_non_null(pipe);
    size_t length = fread(outcome->text, 1, sizeof outcome->text - 1, pipe);
    outcome->text[length] = '\0';
    int status = pclose(pipe);
    assert_true(WIFEXITED(status));
    outcome->exit_code = WEXITSTATUS(status);
}

static int count_of(const char *text, const char *part)
{
    int count = 0;
    for (const char *at = text; (at = strstr(at, part)); at++)
        count++;
    return count;
}

static void assert_outcome(const char *words, int exit_code, const char *part)
{
    struct outcome outcome;
    run_line(&outcome, "", words);
    if (outcome.exit_code != exit_code || !strstr(outcome.text, part))
        fail_msg("shardq %s: exit code %d, said: %s", words, outcome.exit_code, outcome.text);
}

static void test_help(void **state)
{
    (void)state;
    static const char *const names[] = {"quantize", "assemble", "eval", "plan",     "verify",    "inspect",
                                        "report",   "config",   "help", "tokenize", "completion"};
    assert_outcome("", 2, "usage: shardq");
    assert_outcome("--help", 0, "usage: shardq");
    assert_outcome("--help", 0, "tokenize");
    assert_outcome("--version", 0, "shardq " SHARDQ_VERSION "\n");
    static const char *const libraries[] = {"oneDNN ", "OpenBLAS ", "MPI ", "HDF5 ", "xxHash ", "jansson ", "libyaml "};
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++)
        assert_outcome("--version", 0, libraries[i]);
    assert_outcome("help", 0, "troubleshooting");
    assert_outcome("help quantize", 0, "--bits N");
    assert_outcome("help quantize", 0, "\n  `75`\n");
    assert_outcome("help method", 0, "Hessian");
    assert_outcome("help shardq", 0, "  `inspect`\n");
    assert_outcome("help eval --man", 0, "\n.SH NAME\nshardq\\-eval \\- perplexity");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char words[64], usage[64];
        snprintf(words, sizeof words, "%s --help", names[i]);
        snprintf(usage, sizeof usage, "usage: shardq %s", names[i]);
        assert_outcome(words, 0, usage);
        assert_outcome("--help", 0, names[i]);
    }
}

static void test_mistakes(void **state)
{
    (void)state;
    static const char *const mistakes[][2] = {
        {"quantise", "unknown command quantise; did you mean quantize?"},
        {"--versoin", "unknown command --versoin; did you mean --version?"},
        {"help methd", "shardq help has no page methd; did you mean method?"},
        {"tokenize --txt a", "unknown option --txt; did you mean --text?"},
        {"completion fish", "SHELL fish: must be bash or zsh"},
        {"quantize", "shardq quantize needs --model DIR, --tokens FILE.h5, --out PATH"},
        {"quantize --bits 5", "--bits 5: must be 2, 3, 4 or 8"},
        {"quantize --model m --tokens t --out m", "--out and --model are the same: m"},
        {"quantize --model m --tokens t --out o --trace o.store.h5", "the store and --trace are the same: o.store.h5"},
        {"quantize --model m --tokens t --out o --log o.store.h5.lock",
         "the lock of the store and --log are the same: o.store.h5.lock"},
        {"quantize --model m --tokens o.store.h5.tmp --out o",
         "the unfinished store and --tokens are the same: o.store"},
        {"quantize --model m --tokens t --out o --log o/log", "--log is in --out, which is replaced as a whole: o/log"},
        {"quantize --model m --tokens t --out o --log m/log", "--log is in --model, which is only read: m/log"},
        {"quantize --model m/ --tokens t --out o --trace m/config.json",
         "--trace is in --model, which is only read: m/config.json"},
        {"quantize --model m --tokens t --out o --format gptq --bits 3", "3 bits need gptq_v2"},
        {"quantize --model m --tokens t --out o --format gptq --asymmetric", "asymmetric needs gptq_v2"},
        {"quantize --model m --tokens t --out o --format compressed-tensors --bits 3",
         "holds 2, 4 and 8 bits only; 3 bits need gptq_v2"},
        {"quantize --model m --tokens t --out o --format compressed-tensors --ragged",
         "a short last group (--ragged) needs gptq_v2"},
        {"eval --model m --token t", "unknown option --token; did you mean --tokens?"},
        {"assemble --store s --out o --bits 4", "--bits is not an option of shardq assemble"},
        {"plan --model m --ranks 0", "must be 1 to"},
        {"verify --model m --tokens t --checkpoint m", "are the same"},
        {"inspect", "shardq inspect needs PATH"},
        {"config --set bitz=4", "did you mean bits?"},
        {"config stray", "is not expected"},
    };
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        struct outcome outcome;
        run_line(&outcome, "", mistakes[i][0]);
        if (outcome.exit_code != 2 || !strstr(outcome.text, mistakes[i][1]) || count_of(outcome.text, "\n") != 1)
            fail_msg("shardq %s: exit code %d, said: %s", mistakes[i][0], outcome.exit_code, outcome.text);
    }
}

/* Three ranks make the same mistake; one speaks, and all end with the usage code. */
static void test_mistake_on_many_ranks(void **state)
{
    (void)state;
    struct outcome outcome;
    run_line(&outcome, "mpirun -n 3", "quantize --bits 5");
    assert_int_equal(outcome.exit_code, 2);
    assert_int_equal(count_of(outcome.text, "shardq: error: "), 1);
    run_line(&outcome, "mpirun -n 3", "eval --help");
    assert_int_equal(outcome.exit_code, 0);
    assert_int_equal(count_of(outcome.text, "usage: "), 1);
}

static void test_config(void **state)
{
    (void)state;
    struct outcome outcome;
    char words[2 * PATH_BYTES];
    snprintf(words, sizeof words, "config | cmp - '%s/configs/reference.yaml'", SHARDQ_SOURCE);
    run_line(&outcome, "", words);
    assert_string_equal(outcome.text, "");
    assert_int_equal(outcome.exit_code, 0);
    snprintf(words, sizeof words, "config --config '%s/configs/3bit-g64.yaml' --bits 2", SHARDQ_SOURCE);
    assert_outcome(words, 0, "\nbits: 2\n");
    assert_outcome(words, 0, "\ngroup_size: 64\n");
    assert_outcome("config > /dev/full", 1, "cannot write to standard output");
}

/* The program in a tree of its own, with `echo` in place of Python: what it would start is printed. */
static void test_tokenize(void **state)
{
    (void)state;
    struct outcome outcome;
    struct folder folder;
    char line[4 * PATH_BYTES];
    folder_create(&folder);
    snprintf(line, sizeof line, "cd '%s' && mkdir build tools && cp '%s' build/shardq &&", folder.path, program);
    run_line(&outcome, line, "--version && build/shardq tokenize --model 'a b'");
    assert_int_equal(outcome.exit_code, 1);
    assert_non_null(strstr(outcome.text, "cannot find tokenize.py"));
    snprintf(line, sizeof line,
             "cd '%s' && : > tools/tokenize.py && SHARDQ_PYTHON=echo build/shardq tokenize --model 'a b' &&",
             folder.path);
    run_line(&outcome, line, "--version");
    assert_int_equal(outcome.exit_code, 0);
    assert_non_null(strstr(outcome.text, "/build/../tools/tokenize.py --model a b\n"));
    snprintf(line, sizeof line, "rm -r '%s' &&", folder.path);
    run_line(&outcome, line, "--version");
    assert_int_equal(outcome.exit_code, 0);
}

static void test_inspect(void **state)
{
    (void)state;
    char words[2 * PATH_BYTES];
    snprintf(words, sizeof words, "inspect '%s/tests/golden/llama'", SHARDQ_SOURCE);
    assert_outcome(words, 0, "LlamaForCausalLM");
    snprintf(words, sizeof words, "inspect '%s/tests/golden/llama' --json", SHARDQ_SOURCE);
    assert_outcome(words, 0, "\"architecture\": \"LlamaForCausalLM\"");
    snprintf(words, sizeof words, "inspect '%s/tests/golden/deepseek_v3'", SHARDQ_SOURCE);
    assert_outcome(words, 0,
                   "experts              12\nexperts of a token   3\nblocks with experts  1\nshared experts       2\n");
    assert_outcome("inspect /does/not/exist", 1, "No such file or directory");
    snprintf(words, sizeof words, "inspect '%s/CMakeLists.txt'", SHARDQ_SOURCE);
    assert_outcome(words, 1, "CMakeLists.txt");
}

/* A rank alone makes no folder for MPI, where others could have the same: TMPDIR is a file here. */
static void test_alone_without_temporary_folder(void **state)
{
    (void)state;
    struct outcome outcome;
    char words[2 * PATH_BYTES];
    snprintf(words, sizeof words, "inspect '%s/tests/golden/llama'", SHARDQ_SOURCE);
    run_line(&outcome, "env -u OMPI_MCA_orte_tmpdir_base 'TMPDIR=" SHARDQ_SOURCE "/CMakeLists.txt'", words);
    if (outcome.exit_code != 0) fail_msg("exit code %d, said: %s", outcome.exit_code, outcome.text);
}

static int find_paths(void **state)
{
    (void)state;
    char self[PATH_BYTES / 2] = "";
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length <= 0) return -1;
    *strrchr(self, '/') = '\0';
    snprintf(program, sizeof program, "%s/../shardq", self);
    struct stat status;
    return stat(program, &status);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_help),
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_mistake_on_many_ranks),
        cmocka_unit_test(test_config),
        cmocka_unit_test(test_tokenize),
        cmocka_unit_test(test_inspect),
        cmocka_unit_test(test_alone_without_temporary_folder),
    };
    return cmocka_run_group_tests(tests, find_paths, NULL);
}
