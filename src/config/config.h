/* The resolved settings of one command. Rows of one table (config/options.c) say name, flag, type, default, range and
 * help of each; parser, --help, the reference file and the copy in the store all come from it. */
#ifndef SQ_CONFIG_CONFIG_H
#define SQ_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/status.h"
#include "tensor/backend.h"

/* The commands: X(enum, bit, name). */
#define SQ_COMMAND_LIST(X)                                                                                             \
    X(SQ_COMMAND_QUANTIZE, 0, "quantize")                                                                              \
    X(SQ_COMMAND_ASSEMBLE, 1, "assemble")                                                                              \
    X(SQ_COMMAND_EVAL, 2, "eval")                                                                                      \
    X(SQ_COMMAND_PLAN, 3, "plan")                                                                                      \
    X(SQ_COMMAND_VERIFY, 4, "verify")                                                                                  \
    X(SQ_COMMAND_INSPECT, 5, "inspect")                                                                                \
    X(SQ_COMMAND_CONFIG, 6, "config")                                                                                  \
    X(SQ_COMMAND_REPORT, 7, "report")                                                                                  \
    X(SQ_COMMAND_TOKENIZE, 8, "tokenize")                                                                              \
    X(SQ_COMMAND_HELP, 9, "help")                                                                                      \
    X(SQ_COMMAND_COMPLETION, 10, "completion")                                                                         \
    X(SQ_COMMAND_BENCH, 11, "bench")

enum {
#define X(name, bit, text) name = 1 << (bit),
    SQ_COMMAND_LIST(X)
#undef X
};

enum sq_solver { SQ_SOLVER_GPTQ, SQ_SOLVER_RTN, SQ_SOLVER_OBQ };
enum sq_grid_kind { SQ_GRID_SEARCH, SQ_GRID_REFERENCE, SQ_GRID_ABSMAX };
enum sq_order { SQ_ORDER_ACTIVATION, SQ_ORDER_NATURAL };
enum sq_propagation { SQ_PROPAGATION_QUANTIZED, SQ_PROPAGATION_ORIGINAL };
enum sq_expert_tokens { SQ_EXPERTS_ROUTE, SQ_EXPERTS_ALL, SQ_EXPERTS_TOP_UP };
enum sq_backend_choice { SQ_BACKEND_AUTO, SQ_BACKEND_CPU, SQ_BACKEND_CUDA };
enum sq_compute { SQ_COMPUTE_AUTO, SQ_COMPUTE_FP32, SQ_COMPUTE_BF16 };
enum sq_format {
    SQ_FORMAT_AUTO,
    SQ_FORMAT_GPTQ,
    SQ_FORMAT_GPTQ_V2,
    SQ_FORMAT_COMPRESSED_TENSORS
}; /* AUTO: GPTQ for symmetric 4 and 8 bits, else v2 */

/* spread_factors: by what is known of the backend; each rank makes its own */
#define SQ_SPREAD_AUTO 0
#define SQ_SPREAD_NEVER -1

#define SQ_GROUP_AUTO 0         /* the largest of 128, 64, 32, -1 that divides every in_features */
#define SQ_GROUP_PER_CHANNEL -1 /* one group: all of in_features */

/* Per-module exception: modules whose name matches pattern (PCRE2, searched anywhere in "model.layers.3.mlp.up_proj")
 * are skipped or get other bits or another group size. The first rule that matches decides. */
struct sq_rule {
    char *pattern;
    bool skip;
    int bits;                 /* 0: as the job */
    int64_t group_size;       /* SQ_GROUP_AUTO: as the job */
    struct sq_pattern *regex; /* the pattern, compiled (config/pattern.h) */
};

struct sq_string_list {
    char **items;
    int count;
};

/* The record of a checkpoint (shardq.json) that settings were read from: they are to make its bytes again. */
struct sq_config_record {
    char *fingerprint; /* lines "key: value"; NULL: there is no record, or what was set beside it changes the bytes */
    char *settings, *model, *tokens; /* as the record has them: lines that decide the bytes; paths, or NULL */
    bool has_other_inputs;           /* model or tokens were set to another path since */
};

struct sq_config {
    /* files */
    char *model, *tokens, *out, *store, *log, *trace, *against, *checkpoint; /* NULL: not given */
    char *path;                                                              /* what `inspect` looks at */
    char *topic;                                                             /* of `help`; NULL: which there are */
    char *shell;                                                             /* of `completion` */
    bool as_man;                                                             /* `help` writes a manual page's source */
    /* quantization */
    int bits;
    int64_t group_size;
    bool ragged, symmetric;
    enum sq_grid_kind grid;
    enum sq_order order;
    bool static_groups; /* scales fixed before the solve instead of from the updated weights; always true with order
                           activation and solver obq */
    enum sq_solver solver;
    double damping; /* fraction of mean(diag H) */
    int refine;     /* rounds of refinement after the solve; 0 switches it off, always 0 with solver rtn */
    enum sq_propagation propagation;
    bool lm_head;
    enum sq_expert_tokens experts; /* tokens that an expert is calibrated with */
    int64_t expert_tokens;         /* an expert with fewer is warned of, or topped up */
    struct sq_rule *rules;         /* one {skip} per --skip, then `rules:` of the YAML file: flags win over the file */
    int n_rules;
    /* running */
    enum sq_backend_choice backend;
    enum sq_isa isa;
    bool share_device; /* ranks may have one device together */
    enum sq_compute compute;
    int threads;                      /* 0: all this process may use */
    int64_t memory_bytes;             /* per rank; 0: as sq_place_memory() says */
    int shards;                       /* sample shards; decides the arithmetic, never depends on ranks */
    int64_t spread_factors;           /* inputs from which on ranks share a factorization; SQ_SPREAD_* */
    struct sq_string_list file_hints; /* "key=value", for MPI-IO */
    int timeout_seconds;              /* longest wait for other ranks; 0: for ever */
    int state_seconds;                /* how often activations are saved for a resume */
    bool resume, strict, assemble, json;
    /* result */
    enum sq_format format;
    enum sq_dtype scale_dtype; /* SQ_F16 or SQ_BF16 */
    int64_t shard_bytes;       /* largest safetensors file written */
    bool dequantized;
    struct sq_string_list inputs; /* what `report` shows */
    /* plan */
    char *machine;               /* NULL: the one at hand is measured */
    struct sq_string_list ranks; /* "1,8,64": checked to be positive integers */
    int64_t samples, length;
    struct sq_config_record record;
    struct sq_string_list config_files; /* that --config named */
    bool help;                          /* --help was given; nothing else was looked at */
};

/* Reads the words after the command's name: defaults, then --config files, then --set, then the other flags; then
 * checks what the command needs and what cannot go together. command: one bit of SQ_COMMAND_*. config_p needs no
 * initialisation; released by the caller with sq_config_release() on success. SQ_ERR_USAGE after one message. Local. */
enum sq_status sq_config_parse(int argc, char **argv, unsigned command, struct sq_config *config_p) SQ_MUST_CHECK;

/* Every option at its default. Local. */
enum sq_status sq_config_set_defaults(struct sq_config *config_p) SQ_MUST_CHECK;

/* Applies YAML text (not necessarily NUL-terminated) to a configuration that has been set up; `name` stands in messages
 * with the line. A checkpoint's record (shardq.json: JSON is YAML) counts as the configuration in it, and sets
 * `record`. On failure the configuration is still valid to release. Local. */
enum sq_status sq_config_read_yaml(const char *name, const char *text, size_t bytes,
                                   struct sq_config *config) SQ_MUST_CHECK;

/* The resolved copy that goes with a result: YAML of every option that says what the result is (not where it went, nor
 * how fast). Running it again gives the same bytes. Released with sq_free(). Local. */
enum sq_status sq_config_to_yaml(const struct sq_config *config, char **yaml_p) SQ_MUST_CHECK;

/* The same as one JSON object, for the record that a checkpoint carries (io/job_record.h). Local. */
enum sq_status sq_config_to_json(const struct sq_config *config, char **json_p) SQ_MUST_CHECK;

/* Lines "key: value" of the options that change the bytes of the store. `compute` is not among them: the caller adds
 * what auto came to on its processors. Released with sq_free(). Local. */
enum sq_status sq_config_fingerprint(const struct sq_config *config, char **lines_p) SQ_MUST_CHECK;

/* Checks that the words name options of a command that reads its words itself, elsewhere; their values are not looked
 * at. SQ_ERR_USAGE. Local. */
enum sq_status sq_config_check_flags(int argc, char **argv, unsigned command) SQ_MUST_CHECK;

/* Writes the commented reference of all options, with the values of `config`. Local. */
void sq_config_write_reference(const struct sq_config *config, FILE *file);

/* Writes how a command is called, as one line without what is optional; its options, each with its help. Local. */
void sq_config_write_usage(const char *name, unsigned command, FILE *file);
void sq_config_write_options(unsigned command, FILE *file);

/* Writes the help of one command: both, with its summary. summary: one sentence. Local. */
void sq_config_write_help(const char *name, const char *summary, unsigned command, FILE *file);

/* The first rule whose pattern is found in the module's name; NULL when none is. Thread-safe. SQ_ERR_USAGE naming the
 * pattern when PCRE2 gives up on it. Local. */
enum sq_status sq_config_match_rule(const struct sq_config *config, const char *name,
                                    const struct sq_rule **rule_p) SQ_MUST_CHECK;

/* Releases what the strings, lists and rules own and clears them; the struct itself is the caller's. */
void sq_config_release(struct sq_config *config);

#endif
