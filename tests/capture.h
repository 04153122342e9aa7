/* Catches what a piece of code writes to stderr, so that a test can ask for one clear line. */
#ifndef SQ_TESTS_CAPTURE_H
#define SQ_TESTS_CAPTURE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct capture {
    int saved; /* the real stderr */
    FILE *file;
    char text[8192];
};

static inline void capture_start(struct capture *capture)
{
    fflush(stderr);
    capture->file = tmpfile();
    capture->saved = dup(STDERR_FILENO);
    if (!capture->file || capture->saved < 0 || dup2(fileno(capture->file), STDERR_FILENO) < 0) abort();
}

/* Ends the capture and returns the text. */
static inline const char *capture_stop(struct capture *capture)
{
    fflush(stderr);
    dup2(capture->saved, STDERR_FILENO);
    close(capture->saved);
    rewind(capture->file);
    size_t length = fread(capture->text, 1, sizeof capture->text - 1, capture->file);
    capture->text[length] = 0;
    fclose(capture->file);
    return capture->text;
}

/* Whether the text is one error line that holds all of these (NULL ends the list, at most 4). */
static inline int capture_is_one_error(const char *text, const char *const parts[4])
{
    const char *newline = strchr(text, '\n');
    if (!newline || newline[1] || strncmp(text, "shardq: error: ", 15) != 0) return 0;
    for (int i = 0; i < 4 && parts[i]; i++)
        if (!strstr(text, parts[i])) return 0;
    return 1;
}

#endif
