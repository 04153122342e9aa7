#include "config/text.h"

#include <string.h>

int sq_utf8_decode(const char *text, uint32_t *code_p)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000}; /* smallest code of each length: no longer forms */
    const unsigned char *byte = (const unsigned char *)text;
    int length = byte[0] < 0x80 ? 1 : (byte[0] & 0xE0) == 0xC0 ? 2 : (byte[0] & 0xF0) == 0xE0 ? 3 : 4;
    if (length == 4 && (byte[0] & 0xF8) != 0xF0) return 0;
    uint32_t code = length == 1 ? byte[0] : byte[0] & (0x7Fu >> length);
    for (int i = 1; i < length; i++) {
        if ((byte[i] & 0xC0) != 0x80) return 0;
        code = code << 6 | (byte[i] & 0x3F);
    }
    if (code < least[length] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return 0;
    *code_p = code;
    return length;
}

bool sq_utf8_is_valid(const char *text)
{
    uint32_t code;
    for (int length; *text; text += length)
        if (!(length = sq_utf8_decode(text, &code))) return false;
    return true;
}

static bool is_plain(const char *text)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_/.-";
    bool starts_well = *text && !strchr(".-", *text);
    return starts_well && !text[strspn(text, letters)] && strcmp(text, "null");
}

/* What YAML 1.1 calls printable, beyond ASCII, less the two that it reads as line breaks (U+2028, U+2029). */
static bool is_printable(uint32_t code)
{
    if (code == 0x2028 || code == 0x2029) return false;
    return (code >= 0xA0 && code < 0xD800) || (code >= 0xE000 && code < 0xFFFE && code != 0xFEFF) || code >= 0x10000;
}

void sq_yaml_write_string(const char *text, FILE *file)
{
    if (is_plain(text)) {
        fputs(text, file);
        return;
    }
    fputc('"', file);
    uint32_t code = 0;
    for (int length; *text && (length = sq_utf8_decode(text, &code)); text += length) {
        if (code == '"' || code == '\\')
            fprintf(file, "\\%c", (int)code);
        else if ((code >= ' ' && code < 0x7F) || is_printable(code))
            fwrite(text, 1, (size_t)length, file);
        else
            fprintf(file, "\\u%04x", (unsigned)code);
    }
    fputc('"', file);
}

#define WORD_MAX 63

/* Levenshtein's distance; a word that the candidate begins with counts as near. */
static int distance_of(const char *word, const char *candidate)
{
    int row[WORD_MAX + 1];
    size_t length = strlen(word), other = strlen(candidate);
    if (length > WORD_MAX || other > WORD_MAX) return WORD_MAX;
    if (length > 3 && !strncmp(word, candidate, length)) return 1;
    for (size_t j = 0; j <= other; j++)
        row[j] = (int)j;
    for (size_t i = 1; i <= length; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= other; j++) {
            int best = diagonal + (word[i - 1] != candidate[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[other];
}

void sq_nearest_try(struct sq_nearest *nearest, const char *candidate)
{
    int limit = 1 + (int)strlen(nearest->word) / 4;
    int distance = distance_of(nearest->word, candidate);
    if (distance > limit || (nearest->best && distance >= nearest->distance)) return;
    nearest->best = candidate;
    nearest->distance = distance;
}

const char *sq_nearest_hint(const struct sq_nearest *nearest, char text[96])
{
    text[0] = '\0';
    if (nearest->best) snprintf(text, 96, "; did you mean %s?", nearest->best);
    return text;
}
