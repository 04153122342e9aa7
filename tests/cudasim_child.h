/* Runs a piece of a test in a child process: what must end it, and with which words; or what must pass there, under
 * settings that are read once in a process. C and C++. */
#ifndef CUDASIM_CHILD_H
#define CUDASIM_CHILD_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* The child's stderr into text; its status. normal_exit: the child ends with exit(), so that what runs at exit runs. */
static inline int child_run(void (*body)(void), int normal_exit, char *text, size_t bytes)
{
    int ends[2];
    if (pipe(ends) != 0) abort();
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        body();
        if (normal_exit) exit(0);
        _exit(0);
    }
    close(ends[1]);
    size_t length = 0;
    for (ssize_t got = 1; got > 0 && length + 1 < bytes; length += got > 0 ? (size_t)got : 0)
        got = read(ends[0], text + length, bytes - 1 - length);
    text[length] = 0;
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    return status;
}

/* body must end with SIGABRT after a line that holds `words`. */
static inline int child_dies(void (*body)(void), const char *words)
{
    static char text[65536];
    int status = child_run(body, 0, text, sizeof text);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && strstr(text, words)) return 1;
    fprintf(stderr, "expected '%s', got status %d and: %s\n", words, status, text);
    return 0;
}

/* body must end with exit code `code` and, unless NULL, say `words`. */
static inline int child_exits(void (*body)(void), int code, const char *words)
{
    static char text[65536];
    int status = child_run(body, 1, text, sizeof text);
    if (WIFEXITED(status) && WEXITSTATUS(status) == code && (!words || strstr(text, words))) return 1;
    fprintf(stderr, "expected exit code %d and '%s', got status %d and: %s\n", code, words ? words : "", status, text);
    return 0;
}

/* body must fail and say `words`, or those of the address sanitizer where that is at work; "": say nothing. */
static inline int child_fails(void (*body)(void), const char *words, const char *sanitizer_words)
{
    static char text[65536];
    int status = child_run(body, 0, text, sizeof text);
#ifdef __SANITIZE_ADDRESS__
    words = sanitizer_words;
#else
    (void)sanitizer_words;
#endif
    if (status != 0 && (*words ? strstr(text, words) != NULL : *text == 0)) return 1;
    fprintf(stderr, "expected '%s', got status %d and: %s\n", words, status, text);
    return 0;
}

#endif
