/* Machine descriptions: what is written is read back, mistakes are named with file, line and key. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "capture.h"
#include "config/machine.h"
#include "folder.h"

static struct folder folder;

static int set_up(void **state)
{
    (void)state;
    folder_create(&folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    folder_remove(&folder);
    return 0;
}

static struct sq_machine make_machine(enum sq_backend_choice backend)
{
    struct sq_machine machine = {.name = "a test",
                                 .backend = backend,
                                 .ranks_per_node = 4,
                                 .threads = 3,
                                 .node_memory = 1e10,
                                 .device_memory = backend == SQ_BACKEND_CUDA ? 2e9 : 0,
                                 .rates = {.operation_seconds = 1e-6, .parallel_seconds = 2e-6},
                                 .link = {1e9, 1e-5},
                                 .network = {2e9, 2e-5},
                                 .host_link = {3e9, 3e-5},
                                 .host_network = {4e9, 4e-5},
                                 .node_read = 5e8,
                                 .node_write = 6e8,
                                 .all_read = 7e8};
    for (int i = 0; i < SQ_N_WORK; i++)
        machine.rates.of[i] = (struct sq_rate){1000 + i, i};
    if (backend == SQ_BACKEND_CPU) machine.rates.of[SQ_WORK_COPY] = machine.rates.of[SQ_WORK_STREAM];
    return machine;
}

static const char *write_machine(const struct sq_machine *machine, char path[1024])
{
    FILE *file = fopen(folder_file(&folder, "machine.yaml", path), "w");
    sq_machine_write(machine, file);
    fclose(file);
    return path;
}

static void test_round_trip(void **state)
{
    (void)state;
    static const enum sq_backend_choice backends[] = {SQ_BACKEND_CPU, SQ_BACKEND_CUDA};
    for (int i = 0; i < 2; i++) {
        char path[1024];
        struct sq_machine machine = make_machine(backends[i]), again;
        assert_int_equal(sq_machine_read(write_machine(&machine, path), &again), SQ_OK);
        assert_memory_equal(&machine, &again, sizeof machine);
    }
}

/* What is left out is as something else. */
static void test_defaults(void **state)
{
    (void)state;
    char path[1024];
    struct sq_machine machine = make_machine(SQ_BACKEND_CPU), again;
    machine.network = machine.host_link = machine.host_network = (struct sq_link){0, 0};
    machine.rates.of[SQ_WORK_GRAM_BF16].per_second = 0;
    assert_int_equal(sq_machine_read(write_machine(&machine, path), &again), SQ_OK);
    assert_memory_equal(&again.network, &machine.link, sizeof again.network);
    assert_memory_equal(&again.host_network, &machine.link, sizeof again.host_network);
    assert_float_equal(again.rates.of[SQ_WORK_BF16].per_second, 0, 0); /* of no use without the other */
}

/* Nodes of one rank each have no link inside: what is known is the network. */
static void test_network_alone(void **state)
{
    (void)state;
    char path[1024];
    struct sq_machine machine = make_machine(SQ_BACKEND_CPU), again;
    machine.link = machine.host_link = machine.host_network = (struct sq_link){0, 0};
    assert_int_equal(sq_machine_read(write_machine(&machine, path), &again), SQ_OK);
    assert_memory_equal(&again.link, &machine.network, sizeof again.link);
    assert_memory_equal(&again.host_link, &machine.network, sizeof again.host_link);
}

static void check_refused(const char *text, const char *part)
{
    char path[1024];
    struct capture capture;
    struct sq_machine machine;
    folder_write_text(&folder, "bad.yaml", text);
    capture_start(&capture);
    enum sq_status status = sq_machine_read(folder_file(&folder, "bad.yaml", path), &machine);
    const char *said = capture_stop(&capture);
    assert_int_equal(status, SQ_ERR_USAGE);
    assert_true(capture_is_one_error(said, (const char *const[4]){"bad.yaml", part}));
}

static void test_mistakes(void **state)
{
    (void)state;
    check_refused("name: x\nthreds: 2\n", ":2: unknown key threds; did you mean threads?");
    check_refused("threads: 2\nthreads: 2\n", ":2: key threads is given twice");
    check_refused("threads: 0\n", ":1: threads must be a whole number");
    check_refused("threads: 1.5\n", ":1: threads must be a whole number");
    check_refused("backend: gpu\n", ":1: backend must be cpu or cuda");
    check_refused("math: fast\n", ":1: math must be a rate above zero");
    check_refused("math: [1e9]\n", ":1: math must be a rate above zero");
    check_refused("math: [1e9, -1]\n", ":1: math must be a rate above zero");
    check_refused("math: nan\n", ":1: math must be a rate above zero");
    check_refused("link: 0\n", ":1: link must be [bytes a second, seconds]");
    check_refused("all_read: -1\n", ":1: all_read must be a number that is not negative");
    check_refused("node_read: 0\n", ":1: node_read must be a number of bytes from 1 to 1e18");
    check_refused("node_memory: 1e30\n", ":1: node_memory must be a number of bytes from 1 to 1e18");
    check_refused("name: ''\n", ":1: name must be a short text");
    check_refused("- 1\n", ":1: the file must be `key: value` lines");
    check_refused("name: x\n", "key backend is missing");
    check_refused("", "key name is missing");
}

static void test_no_file(void **state)
{
    (void)state;
    struct capture capture;
    struct sq_machine machine;
    capture_start(&capture);
    assert_int_equal(sq_machine_read("/nowhere/m.yaml", &machine), SQ_ERR_USAGE);
    assert_true(
        capture_is_one_error(capture_stop(&capture), (const char *const[4]){"/nowhere/m.yaml", "No such file"}));
}

static void test_folder(void **state)
{
    (void)state;
    struct capture capture;
    struct sq_machine machine;
    capture_start(&capture);
    assert_int_equal(sq_machine_read(folder.path, &machine), SQ_ERR_IO);
    assert_true(capture_is_one_error(capture_stop(&capture),
                                     (const char *const[4]){"cannot read machine description", "Is a directory"}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_defaults), cmocka_unit_test(test_network_alone),
        cmocka_unit_test(test_mistakes),   cmocka_unit_test(test_no_file),  cmocka_unit_test(test_folder),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
