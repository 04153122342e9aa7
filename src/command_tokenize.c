/* shardq tokenize: hands over to tools/tokenize.py. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "command.h"

/* The folder that the program lies in, into folder[PATH_MAX]. */
static enum sq_status find_folder(char *folder)
{
    ssize_t length = readlink("/proc/self/exe", folder, PATH_MAX - 1);
    if (length < 0) {
        sq_error("cannot find the program's own folder (/proc/self/exe): %s", strerror(errno));
        return SQ_ERR_IO;
    }
    folder[length] = '\0';
    char *slash = strrchr(folder, '/');
    if (slash) *slash = '\0';
    return SQ_OK;
}

/* In a source tree the program is in build/, beside tools/; installed it is in bin/, beside share/. */
static enum sq_status find_script(const char *folder, char **script_p)
{
    static const char *const places[] = {"../tools/tokenize.py", "../share/shardq/tokenize.py"};
    for (int i = 0; i < 2; i++) {
        char *path = NULL;
        SQ_TRY(sq_path_join(folder, places[i], &path));
        if (access(path, R_OK) == 0) {
            *script_p = path;
            return SQ_OK;
        }
        sq_free(path);
    }
    sq_error("cannot find tokenize.py: neither %s/%s nor %s/%s is there", folder, places[0], folder, places[1]);
    return SQ_ERR_IO;
}

/* $SHARDQ_PYTHON, else the environment that bootstrap made, else the python3 of the PATH. */
static enum sq_status find_python(const char *folder, char **python_p)
{
    const char *chosen = getenv("SHARDQ_PYTHON");
    if (chosen && *chosen) return sq_string_copy(chosen, python_p);
    char *path = NULL;
    SQ_TRY(sq_path_join(folder, "../.venv/bin/python3", &path));
    if (access(path, X_OK) == 0) {
        *python_p = path;
        return SQ_OK;
    }
    sq_free(path);
    return sq_string_copy("python3", python_p);
}

/* Names of options are checked here, where the nearest can be named; all else is the script's to say. */
static int hand_over(int argc, char **argv)
{
    char folder[PATH_MAX];
    char *script = NULL, *python = NULL;
    void *memory = NULL;
    enum sq_status status = sq_config_check_flags(argc, argv, SQ_COMMAND_TOKENIZE);
    if (status == SQ_OK) status = find_folder(folder);
    if (status == SQ_OK) status = find_script(folder, &script);
    if (status == SQ_OK) status = find_python(folder, &python);
    if (status == SQ_OK) status = sq_alloc("a command line", argc + 3, sizeof(char *), &memory);
    if (status == SQ_OK) {
        char **words = memory;
        words[0] = python;
        words[1] = script;
        if (argc > 0) memcpy(words + 2, argv, (size_t)argc * sizeof *words);
        execvp(python, words);
        sq_error("cannot start %s for %s: %s", python, script, strerror(errno));
        status = SQ_ERR_IO;
    }
    sq_free(memory);
    sq_free(python);
    sq_free(script);
    return sq_status_exit_code(status);
}

const struct sq_command sq_command_tokenize = {
    .name = "tokenize",
    .summary = "Makes a token file from text, with the model's tokenizer.",
    .mask = SQ_COMMAND_TOKENIZE,
    .hand_over = hand_over,
};
