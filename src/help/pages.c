#include "help/pages.h"

#include <stddef.h>
#include <string.h>

/* X(NAME, summary): docs/NAME.md */
#define PAGE_LIST(X)                                                                                                   \
    X(tutorial, "one's own model from the first command to a checkpoint that is served")                               \
    X(calibration, "which text to calibrate with, and what a sample is made of")                                       \
    X(planning, "what a job will take on a machine that need not be at hand")                                          \
    X(method, "how a layer is quantized: formulas, settings, references")                                              \
    X(formats, "every file that is read or written")                                                                   \
    X(readers, "which programs load what is written, as measured")                                                     \
    X(clusters, "many ranks and nodes: Slurm, binding, devices, memory")                                               \
    X(troubleshooting, "by symptom: what each message means and what to do")                                           \
    X(measured, "quality and speed as measured, and how")                                                              \
    X(architecture, "how the program is built: the flow, the store, the folders")                                      \
    X(extending, "how to add a model family, a backend operation, an option, a command")

/* X(NAME): docs/commands/NAME.md */
#define COMMAND_LIST(X)                                                                                                \
    X(quantize)                                                                                                        \
    X(assemble)                                                                                                        \
    X(eval) X(plan) X(verify) X(inspect) X(report) X(bench) X(config) X(tokenize) X(help) X(completion) X(shardq)

/* What shardq_embed (CMake) makes of them. */
#define X(name, summary) extern const char sq_embedded_page_##name[];
PAGE_LIST(X)
#undef X
#define X(name) extern const char sq_embedded_command_##name[];
COMMAND_LIST(X)
#undef X

static const struct sq_page pages[] = {
#define X(name, summary) {#name, summary, sq_embedded_page_##name},
    PAGE_LIST(X)
#undef X
};

static const struct sq_page command_pages[] = {
#define X(name) {#name, NULL, sq_embedded_command_##name},
    COMMAND_LIST(X)
#undef X
};

const struct sq_page *sq_page_table(int *count_p)
{
    *count_p = (int)(sizeof pages / sizeof *pages);
    return pages;
}

static const struct sq_page *find(const struct sq_page *table, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (!strcmp(table[i].name, name)) return &table[i];
    return NULL;
}

const struct sq_page *sq_page_find(const char *name)
{
    return find(pages, sizeof pages / sizeof *pages, name);
}

const char *sq_page_of_command(const char *name)
{
    const struct sq_page *page = find(command_pages, sizeof command_pages / sizeof *command_pages, name);
    return page ? page->text : NULL;
}
