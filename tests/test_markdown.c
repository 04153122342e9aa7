/* Pages as a terminal and as man(1) get them, every kind of block once. */
#define _POSIX_C_SOURCE 200809L
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "help/markdown.h"

static const char page[] = "# Title\n"
                           "\n"
                           "One **strong** word and `code --x`,\n"
                           "on two lines; see [the method](docs/method.md).\n"
                           "\n"
                           "- first item that is long enough to be wrapped\n"
                           "- `--flag N`: what it does\n"
                           "\n"
                           "## Part\n"
                           "\n"
                           "    verbatim .x\n"
                           "\n"
                           "      'deeper\n"
                           "\n"
                           "| a | b |\n"
                           "|---|---|\n"
                           "| `x|y` | a cell that does not fit into its column |\n"
                           "\n"
                           "```\n"
                           "fenced\n"
                           "```\n";

static const char on_terminal[] = "Title\n"
                                  "=====\n"
                                  "\n"
                                  "One strong word and `code --x`, on two\n"
                                  "lines; see the method (`shardq help\n"
                                  "method`).\n"
                                  "\n"
                                  "  - first item that is long enough to be\n"
                                  "    wrapped\n"
                                  "\n"
                                  "  `--flag N`\n"
                                  "        what it does\n"
                                  "\n"
                                  "Part\n"
                                  "----\n"
                                  "\n"
                                  "    verbatim .x\n"
                                  "\n"
                                  "      'deeper\n"
                                  "\n"
                                  "a      b\n"
                                  "`x|y`  a cell that does not fit into its\n"
                                  "       column\n"
                                  "\n"
                                  "    fenced\n";

static const char for_man[] = ".SH TITLE\n"
                              "One \\fBstrong\\fR word and \\fBcode \\-\\-x\\fR, on two lines; see the method "
                              "(\\fBshardq help method\\fR).\n"
                              ".IP \\(bu 4\n"
                              "first item that is long enough to be wrapped\n"
                              ".TP\n"
                              "\\fB\\-\\-flag N\\fR\n"
                              "what it does\n"
                              ".SH PART\n"
                              ".RS 4\n"
                              ".nf\n"
                              "verbatim .x\n"
                              "\\&\n"
                              "  \\(aqdeeper\n"
                              ".fi\n"
                              ".RE\n"
                              ".PP\n"
                              ".RS 4\n"
                              ".nf\n"
                              "a      b\n"
                              "\\(gax|y\\(ga  a cell that does not fit into its column\n"
                              ".fi\n"
                              ".RE\n"
                              ".PP\n"
                              ".RS 4\n"
                              ".nf\n"
                              "fenced\n"
                              ".fi\n"
                              ".RE\n";

struct memory {
    char *text;
    size_t bytes;
    FILE *file;
};

static FILE *open_memory(struct memory *memory)
{
    *memory = (struct memory){0};
    memory->file = open_memstream(&memory->text, &memory->bytes);
    assert_non_null(memory->file);
    return memory->file;
}

static void assert_memory(struct memory *memory, const char *expected)
{
    assert_int_equal(fclose(memory->file), 0);
    assert_string_equal(memory->text, expected);
    free(memory->text);
}

static void test_terminal(void **state)
{
    (void)state;
    struct memory memory;
    sq_markdown_write_terminal(page, 40, false, open_memory(&memory));
    assert_memory(&memory, on_terminal);
}

/* A style that is on where a line is wrapped is on again on the next line, and never in the blanks between. */
static void test_styles(void **state)
{
    (void)state;
    struct memory memory;
    sq_markdown_write_terminal("- x **ab cd** y\n", 9, true, open_memory(&memory));
    assert_memory(&memory, "  - x \033[1mab\033[0m\n    \033[1mcd\033[0m y\n");
}

static void test_man(void **state)
{
    (void)state;
    struct memory memory;
    sq_markdown_write_man(page, open_memory(&memory));
    assert_memory(&memory, for_man);
}

/* Marks that do not close, tables without an end: whatever is there is written, and nothing is read beyond it. */
static void test_odd_pages(void **state)
{
    (void)state;
    static const char *const odd[] = {"",  "\n\n", "#",    "- ",  "**",  "`",    "[a", "[a](",   "[a](b",
                                      "|", "|a",   "| `a", "```", "1. ", "    ", "-",  "- `a`:", "- `a`: "};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        struct memory memory;
        FILE *file = open_memory(&memory);
        sq_markdown_write_terminal(odd[i], 10, true, file);
        sq_markdown_write_man(odd[i], file);
        assert_int_equal(fclose(file), 0);
        free(memory.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_terminal),
        cmocka_unit_test(test_styles),
        cmocka_unit_test(test_man),
        cmocka_unit_test(test_odd_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
