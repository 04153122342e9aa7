/* The table of options, inside the configuration library. Adding an option is adding a field to struct sq_config and a
 * row to the table in options.c; nothing else. */
#ifndef SQ_CONFIG_OPTIONS_H
#define SQ_CONFIG_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "config/config.h"

enum sq_option_type {
    SQ_OPTION_BOOL,   /* bool */
    SQ_OPTION_INT,    /* int */
    SQ_OPTION_INT64,  /* int64_t */
    SQ_OPTION_SIZE,   /* int64_t bytes, written "800M" */
    SQ_OPTION_DOUBLE, /* double */
    SQ_OPTION_CHOICE, /* an enum or int: one of the words */
    SQ_OPTION_STRING, /* char *, NULL when not given */
    SQ_OPTION_LIST,   /* struct sq_string_list */
    SQ_OPTION_RULES   /* rules and n_rules; the flag adds one {skip} */
};

/* Where the option's value is kept beside the result. */
enum sq_option_keep {
    SQ_KEEP_NOWHERE,    /* says where and how fast */
    SQ_KEEP_COPY,       /* in the resolved copy */
    SQ_KEEP_ARITHMETIC, /* there, as what `auto` came to: the fingerprint has lines of its own for it */
    SQ_KEEP_FINGERPRINT /* there, and in the fingerprint: changes the bytes of the store */
};

/* A word that stands for a number. */
struct sq_word {
    const char *text;
    int value;
};

struct sq_option {
    const char *section;         /* title, on the first row of a section */
    const char *key;             /* in YAML and --set; NULL: only on the command line */
    const char *flag, *off_flag; /* "--ragged", "--no-ragged" (bool only); NULL: a positional argument */
    const char *value_name;      /* what stands for the value in help; NULL for bool */
    enum sq_option_type type;
    size_t offset;               /* of the field in struct sq_config */
    const char *default_text;    /* NULL: not given (string, rules) */
    const struct sq_word *words; /* ended by {NULL}: all values of a choice or string, or what a number may also be */
    double min, max;             /* of numbers */
    unsigned commands;           /* that accept the flag; `config` accepts all */
    unsigned required;           /* commands that cannot do without */
    enum sq_option_keep keep;
    const char *help;
};

#define SQ_OPTION_MAX 64 /* rows: a set of options is one uint64_t */

const struct sq_option *sq_option_table(int *count_p);

/* The table that has a command's options among others: this one, or its own (tokenize_options.c). */
const struct sq_option *sq_option_table_of(unsigned command, int *count_p);

/* --config, --set and --help: they say where options come from, and have no field of their own. */
const struct sq_option *sq_common_option_table(int *count_p);

/* Whether the option is one of the command's. */
bool sq_option_is_for(const struct sq_option *option, unsigned command);

/* NULL when there is no such key or flag. off_p: whether it is the flag that switches off. */
const struct sq_option *sq_option_find_key(const char *key);
const struct sq_option *sq_option_find_flag(const char *flag, bool *off_p);

/* The bit of an option in a set of options. */
uint64_t sq_option_bit(const struct sq_option *option);

/* --- values (value.c, value_write.c) --------------------------------------------------------------------------------
 */

/* Sets a value from text. where: what stands before the value in a message, such as "--bits" or "job.yaml:3: bits". A
 * list is separated by commas; rules are not set from text. SQ_ERR_USAGE. */
enum sq_status sq_option_set(const struct sq_option *option, const char *where, const char *text,
                             struct sq_config *config) SQ_MUST_CHECK;

/* Reads a whole number in the option's range, or one of its words; without setting it. */
enum sq_status sq_option_read_integer(const struct sq_option *option, const char *where, const char *text,
                                      int64_t *value_p) SQ_MUST_CHECK;
enum sq_status sq_option_read_bool(const char *where, const char *text, bool *value_p) SQ_MUST_CHECK;

/* Makes a string, list or rules option not given. */
void sq_option_clear(const struct sq_option *option, struct sq_config *config);

/* Appends a copy of the first `length` bytes of text to a list; to that of an option, which is a number in its range
 * where it has one. */
enum sq_status sq_list_append(struct sq_string_list *list, const char *where, const char *text,
                              size_t length) SQ_MUST_CHECK;
enum sq_status sq_option_append(const struct sq_option *option, const char *where, const char *text, size_t length,
                                struct sq_config *config) SQ_MUST_CHECK;
void sq_list_clear(struct sq_string_list *list);

bool sq_option_is_given(const struct sq_option *option, const struct sq_config *config);

/* Writes the value as one line of YAML. */
void sq_option_write(const struct sq_option *option, const struct sq_config *config, FILE *file);

/* The allowed values in words, such as "auto, -1 or 1 to 1048576"; empty when anything goes. */
void sq_option_write_range(const struct sq_option *option, FILE *file);

/* Says that `text` is none of the allowed values; gives SQ_ERR_USAGE. */
enum sq_status sq_option_refuse(const struct sq_option *option, const char *where, const char *text);

/* --- rules (rules.c) ------------------------------------------------------------------------------------------------
 */

/* Compiles the rule's pattern and inserts the rule at `index`; the pattern is copied. SQ_ERR_USAGE on a bad pattern. */
enum sq_status sq_rules_insert(struct sq_config *config, int index, const char *where,
                               const struct sq_rule *rule) SQ_MUST_CHECK;
void sq_rules_clear(struct sq_config *config);

/* --- tokenize (tokenize_options.c) ----------------------------------------------------------------------------------
 */

/* Only described here: tools/tokenize.py reads them. */
const struct sq_option *sq_tokenize_option_table(int *count_p);

/* --- the record of a checkpoint (record.c) --------------------------------------------------------------------------
 */

/* Remembers that the settings are now those of a record with this fingerprint, which is copied. */
enum sq_status sq_record_take(struct sq_config *config, const char *fingerprint) SQ_MUST_CHECK;

/* After everything has been set: forgets the record where that changes the bytes, and sees whether inputs are its own.
 */
enum sq_status sq_record_settle(struct sq_config *config) SQ_MUST_CHECK;
void sq_record_release(struct sq_config_record *record);

/* Lines "key: value" of the options that are kept in `least` or deeper (write.c). Released with sq_free(). */
enum sq_status sq_config_lines(const struct sq_config *config, enum sq_option_keep least, char **lines_p) SQ_MUST_CHECK;

/* --- the rest -------------------------------------------------------------------------------------------------------
 */

/* Applies --set's rules: a YAML list as in the file (yaml.c). */
enum sq_status sq_yaml_set_rules(const char *where, const char *text, struct sq_config *config) SQ_MUST_CHECK;

/* Reads a YAML file and applies it (yaml.c). */
enum sq_status sq_yaml_read_file(const char *path, struct sq_config *config) SQ_MUST_CHECK;

/* What the command needs and what cannot go together; settles what follows from other options (check.c).
 * given: options set by flags or --set. */
enum sq_status sq_config_check(struct sq_config *config, unsigned command, uint64_t given) SQ_MUST_CHECK;

/* Takes slashes off the ends of folders, so that names can be derived from theirs (paths.c). */
void sq_paths_settle(const struct sq_config *config, unsigned command);

/* What a command writes may be nothing else that it writes or reads, with all names that are derived from those given;
 * and what it replaces must be a regular file (paths.c). SQ_ERR_USAGE. */
enum sq_status sq_paths_check(const struct sq_config *config, unsigned command) SQ_MUST_CHECK;

const char *sq_command_name(unsigned command);

#endif
