/* YAML to options: one mapping of scalars and short lists, and `rules`, a list of mappings. */
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "config/options.h"
#include "config/text.h"
#include "config/yaml_document.h"

#define WHERE_MAX 512

/* What the functions below share: the document being applied, and its name in messages. */
struct reader {
    const char *name;
    yaml_document_t *document;
    struct sq_config *config;
};

static yaml_node_t *node_at(const struct reader *reader, int index)
{
    return yaml_document_get_node(reader->document, index);
}

/* "job.yaml:3: group_size", into text[WHERE_MAX]. */
static const char *where_of(const struct reader *reader, const yaml_node_t *node, const char *key, char *text)
{
    snprintf(text, WHERE_MAX, "%.200s:%zu: %s", reader->name, node->start_mark.line + 1, key);
    return text;
}

static enum sq_status refuse(const struct reader *reader, const yaml_node_t *node, const char *what)
{
    sq_error("%s:%zu: %s", reader->name, node->start_mark.line + 1, what);
    return SQ_ERR_USAGE;
}

/* The text of a scalar; other nodes, tags and characters that end a C string are refused. */
static enum sq_status read_scalar(const struct reader *reader, const yaml_node_t *node, const char *what,
                                  const char **text_p)
{
    char message[200];
    const char *text = (const char *)node->data.scalar.value;
    if (node->type != YAML_SCALAR_NODE || strlen(text) != node->data.scalar.length ||
        (node->tag && strcmp((const char *)node->tag, YAML_STR_TAG))) {
        snprintf(message, sizeof message, "%.100s must be plain text", what);
        return refuse(reader, node, message);
    }
    *text_p = text;
    return SQ_OK;
}

static bool is_null(const yaml_node_t *node)
{
    if (node->type != YAML_SCALAR_NODE || node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE) return false;
    const char *text = (const char *)node->data.scalar.value;
    return !*text || !strcmp(text, "~") || !strcmp(text, "null");
}

static const char *const rule_keys[] = {"pattern", "skip", "bits", "group_size"};
enum { RULE_PATTERN, RULE_SKIP, RULE_BITS, RULE_GROUP_SIZE, RULE_KEYS };

static int find_rule_key(const char *key)
{
    for (int i = 0; i < RULE_KEYS; i++)
        if (!strcmp(rule_keys[i], key)) return i;
    return -1;
}

static enum sq_status refuse_key(const struct reader *reader, const yaml_node_t *node, const char *key,
                                 const struct sq_nearest *nearest)
{
    char hint[96];
    sq_error("%s:%zu: unknown key %s%s", reader->name, node->start_mark.line + 1, key, sq_nearest_hint(nearest, hint));
    return SQ_ERR_USAGE;
}

/* One "key: value" of a rule. seen: bits of the keys that were there already. */
static enum sq_status read_rule_pair(const struct reader *reader, const yaml_node_pair_t *pair, unsigned *seen,
                                     struct sq_rule *rule)
{
    const yaml_node_t *key_node = node_at(reader, pair->key), *value_node = node_at(reader, pair->value);
    const char *key, *value;
    char where[WHERE_MAX];
    SQ_TRY(read_scalar(reader, key_node, "a key", &key));
    int index = find_rule_key(key);
    if (index < 0) {
        struct sq_nearest nearest = {.word = key};
        for (int i = 0; i < RULE_KEYS; i++)
            sq_nearest_try(&nearest, rule_keys[i]);
        return refuse_key(reader, key_node, key, &nearest);
    }
    if (*seen & 1u << index) return refuse(reader, key_node, "a key of the rule is given twice");
    *seen |= 1u << index;
    SQ_TRY(read_scalar(reader, value_node, key, &value));
    where_of(reader, key_node, key, where);
    int64_t number = 0;
    switch (index) {
    case RULE_PATTERN:
        rule->pattern = (char *)value; /* borrowed until sq_rules_insert copies it */
        return SQ_OK;
    case RULE_SKIP:
        return sq_option_read_bool(where, value, &rule->skip);
    case RULE_BITS:
        SQ_TRY(sq_option_read_integer(sq_option_find_key("bits"), where, value, &number));
        rule->bits = (int)number;
        return SQ_OK;
    default:
        return sq_option_read_integer(sq_option_find_key("group_size"), where, value, &rule->group_size);
    }
}

static enum sq_status read_rule(const struct reader *reader, const yaml_node_t *node)
{
    struct sq_rule rule = {0};
    unsigned seen = 0;
    char where[WHERE_MAX];
    if (node->type != YAML_MAPPING_NODE) return refuse(reader, node, "a rule must be {pattern: ..., ...}");
    for (const yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top; pair++)
        SQ_TRY(read_rule_pair(reader, pair, &seen, &rule));
    if (!rule.pattern) return refuse(reader, node, "the rule has no pattern");
    return sq_rules_insert(reader->config, reader->config->n_rules, where_of(reader, node, "rules", where), &rule);
}

static enum sq_status read_rules(const struct reader *reader, const yaml_node_t *node)
{
    if (node->type != YAML_SEQUENCE_NODE) return refuse(reader, node, "rules must be a list");
    sq_rules_clear(reader->config);
    for (const int *item = node->data.sequence.items.start; item < node->data.sequence.items.top; item++)
        SQ_TRY(read_rule(reader, node_at(reader, *item)));
    return SQ_OK;
}

static enum sq_status read_list(const struct reader *reader, const struct sq_option *option, const yaml_node_t *node,
                                const char *where)
{
    sq_option_clear(option, reader->config);
    for (const int *item = node->data.sequence.items.start; item < node->data.sequence.items.top; item++) {
        const char *text;
        SQ_TRY(read_scalar(reader, node_at(reader, *item), option->key, &text));
        SQ_TRY(sq_option_append(option, where, text, strlen(text), reader->config));
    }
    if (!option->default_text || sq_option_is_given(option, reader->config)) return SQ_OK;
    sq_error("%s: the value is empty", where);
    return SQ_ERR_USAGE;
}

static enum sq_status read_value(const struct reader *reader, const struct sq_option *option, const yaml_node_t *node)
{
    char where[WHERE_MAX];
    const char *text;
    bool may_be_absent = !option->default_text && (option->type == SQ_OPTION_STRING || option->type == SQ_OPTION_LIST ||
                                                   option->type == SQ_OPTION_RULES);
    if (may_be_absent && is_null(node)) {
        sq_option_clear(option, reader->config);
        return SQ_OK;
    }
    where_of(reader, node, option->key, where);
    if (option->type == SQ_OPTION_RULES) return read_rules(reader, node);
    if (option->type == SQ_OPTION_LIST && node->type == YAML_SEQUENCE_NODE)
        return read_list(reader, option, node, where);
    SQ_TRY(read_scalar(reader, node, option->key, &text));
    return sq_option_set(option, where, text, reader->config);
}

static enum sq_status read_pair(const struct reader *reader, const yaml_node_pair_t *pair, uint64_t *seen)
{
    const yaml_node_t *node = node_at(reader, pair->key);
    const char *key;
    SQ_TRY(read_scalar(reader, node, "a key", &key));
    const struct sq_option *option = sq_option_find_key(key);
    if (!option) {
        struct sq_nearest nearest = {.word = key};
        int count;
        const struct sq_option *table = sq_option_table(&count);
        for (int i = 0; i < count; i++)
            if (table[i].key) sq_nearest_try(&nearest, table[i].key);
        return refuse_key(reader, node, key, &nearest);
    }
    if (*seen & sq_option_bit(option)) {
        sq_error("%s:%zu: key %s is given twice", reader->name, node->start_mark.line + 1, key);
        return SQ_ERR_USAGE;
    }
    *seen |= sq_option_bit(option);
    return read_value(reader, option, node_at(reader, pair->value));
}

/* The value of a mapping's key; NULL when it has none. */
static const yaml_node_t *find_value(const struct reader *reader, const yaml_node_t *mapping, const char *key)
{
    if (mapping->type != YAML_MAPPING_NODE) return NULL;
    for (const yaml_node_pair_t *pair = mapping->data.mapping.pairs.start; pair < mapping->data.mapping.pairs.top;
         pair++) {
        const yaml_node_t *node = node_at(reader, pair->key);
        if (node->type == YAML_SCALAR_NODE && !strcmp((const char *)node->data.scalar.value, key))
            return node_at(reader, pair->value);
    }
    return NULL;
}

static enum sq_status read_settings(const struct reader *reader, const yaml_node_t *node)
{
    uint64_t seen = 0;
    if (node->type != YAML_MAPPING_NODE) return refuse(reader, node, "the file must be `key: value` lines");
    for (const yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top; pair++)
        SQ_TRY(read_pair(reader, pair, &seen));
    return SQ_OK;
}

/* Lines "key: value" of a mapping of texts, added to *lines. */
static enum sq_status read_lines(const struct reader *reader, const yaml_node_t *node, char **lines)
{
    const char *key, *value;
    if (node->type != YAML_MAPPING_NODE) return refuse(reader, node, "fingerprint must be `key: value` pairs");
    for (const yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top; pair++) {
        char *longer;
        SQ_TRY(read_scalar(reader, node_at(reader, pair->key), "a key", &key));
        SQ_TRY(read_scalar(reader, node_at(reader, pair->value), key, &value));
        SQ_TRY(sq_string_format(&longer, "%s%s: %s\n", *lines, key, value));
        sq_free(*lines);
        *lines = longer;
    }
    return SQ_OK;
}

/* fingerprint NULL: the record promises nothing. */
static enum sq_status read_record(const struct reader *reader, const yaml_node_t *settings,
                                  const yaml_node_t *fingerprint)
{
    char *lines = NULL;
    SQ_TRY(read_settings(reader, settings));
    if (!fingerprint) return SQ_OK;
    SQ_TRY(sq_string_copy("", &lines));
    enum sq_status status = read_lines(reader, fingerprint, &lines);
    if (status == SQ_OK) status = sq_record_take(reader->config, lines);
    sq_free(lines);
    return status;
}

static enum sq_status read_root(const struct reader *reader, const yaml_node_t *root)
{
    bool is_record = find_value(reader, root, "shardq") != NULL;
    const yaml_node_t *settings = is_record ? find_value(reader, root, "config") : NULL;
    return settings ? read_record(reader, settings, find_value(reader, root, "fingerprint"))
                    : read_settings(reader, root);
}

static enum sq_status apply_root(void *context, yaml_document_t *document, const yaml_node_t *root)
{
    struct reader *reader = context;
    reader->document = document;
    return read_root(reader, root);
}

static enum sq_status apply_rules(void *context, yaml_document_t *document, const yaml_node_t *root)
{
    struct reader *reader = context;
    reader->document = document;
    return read_rules(reader, root);
}

enum sq_status sq_config_read_yaml(const char *name, const char *text, size_t bytes, struct sq_config *config)
{
    struct reader reader = {.name = name, .config = config};
    return sq_yaml_with_document(name, text, bytes, apply_root, &reader);
}

enum sq_status sq_yaml_set_rules(const char *where, const char *text, struct sq_config *config)
{
    struct reader reader = {.name = where, .config = config};
    return sq_yaml_with_document(where, text, strlen(text), apply_rules, &reader);
}

enum sq_status sq_yaml_read_file(const char *path, struct sq_config *config)
{
    struct reader reader = {.name = path, .config = config};
    return sq_yaml_with_file("configuration", path, apply_root, &reader);
}
