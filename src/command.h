/* A command of the program: one file command_NAME.c each, ending in the one entry that the rest of the program needs.
 */
#ifndef SQ_COMMAND_H
#define SQ_COMMAND_H

#include <stdbool.h>

#include "base/status.h"
#include "config/config.h"
#include "mpi/comm.h"

struct sq_command {
    const char *name;
    const char *summary; /* one sentence, for --help */
    unsigned mask;       /* its bit of SQ_COMMAND_* */
    bool needs_mpi;
    bool stops_at_signals; /* at a safe point (mpi/stop.h); others end at once */
    /* For a command that is another program: becomes it, with these words. Returns an exit code only when that fails.
     */
    int (*hand_over)(int argc, char **argv);
    /* Otherwise. world: all ranks; one rank and no MPI behind it when MPI is not needed. Collective; the ranks agree on
     * the returned status afterwards. */
    enum sq_status (*run)(const struct sq_config *config, const struct sq_comm *world);
};

extern const struct sq_command sq_command_quantize;
extern const struct sq_command sq_command_assemble;
extern const struct sq_command sq_command_eval;
extern const struct sq_command sq_command_plan;
extern const struct sq_command sq_command_verify;
extern const struct sq_command sq_command_inspect;
extern const struct sq_command sq_command_report;
extern const struct sq_command sq_command_bench;
extern const struct sq_command sq_command_config;
extern const struct sq_command sq_command_tokenize;
extern const struct sq_command sq_command_help;
extern const struct sq_command sq_command_completion;

/* What all of them together are for. */
#define SQ_PROGRAM_SUMMARY "Quantizes large language models with GPTQ, on many ranks."

/* All of them, in the order of the help; ended by NULL. */
extern const struct sq_command *const sq_commands[];

/* NULL: there is none of this name. */
const struct sq_command *sq_command_find(const char *name);

#endif
