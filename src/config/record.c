/* Settings that come from the record of a checkpoint: as long as they are the record's, so are the bytes they make. */
#include <string.h>

#include "base/memory.h"
#include "config/options.h"

static enum sq_status copy_path(const char *path, char **copy_p)
{
    *copy_p = NULL;
    return path ? sq_string_copy(path, copy_p) : SQ_OK;
}

enum sq_status sq_record_take(struct sq_config *config, const char *fingerprint)
{
    struct sq_config_record record = {0};
    enum sq_status status = sq_string_copy(fingerprint, &record.fingerprint);
    if (status == SQ_OK) status = sq_config_lines(config, SQ_KEEP_ARITHMETIC, &record.settings);
    if (status == SQ_OK) status = copy_path(config->model, &record.model);
    if (status == SQ_OK) status = copy_path(config->tokens, &record.tokens);
    if (status != SQ_OK) {
        sq_record_release(&record);
        return status;
    }
    sq_record_release(&config->record);
    config->record = record;
    return SQ_OK;
}

static bool is_same(const char *a, const char *b)
{
    return a && b ? !strcmp(a, b) : a == b;
}

enum sq_status sq_record_settle(struct sq_config *config)
{
    char *settings = NULL;
    struct sq_config_record *record = &config->record;
    if (!record->fingerprint) return SQ_OK;
    SQ_TRY(sq_config_lines(config, SQ_KEEP_ARITHMETIC, &settings));
    bool is_changed = strcmp(settings, record->settings) != 0;
    sq_free(settings);
    record->has_other_inputs = !is_same(config->model, record->model) || !is_same(config->tokens, record->tokens);
    if (is_changed) sq_record_release(record);
    return SQ_OK;
}

void sq_record_release(struct sq_config_record *record)
{
    sq_free(record->fingerprint);
    sq_free(record->settings);
    sq_free(record->model);
    sq_free(record->tokens);
    *record = (struct sq_config_record){0};
}
