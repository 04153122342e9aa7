/* Per-module rules: regular expressions over module names. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "config/options.h"
#include "config/text.h"

#define RULES_MAX 256
#define PATTERN_MAX 1000
#define MATCH_LIMIT 1000000 /* steps of backtracking on one name, which is short: beyond it the pattern is at fault */

static enum sq_status compile(const char *where, const char *pattern, pcre2_code **regex_p)
{
    int code = 0;
    PCRE2_SIZE offset = 0;
    if (!*pattern || strlen(pattern) > PATTERN_MAX || !sq_utf8_is_valid(pattern)) {
        sq_error("%s: the pattern must be 1 to %d bytes of valid UTF-8", where, PATTERN_MAX);
        return SQ_ERR_USAGE;
    }
    *regex_p = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C, &code,
                             &offset, NULL);
    if (*regex_p) return SQ_OK;
    PCRE2_UCHAR text[160] = "";
    pcre2_get_error_message(code, text, sizeof text);
    sq_error("%s: bad regular expression \"%s\": %s at character %zu", where, pattern, (char *)text,
             (size_t)offset + 1);
    return SQ_ERR_USAGE;
}

static enum sq_status check_rule(const char *where, const struct sq_rule *rule)
{
    bool changes = rule->bits != 0 || rule->group_size != SQ_GROUP_AUTO;
    if (rule->skip != changes) return SQ_OK;
    sq_error("%s: rule \"%s\": %s", where, rule->pattern,
             changes ? "skip cannot go with bits or group_size" : "needs one of skip: true, bits and group_size");
    return SQ_ERR_USAGE;
}

enum sq_status sq_rules_insert(struct sq_config *config, int index, const char *where, const struct sq_rule *rule)
{
    struct sq_rule added = *rule;
    added.pattern = NULL;
    pcre2_code *regex = NULL;
    void *memory = NULL;
    SQ_TRY(check_rule(where, rule));
    if (config->n_rules == RULES_MAX) {
        sq_error("%s: more than %d rules", where, RULES_MAX);
        return SQ_ERR_USAGE;
    }
    SQ_TRY(compile(where, rule->pattern, &regex));
    added.regex = regex;
    enum sq_status status = sq_string_copy(rule->pattern, &added.pattern);
    if (status != SQ_OK) goto out_regex;
    status = sq_alloc("rules", config->n_rules + 1, sizeof *config->rules, &memory);
    if (status != SQ_OK) goto out_pattern;

    struct sq_rule *rules = memory;
    for (int i = 0; i < config->n_rules; i++)
        rules[i + (i >= index)] = config->rules[i];
    rules[index] = added;
    sq_free(config->rules);
    config->rules = rules;
    config->n_rules++;
    return SQ_OK;

out_pattern:
    sq_free(added.pattern);
out_regex:
    pcre2_code_free(regex);
    return status;
}

void sq_rules_clear(struct sq_config *config)
{
    for (int i = 0; i < config->n_rules; i++) {
        pcre2_code_free(config->rules[i].regex);
        sq_free(config->rules[i].pattern);
    }
    sq_free(config->rules);
    config->rules = NULL;
    config->n_rules = 0;
}

static enum sq_status refuse_match(const struct sq_rule *rule, const char *name, int code)
{
    PCRE2_UCHAR text[160] = "";
    pcre2_get_error_message(code, text, sizeof text);
    sq_error("rule \"%s\": cannot be matched with module %s: %s", rule->pattern, name, (char *)text);
    return SQ_ERR_USAGE;
}

enum sq_status sq_rule_matches(const struct sq_rule *rule, const char *name, bool *matches_p)
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
    int code = pcre2_match(rule->regex, (PCRE2_SPTR)name, PCRE2_ZERO_TERMINATED, 0, 0, data, context);
    if (code < 0 && code != PCRE2_ERROR_NOMATCH) status = refuse_match(rule, name, code);
    if (status == SQ_OK) *matches_p = code >= 0;

out_match:
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    return status;
}

enum sq_status sq_config_match_rule(const struct sq_config *config, const char *name, const struct sq_rule **rule_p)
{
    const struct sq_rule *found = NULL;
    for (int i = 0; i < config->n_rules && !found; i++) {
        bool matches = false;
        SQ_TRY(sq_rule_matches(&config->rules[i], name, &matches));
        if (matches) found = &config->rules[i];
    }
    *rule_p = found;
    return SQ_OK;
}
