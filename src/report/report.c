#include "report/report.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "io/json.h"
#include "io/kind.h"
#include "report/report_private.h"

enum input { INPUT_RUN_STORE, INPUT_RUN_FOLDER, INPUT_TOKENS, INPUT_JSON };

/* A JSON file is told by its first character. */
static enum sq_status find_input(const char *path, enum input *input_p)
{
    enum sq_path_kind kind;
    struct stat info;
    FILE *file = stat(path, &info) == 0 && S_ISREG(info.st_mode) ? fopen(path, "rb") : NULL;
    int first = file ? fgetc(file) : EOF;
    if (file) fclose(file);
    *input_p = INPUT_JSON;
    if (first == '{') return SQ_OK;
    SQ_TRY(sq_path_kind_find(path, &kind));
    *input_p = kind == SQ_PATH_STORE ? INPUT_RUN_STORE : kind == SQ_PATH_TOKENS ? INPUT_TOKENS : INPUT_RUN_FOLDER;
    return SQ_OK;
}

static enum sq_status add_trace(const char *path, const json_t *trace, const struct sq_report_events *events,
                                json_t *run)
{
    json_t *summary = NULL;
    SQ_TRY(sq_report_trace(path, trace, events, &summary));
    return sq_report_set(run, "trace", summary);
}

static enum sq_status add_evaluation(const char *path, json_t *object, json_t *run)
{
    if (!json_is_number(json_object_get(object, "perplexity"))) {
        sq_error("%s is neither a trace of quantize nor a result of eval --json", path);
        return SQ_ERR_INPUT;
    }
    return json_array_append(json_object_get(run, "evals"), object) ? SQ_ERR_MEMORY : SQ_OK;
}

/* A trace, or what `shardq eval --json` printed. */
static enum sq_status add_json(const char *path, json_t *run)
{
    json_t *object = NULL;
    struct sq_report_events events = {0};
    enum sq_status status = sq_json_read_list(path, "traceEvents", sq_report_events_add, &events, &object);
    if (status == SQ_OK)
        status = json_object_get(object, "traceEvents") ? add_trace(path, object, &events, run)
                                                        : add_evaluation(path, object, run);
    json_decref(object);
    sq_report_events_free(&events);
    return status;
}

static enum sq_status add_tokens(const struct sq_comm *self, const char *path, json_t *run)
{
    json_t *tokens = NULL;
    SQ_TRY(sq_report_tokens(self, path, &tokens));
    return sq_report_set(run, "calibration", tokens);
}

static enum sq_status add_input(const struct sq_comm *self, const char *path, json_t *runs)
{
    enum input input;
    json_t *made = NULL;
    SQ_TRY(find_input(path, &input));
    if (input == INPUT_RUN_STORE || input == INPUT_RUN_FOLDER) {
        SQ_TRY(sq_report_run_make(self, path, input == INPUT_RUN_FOLDER, &made));
        return json_array_append_new(runs, made) == 0 ? SQ_OK : SQ_ERR_MEMORY;
    }
    json_t *run = json_array_get(runs, json_array_size(runs) - 1);
    if (!run) {
        sq_error("%s belongs to a run: a store or a checkpoint must stand before it", path);
        return SQ_ERR_USAGE;
    }
    return input == INPUT_TOKENS ? add_tokens(self, path, run) : add_json(path, run);
}

static enum sq_status make(const struct sq_comm *self, const struct sq_string_list *inputs, json_t *data)
{
    json_t *runs = json_object_get(data, "runs");
    for (int i = 0; i < inputs->count; i++)
        SQ_TRY(add_input(self, inputs->items[i], runs));
    return SQ_OK;
}

/* Only a page may be written over: a slip in the order of names must not cost a file. */
static enum sq_status check_replaced(const char *out)
{
    static const char first[] = "<!doctype html>";
    char found[sizeof first] = "";
    struct stat info;
    FILE *file = stat(out, &info) == 0 && S_ISREG(info.st_mode) && info.st_size > 0 ? fopen(out, "rb") : NULL;
    if (!file) return SQ_OK;
    bool is_page = fread(found, 1, sizeof first - 1, file) == sizeof first - 1 && !strcmp(found, first);
    fclose(file);
    if (is_page) return SQ_OK;
    sq_error("%s exists and is no report: it is not written over", out);
    return SQ_ERR_USAGE;
}

static enum sq_status write_report(const struct sq_comm *self, const struct sq_string_list *inputs, const char *out)
{
    SQ_TRY(check_replaced(out));
    json_t *data = json_pack("{s:s, s:[]}", "program", "shardq " SHARDQ_VERSION, "runs");
    if (!data) {
        sq_error("cannot make a report: out of memory");
        return SQ_ERR_MEMORY;
    }
    enum sq_status status = make(self, inputs, data);
    if (status == SQ_OK) status = sq_report_page_write(data, out);
    json_decref(data);
    return status;
}

enum sq_status sq_report_write(const struct sq_comm *world, const struct sq_string_list *inputs, const char *out)
{
    struct sq_comm self;
    SQ_TRY(sq_comm_split(world, world->rank, &self));
    enum sq_status status = world->rank == 0 ? write_report(&self, inputs, out) : SQ_OK;
    sq_comm_free(&self);
    return sq_comm_agree(world, status);
}
