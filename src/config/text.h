/* Text of configurations: UTF-8, YAML quoting, the nearest known name. */
#ifndef SQ_CONFIG_TEXT_H
#define SQ_CONFIG_TEXT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Decodes one UTF-8 character (shortest form, no surrogates); its length in bytes, 0 when it is none. */
int sq_utf8_decode(const char *text, uint32_t *code_p);
bool sq_utf8_is_valid(const char *text);

/* Writes text as a YAML scalar: plain where that is safe, else in double quotes with escapes. text is valid UTF-8. */
void sq_yaml_write_string(const char *text, FILE *file);

/* The candidate nearest to a word that is not known; start with {.word = ...}. */
struct sq_nearest {
    const char *word;
    const char *best; /* NULL: nothing is near */
    int distance;
};
void sq_nearest_try(struct sq_nearest *nearest, const char *candidate);

/* "; did you mean NAME?" or "", into text[96]. Returns text. */
const char *sq_nearest_hint(const struct sq_nearest *nearest, char text[96]);

#endif
