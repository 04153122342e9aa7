/* What a command needs, what cannot go together, and what follows from other options. */
#include <string.h>

#include "base/log.h"
#include "config/format.h"
#include "config/options.h"

static enum sq_status refuse(const char *message)
{
    sq_error("%s", message);
    return SQ_ERR_USAGE;
}

static bool was_given(uint64_t given, const char *key)
{
    return (given & sq_option_bit(sq_option_find_key(key))) != 0;
}

static enum sq_status check_required(const struct sq_config *config, unsigned command)
{
    char missing[256] = "";
    int count;
    const struct sq_option *table = sq_option_table(&count);
    for (int i = 0; i < count; i++) {
        const struct sq_option *option = &table[i];
        if (!(option->required & command) || sq_option_is_given(option, config)) continue;
        if (command == SQ_COMMAND_QUANTIZE && !config->assemble && !strcmp(option->key, "out")) continue;
        size_t used = strlen(missing);
        snprintf(missing + used, sizeof missing - used, "%s%s%s%s", used ? ", " : "", option->flag ? option->flag : "",
                 option->flag ? " " : "", option->value_name);
    }
    if (!*missing) return SQ_OK;
    sq_error("shardq %s needs %s", sq_command_name(command), missing);
    return SQ_ERR_USAGE;
}

static enum sq_status check_format(const struct sq_config *config)
{
    SQ_TRY(sq_format_check(config->format, config->bits, config->symmetric, NULL));
    for (int i = 0; i < config->n_rules; i++)
        if (config->rules[i].bits)
            SQ_TRY(sq_format_check(config->format, config->rules[i].bits, config->symmetric, NULL));
    return config->ragged ? sq_format_check_ragged(config->format, NULL) : SQ_OK;
}

/* The solver's settings; what a file says is settled silently (it may serve several solvers), what was typed is not. */
static enum sq_status settle_solver(struct sq_config *config, uint64_t given)
{
    bool is_static = config->order == SQ_ORDER_ACTIVATION || config->solver == SQ_SOLVER_OBQ;
    if (is_static && !config->static_groups && was_given(given, "static_groups"))
        return refuse(config->solver == SQ_SOLVER_OBQ ? "--no-static-groups cannot go with solver obq"
                                                      : "--no-static-groups cannot go with order activation");
    if (config->solver == SQ_SOLVER_OBQ && config->order == SQ_ORDER_NATURAL && was_given(given, "order"))
        return refuse("--order natural cannot go with solver obq, which chooses its own order");
    if (config->solver == SQ_SOLVER_RTN && config->refine > 0 && was_given(given, "refine"))
        return refuse("--refine cannot go with solver rtn, which is plain rounding");
    config->static_groups = config->static_groups || is_static;
    if (config->solver == SQ_SOLVER_RTN) config->refine = 0;
    return SQ_OK;
}

static enum sq_status check_quantization(const struct sq_config *config, uint64_t given)
{
    SQ_TRY(check_format(config));
    if (!config->symmetric && config->grid == SQ_GRID_ABSMAX)
        return refuse("grid absmax is for symmetric layers; asymmetric needs reference or search");
    if (!config->dequantized) return SQ_OK;
    if (!config->assemble) return refuse("--dequantized cannot go with --no-assemble: nothing would be written");
    if (config->format != SQ_FORMAT_AUTO && was_given(given, "format"))
        return refuse("--format cannot go with --dequantized, which writes plain weights");
    return SQ_OK;
}

enum sq_status sq_config_check(struct sq_config *config, unsigned command, uint64_t given)
{
    sq_paths_settle(config, command);
    SQ_TRY(check_required(config, command));
    if (command == SQ_COMMAND_QUANTIZE && !config->out && !config->store)
        return refuse("shardq quantize --no-assemble needs --store FILE.h5 (or --out DIR, to put it beside)");
    SQ_TRY(sq_paths_check(config, command));
    if (command & (SQ_COMMAND_QUANTIZE | SQ_COMMAND_PLAN | SQ_COMMAND_CONFIG))
        SQ_TRY(check_quantization(config, given));
    if (command & (SQ_COMMAND_QUANTIZE | SQ_COMMAND_PLAN)) return settle_solver(config, given);
    return SQ_OK;
}
