#include "help/wrap.h"

#include <string.h>

static bool takes_column(char byte)
{
    return byte != SQ_STYLE_ON && byte != SQ_STYLE_OFF && ((unsigned char)byte & 0xC0) != 0x80;
}

int sq_columns_of(const char *text, size_t bytes)
{
    int columns = 0;
    for (size_t i = 0; i < bytes; i++)
        columns += takes_column(text[i]);
    return columns;
}

size_t sq_wrap_line(const char *text, int columns, const char **rest_p)
{
    size_t length = strcspn(text, " ");
    for (;;) {
        size_t next = length + strspn(text + length, " ");
        size_t end = next + strcspn(text + next, " ");
        if (!text[next] || sq_columns_of(text, end) > columns) {
            *rest_p = text + next;
            return length;
        }
        length = end;
    }
}

void sq_write_styled(const char *text, size_t bytes, bool is_styled, bool *on_p, FILE *file)
{
    if (is_styled && *on_p) fputs("\033[1m", file);
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] == SQ_STYLE_ON || text[i] == SQ_STYLE_OFF) {
            *on_p = text[i] == SQ_STYLE_ON;
            if (is_styled) fputs(*on_p ? "\033[1m" : "\033[0m", file);
        } else {
            fputc(text[i], file);
        }
    }
    if (is_styled && *on_p) fputs("\033[0m", file);
}
