/* Words of a command line and files for the tests of the configuration. */
#ifndef SQ_TESTS_CONFIG_FIXTURE_H
#define SQ_TESTS_CONFIG_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/options.h"
#include "folder.h"

/* Parses words of `shardq quantize` after the three that it needs. */
#define QUANTIZE(config, ...)                                                                                          \
    parse_words(SQ_COMMAND_QUANTIZE, config,                                                                           \
                (char *[]){"--model", "m", "--tokens", "t.h5", "--out", "o", __VA_ARGS__, NULL})
#define PARSE(command, config, ...) parse_words(command, config, (char *[]){__VA_ARGS__, NULL})

static inline enum sq_status parse_words(unsigned command, struct sq_config *config, char **words)
{
    int count = 0;
    while (words[count])
        count++;
    return sq_config_parse(count, words, command, config);
}

/* A file with this text in a folder of its own; its path is valid until folder_remove(). */
static inline void write_file(const char *text, struct folder *folder, char path[1024])
{
    folder_create(folder);
    folder_write_text(folder, "job.yaml", text);
    folder_file(folder, "job.yaml", path);
}

#endif
