/* The command line: defaults < YAML files < --set < flags. */
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "config/options.h"
#include "config/text.h"

enum arg_kind { ARG_HELP, ARG_CONFIG, ARG_SET, ARG_OPTION };

/* One argument as it was given. */
struct arg {
    enum arg_kind kind;
    const struct sq_option *option; /* of ARG_OPTION */
    const char *flag;               /* without "=value"; may be longer than flag_length */
    int flag_length;
    const char *value; /* NULL: none */
    bool off;          /* the flag that switches a bool off */
};

/* Where the parser stands. */
struct args {
    int argc, next;
    char **argv;
    unsigned command;
};

#define NAME_MAX_BYTES 64

static enum sq_status refuse_flag(const struct args *args, const char *flag)
{
    char hint[96];
    int count;
    const struct sq_option *table = sq_option_table_of(args->command, &count);
    struct sq_nearest nearest = {.word = flag};
    for (int i = 0; i < count; i++) {
        if (!sq_option_is_for(&table[i], args->command)) continue;
        if (table[i].flag) sq_nearest_try(&nearest, table[i].flag);
        if (table[i].off_flag) sq_nearest_try(&nearest, table[i].off_flag);
    }
    table = sq_common_option_table(&count);
    for (int i = 0; i < count; i++)
        if (sq_option_is_for(&table[i], args->command)) sq_nearest_try(&nearest, table[i].flag);
    sq_error("unknown option %s%s", flag, sq_nearest_hint(&nearest, hint));
    return SQ_ERR_USAGE;
}

/* Finds what the flag's name stands for. */
static enum sq_status find_flag(const struct args *args, struct arg *arg)
{
    char name[NAME_MAX_BYTES];
    snprintf(name, sizeof name, "%.*s", arg->flag_length, arg->flag);
    arg->kind = ARG_OPTION;
    if (!strcmp(name, "--help") || !strcmp(name, "-h")) arg->kind = ARG_HELP;
    if (!strcmp(name, "--config")) arg->kind = ARG_CONFIG;
    if (!strcmp(name, "--set")) arg->kind = ARG_SET;
    if (arg->kind != ARG_OPTION) return SQ_OK;
    arg->option = sq_option_find_flag(name, &arg->off);
    if (!arg->option) return refuse_flag(args, name);
    if (sq_option_is_for(arg->option, args->command)) return SQ_OK;
    sq_error("%s is not an option of shardq %s", name, sq_command_name(args->command));
    return SQ_ERR_USAGE;
}

static const struct sq_option *find_positional(unsigned command)
{
    int count;
    const struct sq_option *table = sq_option_table(&count);
    for (int i = 0; i < count; i++)
        if (!table[i].flag && table[i].commands & command) return &table[i];
    return NULL;
}

/* Gives the flag its value: after "=", or the next word unless that is a flag itself. */
static enum sq_status read_value(struct args *args, struct arg *arg, const char *equals)
{
    bool takes_value = arg->kind == ARG_OPTION ? arg->option->type != SQ_OPTION_BOOL : arg->kind != ARG_HELP;
    if (!takes_value && equals) {
        sq_error("%.*s takes no value", arg->flag_length, arg->flag);
        return SQ_ERR_USAGE;
    }
    if (!takes_value) return SQ_OK;
    bool next_is_value = args->next < args->argc && strncmp(args->argv[args->next], "--", 2);
    if (!equals && !next_is_value) {
        const char *name = arg->kind == ARG_OPTION ? arg->option->value_name
                           : arg->kind == ARG_SET  ? "key=value"
                                                   : "FILE";
        sq_error("%.*s needs a value: %s", arg->flag_length, arg->flag, name);
        return SQ_ERR_USAGE;
    }
    arg->value = equals ? equals + 1 : args->argv[args->next++];
    return SQ_OK;
}

static enum sq_status next_arg(struct args *args, struct arg *arg_p)
{
    const char *word = args->argv[args->next++];
    *arg_p = (struct arg){.flag = word};
    if (word[0] != '-') {
        arg_p->kind = ARG_OPTION;
        arg_p->value = word;
        arg_p->option = find_positional(args->command);
        if (arg_p->option) return SQ_OK;
        sq_error("\"%s\" is not expected: shardq %s takes options only", word, sq_command_name(args->command));
        return SQ_ERR_USAGE;
    }
    const char *equals = strchr(word, '=');
    arg_p->flag_length = (int)(equals ? (size_t)(equals - word) : strlen(word));
    SQ_TRY(find_flag(args, arg_p));
    return read_value(args, arg_p, equals);
}

static enum sq_status apply_set(const char *text, struct sq_config *config, uint64_t *given)
{
    char key[NAME_MAX_BYTES], where[NAME_MAX_BYTES + 8], hint[96];
    const char *equals = strchr(text, '=');
    if (!equals) {
        sq_error("--set %s: must be key=value", text);
        return SQ_ERR_USAGE;
    }
    snprintf(key, sizeof key, "%.*s", (int)(equals - text), text);
    snprintf(where, sizeof where, "--set %s", key);
    const struct sq_option *option = sq_option_find_key(key);
    if (!option) {
        struct sq_nearest nearest = {.word = key};
        int count;
        const struct sq_option *table = sq_option_table(&count);
        for (int i = 0; i < count; i++)
            if (table[i].key) sq_nearest_try(&nearest, table[i].key);
        sq_error("%s: unknown key%s", where, sq_nearest_hint(&nearest, hint));
        return SQ_ERR_USAGE;
    }
    *given |= sq_option_bit(option);
    if (option->type == SQ_OPTION_RULES) return sq_yaml_set_rules(where, equals + 1, config);
    return sq_option_set(option, where, equals + 1, config);
}

static enum sq_status apply_bool(const struct args *args, const struct arg *arg, struct sq_config *config)
{
    const char *opposite = arg->off ? arg->option->flag : arg->option->off_flag;
    for (int i = 0; i < args->argc; i++) {
        if (strcmp(args->argv[i], opposite)) continue;
        sq_error("%s and %s cannot go together", arg->option->flag, arg->option->off_flag);
        return SQ_ERR_USAGE;
    }
    return sq_option_set(arg->option, arg->flag, arg->off ? "false" : "true", config);
}

/* n_skips: rules that flags have added; they stand first, in their order, because flags win over the file. */
static enum sq_status apply_option(const struct args *args, const struct arg *arg, struct sq_config *config,
                                   int *n_skips)
{
    char where[NAME_MAX_BYTES];
    const struct sq_option *option = arg->option;
    if (option->type == SQ_OPTION_BOOL) return apply_bool(args, arg, config);
    if (!option->flag && option->type == SQ_OPTION_LIST)
        return sq_option_append(option, option->value_name, arg->value, strlen(arg->value), config);
    if (!option->flag && sq_option_is_given(option, config)) {
        sq_error("\"%s\" is not expected: there is a %s already", arg->value, option->value_name);
        return SQ_ERR_USAGE;
    }
    snprintf(where, sizeof where, "%s", option->flag ? option->flag : option->value_name);
    if (option->type != SQ_OPTION_RULES) return sq_option_set(option, where, arg->value, config);
    struct sq_rule rule = {.pattern = (char *)arg->value, .skip = true};
    return sq_rules_insert(config, (*n_skips)++, where, &rule);
}

static enum sq_status apply_file(const char *path, struct sq_config *config)
{
    SQ_TRY(sq_yaml_read_file(path, config));
    return sq_list_append(&config->config_files, "--config", path, strlen(path));
}

/* One walk over the words, applying those of one kind. */
static enum sq_status apply_kind(struct args *args, enum arg_kind kind, struct sq_config *config, uint64_t *given)
{
    int n_skips = 0;
    args->next = 0;
    while (args->next < args->argc) {
        struct arg arg;
        SQ_TRY(next_arg(args, &arg));
        if (arg.kind != kind) continue;
        if (kind == ARG_HELP) config->help = true;
        if (kind == ARG_CONFIG) SQ_TRY(apply_file(arg.value, config));
        if (kind == ARG_SET) SQ_TRY(apply_set(arg.value, config, given));
        if (kind != ARG_OPTION) continue;
        SQ_TRY(apply_option(args, &arg, config, &n_skips));
        *given |= sq_option_bit(arg.option);
    }
    return SQ_OK;
}

enum sq_status sq_config_check_flags(int argc, char **argv, unsigned command)
{
    struct args args = {.argc = argc, .argv = argv, .command = command};
    int count;
    const struct sq_option *table = sq_option_table_of(command, &count);
    for (int i = 0; i < argc; i++) {
        int length = (int)strcspn(argv[i], "=");
        bool is_known = strncmp(argv[i], "--", 2) != 0;
        for (int o = 0; o < count && !is_known; o++)
            is_known = !strncmp(table[o].flag, argv[i], (size_t)length) && !table[o].flag[length];
        if (is_known) continue;
        char name[NAME_MAX_BYTES];
        snprintf(name, sizeof name, "%.*s", length, argv[i]);
        return refuse_flag(&args, name);
    }
    return SQ_OK;
}

enum sq_status sq_config_parse(int argc, char **argv, unsigned command, struct sq_config *config_p)
{
    struct args args = {.argc = argc, .argv = argv, .command = command};
    uint64_t given = 0;
    SQ_TRY(sq_config_set_defaults(config_p));
    enum sq_status status = apply_kind(&args, ARG_HELP, config_p, &given);
    if (status == SQ_OK && config_p->help) return SQ_OK;
    if (status == SQ_OK) status = apply_kind(&args, ARG_CONFIG, config_p, &given);
    if (status == SQ_OK) status = apply_kind(&args, ARG_SET, config_p, &given);
    if (status == SQ_OK) status = apply_kind(&args, ARG_OPTION, config_p, &given);
    if (status == SQ_OK) status = sq_config_check(config_p, command, given);
    if (status == SQ_OK) status = sq_record_settle(config_p);
    if (status != SQ_OK) sq_config_release(config_p);
    return status;
}
