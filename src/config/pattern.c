#include "config/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/log.h"
#include "base/memory.h"

#define MATCH_LIMIT 1000000 /* steps of backtracking on one name, which is short: beyond it the pattern is at fault */

struct sq_pattern {
    char *text;
    pcre2_code *regex;
};

static enum sq_status compile(const char *where, const char *text, bool from_start, pcre2_code **regex_p)
{
    int code = 0;
    PCRE2_SIZE offset = 0;
    uint32_t options = PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C | (from_start ? PCRE2_ANCHORED : 0);
    *regex_p = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, options, &code, &offset, NULL);
    if (*regex_p) return SQ_OK;
    PCRE2_UCHAR message[160] = "";
    pcre2_get_error_message(code, message, sizeof message);
    sq_error("%s: bad regular expression \"%.100s\": %s at character %zu", where, text, (char *)message,
             (size_t)offset + 1);
    return SQ_ERR_USAGE;
}

enum sq_status sq_pattern_compile(const char *where, const char *text, bool from_start, struct sq_pattern **pattern_p)
{
    void *memory;
    SQ_TRY(sq_alloc("a pattern", 1, sizeof(struct sq_pattern), &memory));
    struct sq_pattern *pattern = memory;
    enum sq_status status = sq_string_copy(text, &pattern->text);
    if (status == SQ_OK) status = compile(where, text, from_start, &pattern->regex);
    if (status != SQ_OK) {
        sq_pattern_release(pattern);
        return status;
    }
    *pattern_p = pattern;
    return SQ_OK;
}

void sq_pattern_release(struct sq_pattern *pattern)
{
    if (!pattern) return;
    pcre2_code_free(pattern->regex);
    sq_free(pattern->text);
    sq_free(pattern);
}

static enum sq_status refuse_match(const struct sq_pattern *pattern, const char *name, int code)
{
    PCRE2_UCHAR message[160] = "";
    pcre2_get_error_message(code, message, sizeof message);
    sq_error("pattern \"%s\": cannot be matched with module %s: %s", pattern->text, name, (char *)message);
    return SQ_ERR_USAGE;
}

enum sq_status sq_pattern_matches(const struct sq_pattern *pattern, const char *name, bool *matches_p)
{
    enum sq_status status = SQ_OK;
    pcre2_match_context *context = pcre2_match_context_create(NULL);
    pcre2_match_data *data = pcre2_match_data_create(1, NULL); /* only whether, not where */
    if (!context || !data) {
        sq_error("cannot allocate what PCRE2 needs to match module %s", name);
        status = SQ_ERR_MEMORY;
        goto out_match;
    }
    pcre2_set_match_limit(context, MATCH_LIMIT);
    int code = pcre2_match(pattern->regex, (PCRE2_SPTR)name, PCRE2_ZERO_TERMINATED, 0, 0, data, context);
    if (code < 0 && code != PCRE2_ERROR_NOMATCH) status = refuse_match(pattern, name, code);
    if (status == SQ_OK) *matches_p = code >= 0;

out_match:
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    return status;
}
