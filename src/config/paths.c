/* The files and folders of a command: none that is written may be one that is read, or another that is written. */
#define _XOPEN_SOURCE 700
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/replace.h"
#include "base/text.h"
#include "config/options.h"

#define N_NAMES 16 /* more than a command has, but for what report shows */

/* A name that is in use. */
struct used {
    const char *what;   /* in messages, such as "--out" */
    bool is_alone;      /* may be no other name: it is written, or would say nothing then */
    bool is_replaced;   /* a folder that goes as a whole when the new one comes */
    bool is_account;    /* of the run, no result: may not be in a folder that is_source */
    bool is_source;     /* a folder whose files are read, or copied with the result */
    char *path, *place; /* as given or derived; absolute, and real as far as it is there. Its own */
};

struct names {
    struct used used[N_NAMES];
    int count;
};

/* --- names that are derived from others ------------------------------------------------------------------------ */

enum given { GIVEN_OUT, GIVEN_FILE, GIVEN_STORE, GIVEN_TRACE };

/* What the program writes, or takes for its own, beside what an option names: all there is. */
static const struct {
    enum given given;
    const char *suffix, *what;
} derived[] = {
    {GIVEN_OUT, ".tmp", "the unfinished --out"},              /* io/folder.c */
    {GIVEN_OUT, ".tmp.lock", "the lock of --out"},            /* io/lock.c */
    {GIVEN_FILE, ".tmp", "the unfinished --out"},             /* src/report/page.c, src/command_bench.c */
    {GIVEN_TRACE, ".tmp", "the unfinished --trace"},          /* mpi/trace_file.c */
    {GIVEN_STORE, ".tmp", "the unfinished store"},            /* io/store_make.c */
    {GIVEN_STORE, ".lock", "the lock of the store"},          /* io/lock.c */
    {GIVEN_STORE, ".state", "the saved activations"},         /* src/gptq/job.c */
    {GIVEN_STORE, ".state.tmp", "the unfinished activations"} /* io/state_file.c */
};

static void settle_folder(char *folder)
{
    for (size_t length = folder ? strlen(folder) : 0; length > 1 && folder[length - 1] == '/'; length--)
        folder[length - 1] = '\0';
}

void sq_paths_settle(const struct sq_config *config, unsigned command)
{
    settle_folder(config->model);
    settle_folder(config->against);
    settle_folder(config->checkpoint);
    if (command & (SQ_COMMAND_QUANTIZE | SQ_COMMAND_ASSEMBLE)) settle_folder(config->out);
}

/* --- one place, one name --------------------------------------------------------------------------------------- */

/* Of a path that is not there: its folder's real name, if that is there, and the last part. */
static enum sq_status place_in_folder(const char *path, char **place_p)
{
    const char *slash = strrchr(path, '/'), *last = slash ? slash + 1 : path;
    char *folder = NULL;
    SQ_TRY(sq_string_format(&folder, "%.*s.", (int)(last - path), path));
    char *real = realpath(folder, NULL);
    enum sq_status status =
        real ? sq_path_join(strcmp(real, "/") ? real : "", last, place_p) : sq_path_absolute(path, place_p);
    free(real);
    sq_free(folder);
    return status;
}

static enum sq_status place_of(const char *path, char **place_p)
{
    char *real = realpath(path, NULL);
    if (!real) return place_in_folder(path, place_p);
    enum sq_status status = sq_string_copy(real, place_p);
    free(real);
    return status;
}

static bool is_in(const struct used *used, const struct used *folder)
{
    size_t length = strlen(folder->place);
    return !strncmp(folder->place, used->place, length) && used->place[length] == '/';
}

static enum sq_status check_not_in(const struct used *used, const struct used *folder)
{
    bool is_refused = folder->is_replaced || (folder->is_source && used->is_account);
    if (!is_refused || !is_in(used, folder)) return SQ_OK;
    sq_error("%s is in %s, which is %s: %s", used->what, folder->what,
             folder->is_replaced ? "replaced as a whole" : "only read", used->path);
    return SQ_ERR_USAGE;
}

static enum sq_status check_pair(const struct used *a, const struct used *b)
{
    if ((a->is_alone || b->is_alone) && !strcmp(a->place, b->place)) {
        sq_error("%s and %s are the same: %s", a->what, b->what, a->path);
        return SQ_ERR_USAGE;
    }
    SQ_TRY(check_not_in(a, b));
    return check_not_in(b, a);
}

static void remove_last(struct names *names)
{
    struct used *last = &names->used[--names->count];
    sq_free(last->path);
    sq_free(last->place);
}

/* path NULL: not given */
static enum sq_status add(struct names *names, struct used used, const char *path)
{
    if (!path) return SQ_OK;
    SQ_TRY(sq_string_copy(path, &used.path));
    enum sq_status status = place_of(path, &used.place);
    if (status != SQ_OK) {
        sq_free(used.path);
        return status;
    }
    assert(names->count < N_NAMES);
    names->used[names->count++] = used;
    for (int i = 0; i < names->count - 1; i++)
        SQ_TRY(check_pair(&names->used[i], &names->used[names->count - 1]));
    return SQ_OK;
}

static enum sq_status add_derived(struct names *names, enum given given, const char *path)
{
    enum sq_status status = SQ_OK;
    for (size_t i = 0; path && status == SQ_OK && i < sizeof derived / sizeof *derived; i++) {
        char *name = NULL;
        if (derived[i].given != given) continue;
        SQ_TRY(sq_string_format(&name, "%s%s", path, derived[i].suffix));
        struct used used = {.what = derived[i].what, .is_alone = true, .is_replaced = given == GIVEN_OUT};
        status = add(names, used, name);
        sq_free(name);
    }
    return status;
}

/* --- commands -------------------------------------------------------------------------------------------------- */

static enum sq_status add_store(struct names *names, const struct sq_config *config)
{
    char *beside = NULL; /* where quantize puts it when it is not given */
    if (!config->store) SQ_TRY(sq_string_format(&beside, "%s.store.h5", config->out));
    const char *path = beside ? beside : config->store;
    enum sq_status status = add(names, (struct used){.what = beside ? "the store" : "--store", .is_alone = true}, path);
    if (status == SQ_OK) status = add_derived(names, GIVEN_STORE, path);
    sq_free(beside);
    return status;
}

static enum sq_status add_quantize(struct names *names, const struct sq_config *config)
{
    SQ_TRY(add(names, (struct used){.what = "--out", .is_alone = true, .is_replaced = config->assemble}, config->out));
    if (config->assemble) SQ_TRY(add_derived(names, GIVEN_OUT, config->out));
    SQ_TRY(add_store(names, config));
    SQ_TRY(add(names, (struct used){.what = "--log", .is_alone = true, .is_account = true}, config->log));
    SQ_TRY(add(names, (struct used){.what = "--trace", .is_alone = true, .is_account = true}, config->trace));
    SQ_TRY(add_derived(names, GIVEN_TRACE, config->trace));
    SQ_TRY(add(names, (struct used){.what = "--model", .is_source = true}, config->model));
    SQ_TRY(add(names, (struct used){.what = "--machine"}, config->machine));
    return add(names, (struct used){.what = "--tokens"}, config->tokens);
}

static enum sq_status add_assemble(struct names *names, const struct sq_config *config)
{
    SQ_TRY(add(names, (struct used){.what = "--out", .is_alone = true, .is_replaced = true}, config->out));
    SQ_TRY(add_derived(names, GIVEN_OUT, config->out));
    SQ_TRY(add(names, (struct used){.what = "--store"}, config->store));
    return add(names, (struct used){.what = "--model"}, config->model);
}

/* Names that are only read, however many there are, and may be what they like among each other. */
static enum sq_status add_read(struct names *names, const char *what, const struct sq_string_list *paths)
{
    for (int i = 0; i < paths->count; i++) {
        SQ_TRY(add(names, (struct used){.what = what}, paths->items[i]));
        remove_last(names);
    }
    return SQ_OK;
}

static enum sq_status add_report(struct names *names, const struct sq_config *config)
{
    SQ_TRY(add(names, (struct used){.what = "--out", .is_alone = true}, config->out));
    SQ_TRY(add_derived(names, GIVEN_FILE, config->out));
    return add_read(names, "an input", &config->inputs);
}

static enum sq_status add_bench(struct names *names, const struct sq_config *config)
{
    SQ_TRY(add(names, (struct used){.what = "--out", .is_alone = true}, config->out));
    return add_derived(names, GIVEN_FILE, config->out);
}

static enum sq_status add_verify(struct names *names, const struct sq_config *config)
{
    SQ_TRY(add(names, (struct used){.what = "--checkpoint", .is_alone = true}, config->checkpoint));
    return add(names, (struct used){.what = "--model"}, config->model);
}

/* Every file that the program writes beside its name and renames to it. */
static enum sq_status check_replaced(const struct sq_config *config, unsigned command)
{
    bool is_file = command & (SQ_COMMAND_REPORT | SQ_COMMAND_BENCH);
    if (is_file) return sq_replace_check(config->out);
    if (command != SQ_COMMAND_QUANTIZE) return SQ_OK;
    if (config->trace) SQ_TRY(sq_replace_check(config->trace));
    return config->store && access(config->store, F_OK) != 0 ? sq_replace_check(config->store) : SQ_OK;
}

enum sq_status sq_paths_check(const struct sq_config *config, unsigned command)
{
    struct names names = {.count = 0};
    enum sq_status status = check_replaced(config, command);
    if (status == SQ_OK && command == SQ_COMMAND_QUANTIZE) status = add_quantize(&names, config);
    if (status == SQ_OK && command == SQ_COMMAND_ASSEMBLE) status = add_assemble(&names, config);
    if (status == SQ_OK && command == SQ_COMMAND_REPORT) status = add_report(&names, config);
    if (status == SQ_OK && command == SQ_COMMAND_BENCH) status = add_bench(&names, config);
    if (status == SQ_OK && command == SQ_COMMAND_VERIFY) status = add_verify(&names, config);
    if (status == SQ_OK) status = add_read(&names, "--config", &config->config_files);
    while (names.count > 0)
        remove_last(&names);
    return status;
}
