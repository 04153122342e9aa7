/* The linear layers of a checkpoint by setting, and sets of them as readers name them: by a pattern where all layers of
 * a kind belong to the set (their names differ only in numbers), else by name. */
#ifndef SQ_IO_MODULES_H
#define SQ_IO_MODULES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "io/assemble_plan.h"
#include "io/store.h"

#define SQ_MODULE_KEPT -1    /* the set of the layers left as they are */
#define SQ_MODULE_OUTSIDE -2 /* those of them that are in no numbered part of the model, such as lm_head */

/* What readers need to know of a layer besides its tensors. */
struct sq_setting {
    int bits;
    int64_t group_size; /* -1: one group */
};

struct sq_module {
    char *name; /* owned */
    char *kind; /* the name as a regular expression in which every number is \d+; owned */
    int set;    /* index of a setting, SQ_MODULE_KEPT or SQ_MODULE_OUTSIDE */
};

struct sq_modules {
    struct sq_setting *settings; /* the first is the one that most layers have */
    int n_settings;
    struct sq_module *items; /* by kind, then by name */
    int64_t n_items;
};

/* Lists the store's layers and the kept matrices of the plan: all inside numbered parts of the model ("layers.0."),
 * outside them those that are no embedding table. Released with sq_modules_release(). Local. */
enum sq_status sq_modules_list(const struct sq_store_layer *layers, int n_layers, const struct sq_assemble_plan *plan,
                               struct sq_modules *modules_p) SQ_MUST_CHECK;
void sq_modules_release(struct sq_modules *modules);

/* The names under which vLLM has layers that it joins into one (q_proj, k_proj and v_proj: qkv_proj; the experts of a
 * block: experts), each in the set of its parts. Where parts have different sets vLLM refuses: they are left out, and
 * the first is shown to the user. joined_p has no settings. Local. */
enum sq_status sq_modules_join(const struct sq_modules *modules, struct sq_modules *joined_p) SQ_MUST_CHECK;

/* Called for a pattern (a regular expression for whole names), or a name. */
typedef enum sq_status sq_modules_fn(void *context, const char *text, bool is_pattern);

/* Calls for each pattern or name; together they stand for exactly the set. Stops at the first failure. Local. */
enum sq_status sq_modules_each(const struct sq_modules *modules, int set, sq_modules_fn *call,
                               void *context) SQ_MUST_CHECK;

/* Whether the name is in a numbered part of the model; *rest_p: what follows the first number ("mlp.up_proj"). */
bool sq_module_is_in_block(const char *name, const char **rest_p);

/* name as a regular expression; numbers: each number becomes \d+. Released with sq_free(). */
enum sq_status sq_module_pattern(const char *name, bool numbers, char **pattern_p) SQ_MUST_CHECK;

/* The first quantized layer outside the blocks: the output layer, whatever its name. NULL where there is none. */
const char *sq_modules_find_head(const struct sq_modules *modules);

#endif
