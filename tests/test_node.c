/* The memory of a node under control groups, in a folder that stands for the root of the file system. */
#define _XOPEN_SOURCE 700
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/node.h"
#include "folder.h"

/* Writes a file with all the folders above it. */
static void write_below(const struct folder *root, const char *name, const char *text)
{
    char path[1024];
    folder_file(root, name, path);
    for (char *slash = path + strlen(root->path) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        mkdir(path, 0777);
        *slash = '/';
    }
    folder_write_text(root, name, text);
}

struct file {
    const char *name, *text;
};

/* The memory under a root that has these files; a name of NULL ends them. */
static int64_t memory_with(const struct file *files)
{
    struct folder root;
    char command[600];
    folder_create(&root);
    for (; files->name; files++)
        write_below(&root, files->name, files->text);
    int64_t bytes = sq_node_memory(root.path);
    snprintf(command, sizeof command, "rm -r %s", root.path);
    assert_int_equal(system(command), 0);
    return bytes;
}

#define MEMORY(...) memory_with((const struct file[]){__VA_ARGS__, {NULL, NULL}})
#define GROUP "/proc/self/cgroup"
#define TOP "/sys/fs/cgroup"

static int64_t installed(void)
{
    return (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
}

static void test_no_limit(void **state)
{
    (void)state;
    assert_int_equal(sq_node_memory("/nowhere"), installed());
    assert_int_equal(MEMORY({GROUP, "0::/\n"}), installed());
    assert_int_equal(MEMORY({GROUP, "0::/job\n"}, {TOP "/job/memory.max", "max\n"}), installed());
    assert_int_equal(MEMORY({GROUP, "4:memory:/\n"}, {TOP "/memory/memory.limit_in_bytes", "9223372036854771712\n"}),
                     installed());
    assert_int_equal(MEMORY({GROUP, "no colons\n"}, {TOP "/memory.max", "5000\n"}), installed());
}

/* The smallest of all levels. */
static void test_version_2(void **state)
{
    (void)state;
    assert_int_equal(MEMORY({GROUP, "0::/\n"}, {TOP "/memory.max", "7000\n"}), 7000);
    assert_int_equal(MEMORY({GROUP, "0::/slurm/job_1/step_0\n"}, {TOP "/slurm/job_1/memory.max", "6000\n"},
                            {TOP "/slurm/job_1/step_0/memory.max", "max\n"}, {TOP "/slurm/memory.max", "9000\n"}),
                     6000);
    assert_int_equal(MEMORY({GROUP, "0::/job\n"}, {TOP "/job/memory.max", "5000\n"}, {TOP "/memory.max", "9000\n"},
                            {TOP "/other/memory.max", "10\n"}),
                     5000);
}

static void test_version_1(void **state)
{
    (void)state;
    static const char groups[] = "11:cpuset:/small\n4:hugetlb,memory:/docker/abc\n1:name=systemd:/x\n0::/\n";
    assert_int_equal(MEMORY({GROUP, groups}, {TOP "/memory/docker/abc/memory.limit_in_bytes", "4000\n"},
                            {TOP "/memory/small/memory.limit_in_bytes", "10\n"}),
                     4000);
    /* in the container that group is the top */
    assert_int_equal(MEMORY({GROUP, groups}, {TOP "/memory/memory.limit_in_bytes", "3000\n"}), 3000);
    assert_int_equal(MEMORY({GROUP, "4:memory_not:/\n"}, {TOP "/memory/memory.limit_in_bytes", "3000\n"}), installed());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_limit),
        cmocka_unit_test(test_version_2),
        cmocka_unit_test(test_version_1),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
