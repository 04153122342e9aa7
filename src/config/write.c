/* The whole configuration as text: resolved copy, fingerprint, reference. */
#define _POSIX_C_SOURCE 200809L
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "config/describe.h"
#include "config/options.h"

static void write_lines(const struct sq_config *config, enum sq_option_keep least, FILE *file)
{
    int count;
    const struct sq_option *table = sq_option_table(&count);
    for (int i = 0; i < count; i++) {
        if (table[i].keep < least || !sq_option_is_given(&table[i], config)) continue;
        fprintf(file, "%s: ", table[i].key);
        sq_option_write(&table[i], config, file);
        fputc('\n', file);
    }
}

enum sq_status sq_config_lines(const struct sq_config *config, enum sq_option_keep least, char **lines_p)
{
    char *text = NULL;
    size_t bytes = 0;
    enum sq_status status = SQ_ERR_MEMORY;
    FILE *file = open_memstream(&text, &bytes);
    if (file) write_lines(config, least, file);
    if (file && fclose(file) == 0)
        status = sq_string_copy(text, lines_p);
    else
        sq_error("cannot write the configuration to memory");
    free(text);
    return status;
}

enum sq_status sq_config_to_yaml(const struct sq_config *config, char **yaml_p)
{
    return sq_config_lines(config, SQ_KEEP_COPY, yaml_p);
}

enum sq_status sq_config_fingerprint(const struct sq_config *config, char **lines_p)
{
    return sq_config_lines(config, SQ_KEEP_FINGERPRINT, lines_p);
}

static const char reference_head[] =
    "# Every option of shardq, as a configuration file: shardq quantize --config FILE.yaml\n"
    "# Defaults give way to this file, this file to --set KEY=VALUE, and --set to the other flags.\n"
    "# Made by `shardq config`.\n";

static const char rules_example[] = "# rules:\n"
                                    "#   - {pattern: 'layers\\.0\\.', skip: true}\n"
                                    "#   - {pattern: down_proj, bits: 8, group_size: 64}\n";

static void write_reference_row(const struct sq_option *option, const struct sq_config *config, FILE *file)
{
    bool given = sq_option_is_given(option, config);
    fputc('\n', file);
    sq_option_describe(option, false, "# ", 0, file);
    fputs("# Flag: ", file);
    sq_option_write_flags(option, file);
    fputc('\n', file);
    if (option->type == SQ_OPTION_RULES) fputs(rules_example, file);
    if (given || option->type == SQ_OPTION_RULES) {
        fprintf(file, "%s: ", option->key);
        sq_option_write(option, config, file);
    } else {
        fprintf(file, "# %s: %s", option->key, option->value_name);
    }
    fputc('\n', file);
}

void sq_config_write_reference(const struct sq_config *config, FILE *file)
{
    int count;
    const struct sq_option *table = sq_option_table(&count);
    fputs(reference_head, file);
    for (int i = 0; i < count; i++) {
        if (table[i].section) fprintf(file, "\n\n# --- %s ---\n", table[i].section);
        if (table[i].key) write_reference_row(&table[i], config, file);
    }
}
