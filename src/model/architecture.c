#include "model/architecture.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"

static const struct sq_architecture *const architectures[] = {
#define X(name) &sq_arch_##name,
    SQ_ARCHITECTURES(X)
#undef X
};

/* What people may come with, and why it is refused. */
static const struct {
    const char *name, *reason;
} refused[] = {
    {"Qwen3NextForCausalLM", "it has linear attention"},
};

static enum sq_status unknown_architecture(const char *folder, const char *name)
{
    char known[2048] = "";
    for (int i = 0; i < SQ_COUNT(refused); i++) {
        if (strcmp(name, refused[i].name) != 0) continue;
        sq_error("%s/config.json: architecture '%s' is not supported: %s", folder, name, refused[i].reason);
        return SQ_ERR_INPUT;
    }
    for (int i = 0; i < SQ_COUNT(architectures); i++) {
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", architectures[i]->name);
    }
    sq_error("%s/config.json: architecture '%.64s' is not supported; known: %s", folder, name, known);
    return SQ_ERR_INPUT;
}

enum sq_status sq_architecture_find(const json_t *config, const char *folder,
                                    const struct sq_architecture **architecture_p)
{
    const json_t *list = json_object_get(config, "architectures");
    const char *name = json_string_value(json_array_get(list, 0));
    if (!name || json_array_size(list) != 1) {
        sq_error("%s/config.json: key 'architectures' must be a list of one name", folder);
        return SQ_ERR_INPUT;
    }
    for (int i = 0; i < SQ_COUNT(architectures); i++) {
        if (strcmp(name, architectures[i]->name) != 0) continue;
        *architecture_p = architectures[i];
        return SQ_OK;
    }
    return unknown_architecture(folder, name);
}
