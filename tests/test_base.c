/* base/: status, text, clock, memory, log. */
#define _POSIX_C_SOURCE 200809L
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/status.h"
#include "base/text.h"
#include "capture.h"

/* --- status, text ------------------------------------------------------------------------------------------------- */

static void test_status(void **state)
{
    (void)state;
    assert_int_equal(sq_status_exit_code(SQ_OK), 0);
    assert_int_equal(sq_status_exit_code(SQ_STOPPED), 75);
    assert_int_equal(sq_status_exit_code(SQ_ERR_USAGE), 2);
    for (int i = SQ_ERR_INPUT; i <= SQ_ERR_STRICT; i++)
        assert_int_equal(sq_status_exit_code((enum sq_status)i), 1);
}

static void test_sizes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t bytes; /* -1: no size */
    } cases[] = {{"4096", 4096},
                 {"0", 0},
                 {"1K", 1024},
                 {"800M", 838860800},
                 {"1.5G", 1610612736},
                 {"2gib", 2147483648},
                 {"1TB", 1099511627776},
                 {"", -1},
                 {"G", -1},
                 {"-1", -1},
                 {"1X", -1},
                 {"1GG", -1},
                 {"1 G", -1},
                 {"nan", -1},
                 {"inf", -1},
                 {"9000000T", -1},
                 {"1e30", -1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t bytes = -7;
        int result = sq_size_parse(cases[i].text, &bytes);
        assert_int_equal(result, cases[i].bytes < 0 ? -1 : 0);
        assert_int_equal(bytes, cases[i].bytes < 0 ? -7 : cases[i].bytes); /* left alone on failure */
    }
}

static void test_formats(void **state)
{
    (void)state;
    char size[16], duration[48], a[24], b[24];
    assert_string_equal(sq_size_format(0, size), "0 B");
    assert_string_equal(sq_size_format(1023, size), "1023 B");
    assert_string_equal(sq_size_format(1536, size), "1.5 KiB");
    assert_string_equal(sq_size_format(0x1p40, size), "1.0 TiB");
    static const struct {
        double a, b;
        const char *text_a, *text_b;
    } apart[] = {{1536, 0x1p30, "1.5 KiB", "1.0 GiB"},
                 {0x1p30 * 1.52, 0x1p30 * 1.48, "1.52 GiB", "1.48 GiB"},
                 {0x1p30 + 0x1p20, 0x1p30, "1.001 GiB", "1.000 GiB"},
                 {0x1p40 + 1, 0x1p40, "1099511627777 B", "1099511627776 B"}};
    for (size_t i = 0; i < sizeof apart / sizeof *apart; i++) {
        sq_size_format_apart(apart[i].a, apart[i].b, a, b);
        assert_string_equal(a, apart[i].text_a);
        assert_string_equal(b, apart[i].text_b);
    }
    assert_string_equal(sq_duration_format(3.2, duration), "3.2 s");
    assert_string_equal(sq_duration_format(65, duration), "1 min 05 s");
    assert_string_equal(sq_duration_format(3725, duration), "1 h 02 min");
}

static void test_paths(void **state)
{
    (void)state;
    char *path;
    assert_int_equal(sq_path_absolute("/a/b", &path), SQ_OK);
    assert_string_equal(path, "/a/b");
    sq_free(path);
    assert_int_equal(chdir("/usr"), 0);
    assert_int_equal(sq_path_absolute("a/b", &path), SQ_OK);
    assert_string_equal(path, "/usr/a/b");
    sq_free(path);
    assert_int_equal(sq_path_join("a/b", "c.json", &path), SQ_OK);
    assert_string_equal(path, "a/b/c.json");
    sq_free(path);
}

static void test_clock(void **state)
{
    (void)state;
    double start = sq_seconds();
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    assert_true(sq_seconds() - start >= 0.002);
}

/* --- memory ------------------------------------------------------------------------------------------------------- */

static void test_alloc(void **state)
{
    (void)state;
    for (int64_t count = 0; count < 200; count += 33) {
        void *memory = NULL;
        assert_int_equal(sq_alloc("a test", count, 3, &memory), SQ_OK);
        assert_non_null(memory);
        assert_int_equal((uintptr_t)memory % 64, 0);
        for (int64_t i = 0; i < count * 3; i++)
            assert_int_equal(((char *)memory)[i], 0);
        sq_free(memory);
    }
    sq_free(NULL);
}

static void check_alloc_fails(int64_t count, size_t size)
{
    struct capture capture;
    void *memory = &capture;
    capture_start(&capture);
    enum sq_status status = sq_alloc("the test's matrix", count, size, &memory);
    const char *text = capture_stop(&capture);
    assert_int_equal(status, SQ_ERR_MEMORY);
    assert_ptr_equal(memory, &capture); /* outputs are set only on success */
    assert_true(capture_is_one_error(text, (const char *const[4]){"cannot allocate", "the test's matrix"}));
}

static void test_alloc_overflow(void **state)
{
    (void)state;
    check_alloc_fails(INT64_MAX, 16);
    check_alloc_fails(INT64_MAX, 2);
    check_alloc_fails(-1, 1);
}

static void test_uses(void **state)
{
    (void)state;
    void *first, *second;
    int64_t before = sq_memory_use_of(NULL).bytes;
    assert_int_equal(sq_alloc("a test's use", 10, 7, &first), SQ_OK);
    assert_int_equal(sq_alloc("a test's use", 1, 30, &second), SQ_OK);
    assert_int_equal(sq_memory_use_of("a test's use").bytes, 100);
    assert_int_equal(sq_memory_use_of(NULL).bytes, before + 100);
    assert_int_equal(sq_memory_use_of("another's").bytes, 0);
    sq_free(first);
    assert_int_equal(sq_memory_use_of("a test's use").bytes, 30);
    assert_int_equal(sq_memory_use_of("a test's use").peak, 100);
    sq_memory_forget_peaks();
    assert_int_equal(sq_memory_use_of("a test's use").peak, 30);
    sq_free(second);
    assert_int_equal(sq_memory_use_of("a test's use").bytes, 0);
    assert_int_equal(sq_memory_use_of(NULL).bytes, before);
    assert_true(sq_memory_use_of(NULL).peak >= before + 30);
}

static void test_fail_nth(void **state)
{
    (void)state;
    for (int64_t n = 1; n <= 3; n++) {
        sq_memory_fail_at(n);
        for (int64_t i = 1; i < n; i++) {
            char *text;
            assert_int_equal(sq_string_copy("x", &text), SQ_OK);
            sq_free(text);
        }
        check_alloc_fails(1, 1);
        char *text; /* once only */
        assert_int_equal(sq_string_copy("x", &text), SQ_OK);
        sq_free(text);
    }
    sq_memory_fail_at(0);
}

static void test_strings(void **state)
{
    (void)state;
    char *text;
    assert_int_equal(sq_string_format(&text, "%s-%d", "layer", 17), SQ_OK);
    assert_string_equal(text, "layer-17");
    sq_free(text);
    assert_int_equal(sq_string_copy("", &text), SQ_OK);
    assert_string_equal(text, "");
    sq_free(text);
}

/* --- log ---------------------------------------------------------------------------------------------------------- */

static void test_messages(void **state)
{
    (void)state;
    struct capture capture;
    int64_t before = sq_log_n_warnings();
    capture_start(&capture);
    sq_error("layer %d", 3);
    assert_string_equal(capture_stop(&capture), "shardq: error: layer 3\n");
    assert_int_equal(sq_log_n_warnings(), before);

    sq_log_set_rank(2, 4);
    capture_start(&capture);
    sq_warning(SQ_WARNING_LAYER, "dead input %d", 7);
    sq_info("only rank 0 says this");
    assert_string_equal(capture_stop(&capture), "shardq: warning: [rank 2] dead input 7\n");
    assert_int_equal(sq_log_n_warnings(), before + 1);
    sq_log_set_rank(0, 1);
}

static void test_long_message(void **state)
{
    (void)state;
    struct capture capture;
    char *text = malloc(7000);
    memset(text, 'x', 6999);
    text[6999] = 0;
    capture_start(&capture);
    sq_error("%s", text);
    const char *line = capture_stop(&capture);
    assert_true(capture_is_one_error(line, (const char *const[4]){"xxx"}));
    free(text);
}

static void test_events(void **state)
{
    (void)state;
    char path[] = "/tmp/test_base_XXXXXX", text[64] = "";
    int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    assert_int_equal(sq_log_open_events(path), SQ_OK);
    sq_event("{\"block\":%d}", 5);
    sq_log_close();
    sq_event("{\"lost\":true}");
    assert_int_equal(read(descriptor, text, sizeof text - 1), 12);
    assert_string_equal(text, "{\"block\":5}\n");
    close(descriptor);
    unlink(path);

    struct capture capture;
    capture_start(&capture);
    enum sq_status status = sq_log_open_events("/nonexistent/folder/log");
    const char *message = capture_stop(&capture);
    assert_int_equal(status, SQ_ERR_IO);
    assert_true(capture_is_one_error(message, (const char *const[4]){"/nonexistent/folder/log"}));
}

/* Writes events to a file that may not grow beyond 4 KiB: one that fits and one that does not. moved, if not
 * NULL: what the open file is called from then on, while another one gets its name. Returns the messages. */
static const char *cut_events(const char *path, const char *moved, struct capture *capture)
{
    struct rlimit before, tight;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    tight = (struct rlimit){.rlim_cur = 4096, .rlim_max = before.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    assert_int_equal(sq_log_open_events(path), SQ_OK);
    if (moved) {
        assert_int_equal(rename(path, moved), 0);
        FILE *other = fopen(path, "w");
        assert_non_null(other);
        fputs("of somebody else, and longer", other);
        fclose(other);
    }
    capture_start(capture);
    sq_event("{\"block\":%d}", 5);
    bool is_cut_early = sq_log_is_cut();
    sq_event("{\"long\":\"%05000d\"}", 1);
    sq_event("{\"lost\":true}");
    sq_log_close();
    const char *message = capture_stop(capture);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_DFL);
    assert_true(!is_cut_early && sq_log_is_cut());
    return message;
}

/* A file that may not grow: whole lines stay, one warning is counted, and what comes later does not get into it. */
static void test_events_cut(void **state)
{
    (void)state;
    char path[] = "/tmp/test_base_XXXXXX", text[8192] = "", wanted[128];
    struct capture capture;
    int descriptor = mkstemp(path);
    int64_t n_warnings = sq_log_n_warnings();
    assert_true(descriptor >= 0);
    assert_int_equal(write(descriptor, "{}\n", 3), 3); /* of an earlier run */
    const char *message = cut_events(path, NULL, &capture);
    snprintf(wanted, sizeof wanted, "shardq: warning: cannot write to log file %s: File too large; it ends", path);
    assert_int_equal(strncmp(message, wanted, strlen(wanted)), 0);
    assert_int_equal(strlen(strchr(message, '\n')), 1);
    assert_int_equal(sq_log_n_warnings(), n_warnings + 1);
    assert_int_equal(pread(descriptor, text, sizeof text - 1, 0), 15);
    assert_string_equal(text, "{}\n{\"block\":5}\n");
    assert_int_equal(sq_log_open_events(path), SQ_OK);
    assert_false(sq_log_is_cut());
    sq_log_close();
    close(descriptor);
    unlink(path);
}

/* It is the file that was opened that is cut, not the one that has its name by then. */
static void test_events_cut_moved(void **state)
{
    (void)state;
    char path[] = "/tmp/test_base_XXXXXX", moved[64], text[8192] = "";
    struct capture capture;
    struct stat other;
    int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    snprintf(moved, sizeof moved, "%s.moved", path);
    assert_non_null(strstr(cut_events(path, moved, &capture), "it ends with the line before"));
    assert_int_equal(pread(descriptor, text, sizeof text - 1, 0), 12);
    assert_string_equal(text, "{\"block\":5}\n");
    assert_int_equal(stat(path, &other), 0);
    assert_int_equal(other.st_size, strlen("of somebody else, and longer"));
    close(descriptor);
    unlink(moved);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_status),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_formats),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_clock),
        cmocka_unit_test(test_alloc),
        cmocka_unit_test(test_alloc_overflow),
        cmocka_unit_test(test_uses),
        cmocka_unit_test(test_fail_nth),
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_long_message),
        cmocka_unit_test(test_events),
        cmocka_unit_test(test_events_cut),
        cmocka_unit_test(test_events_cut_moved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
