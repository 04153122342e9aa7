#define _GNU_SOURCE
#include "base/node.h"

#include <ctype.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* The file's first line is a number of bytes, or "max". */
static void apply_limit(const char *path, int64_t *bytes)
{
    char line[64] = "";
    FILE *file = fopen(path, "r");
    if (!file) return;
    if (fgets(line, sizeof line, file) && isdigit((unsigned char)*line)) {
        long long limit = strtoll(line, NULL, 10);
        if (limit < *bytes) *bytes = limit;
    }
    fclose(file);
}

/* The limits of a control group and of those that it is in. In a container the group's own folder may not be there
 * under the name that the kernel gives; its limit then is at the top. */
static void apply_limits(const char *top, const char *group, const char *limit_file, int64_t *bytes)
{
    char folder[4096], path[4200];
    if (snprintf(folder, sizeof folder, "%s%s", top, group) >= (int)sizeof folder) return;
    for (;;) {
        snprintf(path, sizeof path, "%s/%s", folder, limit_file);
        apply_limit(path, bytes);
        char *slash = strrchr(folder + strlen(top), '/');
        if (!slash) return;
        *slash = '\0';
    }
}

static bool has_word(const char *list, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = list; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (!strncmp(at, word, length) && (at[length] == ',' || !at[length])) return true;
    return false;
}

/* A line of /proc/self/cgroup: "hierarchy:controllers:/group"; version 2 has no controllers. */
static void apply_group(const char *root, char *line, int64_t *bytes)
{
    char top[2048];
    char *controllers = strchr(line, ':');
    char *group = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!group) return;
    *controllers++ = *group++ = '\0';
    group[strcspn(group, "\n")] = '\0';
    bool is_v2 = !*controllers;
    if (!is_v2 && !has_word(controllers, "memory")) return;
    snprintf(top, sizeof top, "%s/sys/fs/cgroup%s", root, is_v2 ? "" : "/memory");
    apply_limits(top, group, is_v2 ? "memory.max" : "memory.limit_in_bytes", bytes);
}

int64_t sq_node_memory(const char *root)
{
    char path[2048], line[4096];
    int64_t bytes = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *file = fopen(path, "r");
    if (!file) return bytes;
    while (fgets(line, sizeof line, file))
        apply_group(root, line, &bytes);
    fclose(file);
    return bytes;
}

/* /proc/self/statm: pages in all, pages in memory, ... */
int64_t sq_process_memory(void)
{
    long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file) return 0;
    if (fscanf(file, "%*d %lld", &pages) != 1) pages = 0;
    fclose(file);
    return (int64_t)pages * sysconf(_SC_PAGESIZE);
}

int64_t sq_process_peak_memory(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (int64_t)usage.ru_maxrss * 1024 : 0;
}

int sq_node_processors(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set)) return (int)sysconf(_SC_NPROCESSORS_ONLN);
    return CPU_COUNT(&set);
}
