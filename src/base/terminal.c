#define _DEFAULT_SOURCE
#include "base/terminal.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Whether the parent process is a launcher that passes on what its ranks write. */
static bool has_launcher(void)
{
    static const char *const launchers[] = {"mpirun", "mpiexec", "orterun", "prterun"};
    char path[64], name[32] = "";
    snprintf(path, sizeof path, "/proc/%d/comm", (int)getppid());
    FILE *file = fopen(path, "r");
    if (!file) return false;
    if (fscanf(file, "%31s", name) != 1) name[0] = '\0';
    fclose(file);
    for (size_t i = 0; i < sizeof launchers / sizeof *launchers; i++)
        if (!strcmp(name, launchers[i])) return true;
    return false;
}

/* The terminal that what this process writes to stderr comes to; -1: none. To be closed unless it is stderr itself. */
static int open_terminal(void)
{
    char path[64];
    if (isatty(STDERR_FILENO)) return STDERR_FILENO;
    if (!has_launcher()) return -1;
    snprintf(path, sizeof path, "/proc/%d/fd/2", (int)getppid());
    int fd = open(path, O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0 && isatty(fd)) return fd;
    if (fd >= 0) close(fd);
    return -1;
}

static void close_terminal(int fd)
{
    if (fd > STDERR_FILENO) close(fd);
}

bool sq_terminal_is_there(void)
{
    int fd = open_terminal();
    close_terminal(fd);
    return fd >= 0;
}

bool sq_terminal_has_colors(void)
{
    const char *no_color = getenv("NO_COLOR"), *kind = getenv("TERM");
    bool is_refused = (no_color && *no_color) || !kind || !*kind || !strcmp(kind, "dumb");
    return !is_refused && sq_terminal_is_there();
}

int sq_terminal_columns(void)
{
    struct winsize size = {0};
    int fd = open_terminal();
    bool is_known = fd >= 0 && ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    close_terminal(fd);
    return is_known ? size.ws_col : 80;
}
