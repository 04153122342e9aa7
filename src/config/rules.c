/* Per-module rules: regular expressions over module names. */
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "config/options.h"
#include "config/pattern.h"
#include "config/text.h"

#define RULES_MAX 256
#define PATTERN_MAX 1000

static enum sq_status compile(const char *where, const char *pattern, struct sq_pattern **regex_p)
{
    if (*pattern && strlen(pattern) <= PATTERN_MAX && sq_utf8_is_valid(pattern))
        return sq_pattern_compile(where, pattern, false, regex_p);
    sq_error("%s: the pattern must be 1 to %d bytes of valid UTF-8", where, PATTERN_MAX);
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
    struct sq_pattern *regex = NULL;
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
    sq_pattern_release(regex);
    return status;
}

void sq_rules_clear(struct sq_config *config)
{
    for (int i = 0; i < config->n_rules; i++) {
        sq_pattern_release(config->rules[i].regex);
        sq_free(config->rules[i].pattern);
    }
    sq_free(config->rules);
    config->rules = NULL;
    config->n_rules = 0;
}

enum sq_status sq_config_match_rule(const struct sq_config *config, const char *name, const struct sq_rule **rule_p)
{
    const struct sq_rule *found = NULL;
    for (int i = 0; i < config->n_rules && !found; i++) {
        bool matches = false;
        SQ_TRY(sq_pattern_matches(config->rules[i].regex, name, &matches));
        if (matches) found = &config->rules[i];
    }
    *rule_p = found;
    return SQ_OK;
}
