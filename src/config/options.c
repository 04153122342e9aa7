#include "config/options.h"

#include <string.h>

#define QUANTIZE SQ_COMMAND_QUANTIZE
#define ASSEMBLE SQ_COMMAND_ASSEMBLE
#define EVAL SQ_COMMAND_EVAL
#define PLAN SQ_COMMAND_PLAN
#define VERIFY SQ_COMMAND_VERIFY
#define INSPECT SQ_COMMAND_INSPECT
#define REPORT SQ_COMMAND_REPORT
#define HELP SQ_COMMAND_HELP
#define COMPLETION SQ_COMMAND_COMPLETION
#define BENCH SQ_COMMAND_BENCH
#define FIELD(name) offsetof(struct sq_config, name)

#define KIB 1024.0
#define TIB (KIB * KIB * KIB * KIB)

static const struct sq_word bits_words[] = {{"2", 2}, {"3", 3}, {"4", 4}, {"8", 8}, {NULL, 0}};
static const struct sq_word group_words[] = {{"auto", SQ_GROUP_AUTO}, {"-1", SQ_GROUP_PER_CHANNEL}, {NULL, 0}};
static const struct sq_word spread_words[] = {{"auto", SQ_SPREAD_AUTO}, {"never", SQ_SPREAD_NEVER}, {NULL, 0}};
static const struct sq_word auto_words[] = {{"auto", 0}, {NULL, 0}};
static const struct sq_word grid_words[] = {
    {"absmax", SQ_GRID_ABSMAX}, {"reference", SQ_GRID_REFERENCE}, {"search", SQ_GRID_SEARCH}, {NULL, 0}};
static const struct sq_word order_words[] = {
    {"activation", SQ_ORDER_ACTIVATION}, {"natural", SQ_ORDER_NATURAL}, {NULL, 0}};
static const struct sq_word solver_words[] = {
    {"gptq", SQ_SOLVER_GPTQ}, {"rtn", SQ_SOLVER_RTN}, {"obq", SQ_SOLVER_OBQ}, {NULL, 0}};
static const struct sq_word propagation_words[] = {
    {"quantized", SQ_PROPAGATION_QUANTIZED}, {"original", SQ_PROPAGATION_ORIGINAL}, {NULL, 0}};
static const struct sq_word expert_words[] = {
    {"route", SQ_EXPERTS_ROUTE}, {"all", SQ_EXPERTS_ALL}, {"top-up", SQ_EXPERTS_TOP_UP}, {NULL, 0}};
static const struct sq_word backend_words[] = {
    {"auto", SQ_BACKEND_AUTO}, {"cpu", SQ_BACKEND_CPU}, {"cuda", SQ_BACKEND_CUDA}, {NULL, 0}};
static const struct sq_word isa_words[] = {{"auto", SQ_ISA_BEST},
                                           {"amx", SQ_ISA_AMX},
                                           {"avx512bf16", SQ_ISA_AVX512BF16},
                                           {"avx512", SQ_ISA_AVX512},
                                           {"avx2", SQ_ISA_AVX2},
                                           {"generic", SQ_ISA_GENERIC},
                                           {NULL, 0}};
static const struct sq_word compute_words[] = {
    {"auto", SQ_COMPUTE_AUTO}, {"fp32", SQ_COMPUTE_FP32}, {"bf16", SQ_COMPUTE_BF16}, {NULL, 0}};
static const struct sq_word format_words[] = {{"auto", SQ_FORMAT_AUTO},
                                              {"gptq", SQ_FORMAT_GPTQ},
                                              {"gptq_v2", SQ_FORMAT_GPTQ_V2},
                                              {"compressed-tensors", SQ_FORMAT_COMPRESSED_TENSORS},
                                              {NULL, 0}};
static const struct sq_word shell_words[] = {{"bash", 0}, {"zsh", 1}, {NULL, 0}};
static const struct sq_word scale_words[] = {{"f16", SQ_F16}, {"bf16", SQ_BF16}, {NULL, 0}};

/* clang-format off */
static const struct sq_option common_options[] = {
    {.flag = "--config", .value_name = "FILE.yaml", .type = SQ_OPTION_STRING, .commands = ~SQ_COMMAND_TOKENIZE,
     .help = "Reads options from a file; `shardq config` writes one with all of them."},
    {.flag = "--set", .value_name = "KEY=VALUE", .type = SQ_OPTION_STRING, .commands = ~SQ_COMMAND_TOKENIZE,
     .help = "Sets one option by its name in the file; may be repeated."},
    {.flag = "--help", .type = SQ_OPTION_BOOL, .commands = ~0u, .help = "Prints this text."},
};

static const struct sq_option options[] = {
    {.section = "Files",
     .key = "model", .flag = "--model", .value_name = "DIR", .type = SQ_OPTION_STRING, .offset = FIELD(model),
     .commands = QUANTIZE | ASSEMBLE | EVAL | PLAN | VERIFY, .required = QUANTIZE | EVAL | PLAN | VERIFY,
     .keep = SQ_KEEP_COPY,
     .help = "Folder of the model: config.json and safetensors. assemble takes it from the store when it is not given."},
    {.key = "tokens", .flag = "--tokens", .value_name = "FILE.h5", .type = SQ_OPTION_STRING, .offset = FIELD(tokens),
     .commands = QUANTIZE | EVAL | VERIFY, .required = QUANTIZE | EVAL | VERIFY, .keep = SQ_KEEP_COPY,
     .help = "Token file, made by `shardq tokenize`."},
    {.key = "out", .flag = "--out", .value_name = "PATH", .type = SQ_OPTION_STRING, .offset = FIELD(out),
     .commands = QUANTIZE | ASSEMBLE | REPORT | BENCH, .required = QUANTIZE | ASSEMBLE | REPORT | BENCH,
     .help = "Folder of the new checkpoint, which must not exist yet; of report the file, such as report.html, which is "
             "replaced; of bench the machine description, which must not exist yet."},
    {.key = "store", .flag = "--store", .value_name = "FILE.h5", .type = SQ_OPTION_STRING, .offset = FIELD(store),
     .commands = QUANTIZE | ASSEMBLE, .required = ASSEMBLE,
     .help = "The file that keeps every finished layer. quantize puts it beside the new checkpoint when it is not given."},
    {.key = "log", .flag = "--log", .value_name = "FILE.jsonl", .type = SQ_OPTION_STRING, .offset = FIELD(log),
     .commands = QUANTIZE,
     .help = "Appends what the run reports as data, one JSON object a line."},
    {.key = "trace", .flag = "--trace", .value_name = "FILE.json", .type = SQ_OPTION_STRING, .offset = FIELD(trace),
     .commands = QUANTIZE,
     .help = "Writes when each rank was in which stage and waited for others, for Perfetto (ui.perfetto.dev) and for "
             "`shardq report`."},
    {.key = "against", .flag = "--against", .value_name = "DIR", .type = SQ_OPTION_STRING, .offset = FIELD(against),
     .commands = EVAL,
     .help = "A second model of the same vocabulary: gives mean KL divergence and top-1 agreement."},
    {.key = "checkpoint", .flag = "--checkpoint", .value_name = "DIR", .type = SQ_OPTION_STRING,
     .offset = FIELD(checkpoint), .commands = VERIFY, .required = VERIFY,
     .help = "The quantized checkpoint to be verified against the model."},
    {.value_name = "PATH", .type = SQ_OPTION_STRING, .offset = FIELD(path), .commands = INSPECT, .required = INSPECT,
     .help = "A model folder, a token file, a store or a checkpoint."},
    {.value_name = "PATH...", .type = SQ_OPTION_LIST, .offset = FIELD(inputs), .commands = REPORT, .required = REPORT,
     .help = "Stores and checkpoints, which are shown side by side; behind each what belongs to it: traces (--trace of "
             "quantize), results of eval --json, a token file."},
    {.value_name = "TOPIC", .type = SQ_OPTION_STRING, .offset = FIELD(topic), .commands = HELP,
     .help = "A command or a page; `shardq help` alone lists them."},
    {.value_name = "SHELL", .type = SQ_OPTION_STRING, .offset = FIELD(shell), .words = shell_words,
     .commands = COMPLETION, .required = COMPLETION,
     .help = "The shell to complete words in."},
    {.flag = "--man", .off_flag = "--no-man", .type = SQ_OPTION_BOOL, .offset = FIELD(as_man),
     .default_text = "false", .commands = HELP,
     .help = "Writes the page as source for man(1), not as text."},

    {.section = "Quantization",
     .key = "bits", .flag = "--bits", .value_name = "N", .type = SQ_OPTION_CHOICE, .offset = FIELD(bits),
     .default_text = "4", .words = bits_words, .commands = QUANTIZE | PLAN, .keep = SQ_KEEP_FINGERPRINT,
     .help = "Bits per weight."},
    {.key = "group_size", .flag = "--group-size", .value_name = "N", .type = SQ_OPTION_INT64,
     .offset = FIELD(group_size), .default_text = "auto", .words = group_words, .min = 1, .max = 1048576,
     .commands = QUANTIZE | PLAN, .keep = SQ_KEEP_FINGERPRINT,
     .help = "Weights that share a scale. -1: all inputs of an output row; auto: the largest of 128, 64, 32 and -1 that "
             "divides the inputs of every layer."},
    {.key = "ragged", .flag = "--ragged", .off_flag = "--no-ragged", .type = SQ_OPTION_BOOL, .offset = FIELD(ragged),
     .default_text = "false", .commands = QUANTIZE | PLAN, .keep = SQ_KEEP_COPY,
     .help = "Allows a group size that does not divide the inputs of a layer; its last group is then shorter, which "
             "few readers accept."},
    {.key = "symmetric", .flag = "--symmetric", .off_flag = "--asymmetric", .type = SQ_OPTION_BOOL,
     .offset = FIELD(symmetric), .default_text = "true", .commands = QUANTIZE | PLAN, .keep = SQ_KEEP_FINGERPRINT,
     .help = "One zero point for all groups; asymmetric gives each group its own."},
    {.key = "grid", .flag = "--grid", .value_name = "KIND", .type = SQ_OPTION_CHOICE, .offset = FIELD(grid),
     .default_text = "search", .words = grid_words, .commands = QUANTIZE | PLAN, .keep = SQ_KEEP_FINGERPRINT,
     .help = "How a group's scale is found. reference: from its largest weight, over the whole range of codes; absmax: "
             "the same over one code less; search: the best of several clippings of reference."},
    {.key = "refine", .flag = "--refine", .value_name = "N", .type = SQ_OPTION_INT, .offset = FIELD(refine),
     .default_text = "4", .min = 0, .max = 100, .commands = QUANTIZE | PLAN, .keep = SQ_KEEP_FINGERPRINT,
     .help = "Rounds of refinement of scales and codes after the solve; 0 switches it off."},
    {.key = "order", .flag = "--order", .value_name = "ORDER", .type = SQ_OPTION_CHOICE, .offset = FIELD(order),
     .default_text = "activation", .words = order_words, .commands = QUANTIZE | PLAN, .keep = SQ_KEEP_FINGERPRINT,
     .help = "Order in which columns are quantized: the most active first, or from left to right."},
    {.key = "static_groups", .flag = "--static-groups", .off_flag = "--no-static-groups", .type = SQ_OPTION_BOOL,
     .offset = FIELD(static_groups), .default_text = "false", .commands = QUANTIZE | PLAN,
     .keep = SQ_KEEP_FINGERPRINT,
     .help = "With natural order: scales are fixed before the solve, instead of found from the updated weights on the "
             "way. Activation order and the obq solver always fix them before."},
    {.key = "solver", .flag = "--solver", .value_name = "NAME", .type = SQ_OPTION_CHOICE, .offset = FIELD(solver),
     .default_text = "gptq", .words = solver_words, .commands = QUANTIZE | PLAN, .keep = SQ_KEEP_FINGERPRINT,
     .help = "gptq; rtn: plain rounding, without refinement; obq: greedy and slow, for small layers."},
    {.key = "damping", .flag = "--damping", .value_name = "X", .type = SQ_OPTION_DOUBLE, .offset = FIELD(damping),
     .default_text = "0.01", .min = 0, .max = 1, .commands = QUANTIZE | PLAN, .keep = SQ_KEEP_FINGERPRINT,
     .help = "Added to the Hessian's diagonal, as a fraction of its mean."},
    {.key = "propagation", .flag = "--propagation", .value_name = "MODE", .type = SQ_OPTION_CHOICE,
     .offset = FIELD(propagation), .default_text = "quantized", .words = propagation_words,
     .commands = QUANTIZE | PLAN, .keep = SQ_KEEP_FINGERPRINT,
     .help = "What layers see as input: outputs of the layers already quantized, or of the original model (blocks are "
             "then independent and spread over more ranks)."},
    {.key = "lm_head", .flag = "--lm-head", .off_flag = "--no-lm-head", .type = SQ_OPTION_BOOL,
     .offset = FIELD(lm_head), .default_text = "false", .commands = QUANTIZE | PLAN, .keep = SQ_KEEP_FINGERPRINT,
     .help = "Quantizes the output layer, too."},
    {.key = "experts", .flag = "--experts", .value_name = "TOKENS", .type = SQ_OPTION_CHOICE, .offset = FIELD(experts),
     .default_text = "route", .words = expert_words, .commands = QUANTIZE | PLAN, .keep = SQ_KEEP_FINGERPRINT,
     .help = "Tokens that the experts of a mixture are calibrated with. route: those that the model sends there; all: "
             "every token; top-up: those of route, and for an expert with fewer than expert_tokens the nearest others by "
             "the router's score."},
    {.key = "expert_tokens", .flag = "--expert-tokens", .value_name = "N", .type = SQ_OPTION_INT64,
     .offset = FIELD(expert_tokens), .default_text = "256", .min = 1, .max = 1e9, .commands = QUANTIZE | PLAN,
     .keep = SQ_KEEP_FINGERPRINT,
     .help = "An expert that is calibrated with fewer tokens is warned of; with experts top-up it gets so many."},
    {.key = "rules", .flag = "--skip", .value_name = "REGEX", .type = SQ_OPTION_RULES, .offset = FIELD(rules),
     .commands = QUANTIZE | PLAN, .keep = SQ_KEEP_FINGERPRINT,
     .help = "Exceptions by regular expression, searched in names such as model.layers.3.mlp.up_proj; the first that "
             "matches decides. Each has a pattern and skip: true, or bits and group_size. --skip REGEX, which may be "
             "repeated, adds one that skips, before those of the file."},

    {.section = "Running",
     .key = "backend", .flag = "--backend", .value_name = "NAME", .type = SQ_OPTION_CHOICE, .offset = FIELD(backend),
     .default_text = "auto", .words = backend_words, .commands = QUANTIZE | EVAL | PLAN | VERIFY | BENCH,
     .keep = SQ_KEEP_ARITHMETIC,
     .help = "Where to compute; auto: on CUDA devices where the program was built for them and every rank sees one, else "
             "on the CPU."},
    {.key = "share_device", .flag = "--share-device", .off_flag = "--no-share-device", .type = SQ_OPTION_BOOL,
     .offset = FIELD(share_device), .default_text = "false", .commands = QUANTIZE | EVAL | VERIFY | BENCH,
     .help = "Lets several ranks of a node have one device together; what they exchange then goes through the host."},
    {.key = "isa", .flag = "--isa", .value_name = "NAME", .type = SQ_OPTION_CHOICE, .offset = FIELD(isa),
     .default_text = "auto", .words = isa_words, .commands = QUANTIZE | EVAL | PLAN | VERIFY,
     .keep = SQ_KEEP_ARITHMETIC,
     .help = "Instruction set of the CPU backend; auto: the best that the processor has. Ranks on different processors "
             "need one that all of them have, or their bits would differ."},
    {.key = "compute", .flag = "--compute", .value_name = "TYPE", .type = SQ_OPTION_CHOICE, .offset = FIELD(compute),
     .default_text = "auto", .words = compute_words, .commands = QUANTIZE | EVAL | PLAN | VERIFY,
     .keep = SQ_KEEP_ARITHMETIC,
     .help = "Arithmetic of the model's matrix products; auto: bf16 where the processor does it faster than fp32."},
    {.key = "threads", .flag = "--threads", .value_name = "N", .type = SQ_OPTION_INT, .offset = FIELD(threads),
     .default_text = "auto", .words = auto_words, .min = 1, .max = 4096,
     .commands = QUANTIZE | ASSEMBLE | EVAL | PLAN | VERIFY | BENCH,
     .help = "Threads of each rank; auto: all that the process may use. With a device: its streams, each with a thread; "
             "auto: 4."},
    {.key = "memory", .flag = "--memory", .value_name = "SIZE", .type = SQ_OPTION_SIZE, .offset = FIELD(memory_bytes),
     .default_text = "auto", .words = auto_words, .min = KIB * KIB, .max = 1024 * TIB,
     .commands = QUANTIZE | EVAL | PLAN | VERIFY,
     .help = "Memory of each rank, such as 800M or 64G; auto: three quarters of what the node has or its container allows, "
             "shared among its ranks; with a device nine tenths of what is free there."},
    {.key = "shards", .flag = "--shards", .value_name = "N", .type = SQ_OPTION_INT, .offset = FIELD(shards),
     .default_text = "16", .min = 1, .max = 65536, .commands = QUANTIZE | PLAN | VERIFY, .keep = SQ_KEEP_FINGERPRINT,
     .help = "Parts into which the samples are divided, whatever the number of ranks; more ranks than this are not all "
             "used in the forward pass."},
    {.key = "spread_factors", .flag = "--spread-factors", .value_name = "N", .type = SQ_OPTION_INT64,
     .offset = FIELD(spread_factors), .default_text = "auto", .words = spread_words, .min = 1, .max = 1e9,
     .commands = QUANTIZE | PLAN,
     .help = "Layers with at least so many inputs have their Hessian factored by all ranks together, others by each rank "
             "for itself; auto: those for which that is faster on the --machine, without one what usually pays with the "
             "backend; never. It changes no bytes of the result; `shardq plan` shows what pays."},
    {.key = "machine", .flag = "--machine", .value_name = "FILE.yaml", .type = SQ_OPTION_STRING,
     .offset = FIELD(machine), .commands = PLAN | QUANTIZE,
     .help = "Description of the machine: those of configs/machines, or what shardq bench has written. Without it plan "
             "measures the one at hand; of quantize it says which factorizations ranks share."},
    {.key = "file_hints", .flag = "--file-hints", .value_name = "KEY=VALUE,...", .type = SQ_OPTION_LIST,
     .offset = FIELD(file_hints), .commands = QUANTIZE | ASSEMBLE,
     .help = "Hints for MPI-IO, which makes the store with them and opens it: striping_factor and striping_unit, how a "
             "parallel file system such as Lustre spreads it; romio_cb_write and cb_nodes, whether and where writes are "
             "collected; and whatever else the MPI library knows."},
    {.key = "timeout", .flag = "--timeout", .value_name = "SECONDS", .type = SQ_OPTION_INT,
     .offset = FIELD(timeout_seconds), .default_text = "1800", .min = 0, .max = 604800,
     .commands = QUANTIZE | ASSEMBLE | EVAL | VERIFY,
     .help = "Longest wait of a rank for the others, such as for one that has frozen: then the job ends with exit code 76 "
             "and can be resumed; 0: waits for ever."},
    {.key = "state_seconds", .flag = "--state-seconds", .value_name = "N", .type = SQ_OPTION_INT,
     .offset = FIELD(state_seconds), .default_text = "300", .min = 0, .max = 604800, .commands = QUANTIZE,
     .help = "How often the activations are saved, so that a resumed run need not recompute them; 0: after every block."},
    {.key = "resume", .flag = "--resume", .off_flag = "--no-resume", .type = SQ_OPTION_BOOL, .offset = FIELD(resume),
     .default_text = "false", .commands = QUANTIZE,
     .help = "Continues a store that is there and starts one that is not; without it an existing one is refused."},
    {.key = "strict", .flag = "--strict", .off_flag = "--no-strict", .type = SQ_OPTION_BOOL, .offset = FIELD(strict),
     .default_text = "false", .commands = QUANTIZE,
     .help = "Exits with an error when there were warnings."},
    {.key = "json", .flag = "--json", .off_flag = "--no-json", .type = SQ_OPTION_BOOL, .offset = FIELD(json),
     .default_text = "false", .commands = EVAL | PLAN | VERIFY | INSPECT,
     .help = "Prints the result as one JSON object; plan one for each number of ranks, and verify one for each layer, "
             "each on a line of its own."},

    {.section = "Result",
     .key = "assemble", .flag = "--assemble", .off_flag = "--no-assemble", .type = SQ_OPTION_BOOL,
     .offset = FIELD(assemble), .default_text = "true", .commands = QUANTIZE,
     .help = "Makes the checkpoint when the store is complete."},
    {.key = "format", .flag = "--format", .value_name = "NAME", .type = SQ_OPTION_CHOICE, .offset = FIELD(format),
     .default_text = "auto", .words = format_words, .commands = QUANTIZE | ASSEMBLE | PLAN, .keep = SQ_KEEP_COPY,
     .help = "Checkpoint format; auto: gptq when all layers have symmetric 4 or 8 bits, which is all that it holds, else "
             "gptq_v2. compressed-tensors (pack-quantized): 2, 4 and 8 bits in whole groups."},
    {.key = "scale_dtype", .flag = "--scale-dtype", .value_name = "TYPE", .type = SQ_OPTION_CHOICE,
     .offset = FIELD(scale_dtype), .default_text = "f16", .words = scale_words, .commands = QUANTIZE | PLAN,
     .keep = SQ_KEEP_FINGERPRINT, .help = "Type of the scales."},
    {.key = "shard_size", .flag = "--shard-size", .value_name = "SIZE", .type = SQ_OPTION_SIZE,
     .offset = FIELD(shard_bytes), .default_text = "5G", .min = KIB, .max = TIB, .commands = QUANTIZE | ASSEMBLE,
     .keep = SQ_KEEP_COPY, .help = "Largest safetensors file; a tensor that is larger gets a file of its own."},
    {.key = "dequantized", .flag = "--dequantized", .off_flag = "--no-dequantized", .type = SQ_OPTION_BOOL,
     .offset = FIELD(dequantized), .default_text = "false", .commands = QUANTIZE | ASSEMBLE, .keep = SQ_KEEP_COPY,
     .help = "Writes a plain checkpoint with the rounded weights, for comparison."},

    {.section = "Plan",
     .key = "ranks", .flag = "--ranks", .value_name = "N,N...", .type = SQ_OPTION_LIST, .offset = FIELD(ranks),
     .default_text = "1", .min = 1, .max = 1048576, .commands = PLAN,
     .help = "Numbers of ranks to plan for."},
    {.key = "samples", .flag = "--samples", .value_name = "N", .type = SQ_OPTION_INT64, .offset = FIELD(samples),
     .default_text = "128", .min = 1, .max = 1e6, .commands = PLAN, .help = "Calibration samples."},
    {.key = "length", .flag = "--length", .value_name = "N", .type = SQ_OPTION_INT64, .offset = FIELD(length),
     .default_text = "0", .min = 0, .max = 1e7, .commands = PLAN,
     .help = "Tokens of each sample; 0: 2048, or as many as the model knows positions where these are fewer."},
};
/* clang-format on */

#define N_OPTIONS ((int)(sizeof options / sizeof *options))
_Static_assert(sizeof options / sizeof *options <= SQ_OPTION_MAX, "a set of options is one uint64_t");

const struct sq_option *sq_option_table(int *count_p)
{
    *count_p = N_OPTIONS;
    return options;
}

const struct sq_option *sq_common_option_table(int *count_p)
{
    *count_p = (int)(sizeof common_options / sizeof *common_options);
    return common_options;
}

const struct sq_option *sq_option_table_of(unsigned command, int *count_p)
{
    return command == SQ_COMMAND_TOKENIZE ? sq_tokenize_option_table(count_p) : sq_option_table(count_p);
}

bool sq_option_is_for(const struct sq_option *option, unsigned command)
{
    return option->commands & command || (command == SQ_COMMAND_CONFIG && option->key);
}

uint64_t sq_option_bit(const struct sq_option *option)
{
    return UINT64_C(1) << (option - options);
}

const struct sq_option *sq_option_find_key(const char *key)
{
    for (int i = 0; i < N_OPTIONS; i++)
        if (options[i].key && !strcmp(options[i].key, key)) return &options[i];
    return NULL;
}

const struct sq_option *sq_option_find_flag(const char *flag, bool *off_p)
{
    for (int i = 0; i < N_OPTIONS; i++) {
        const struct sq_option *option = &options[i];
        bool off = option->off_flag && !strcmp(option->off_flag, flag);
        if (!off && (!option->flag || strcmp(option->flag, flag))) continue;
        *off_p = off;
        return option;
    }
    return NULL;
}

const char *sq_command_name(unsigned command)
{
    switch (command) {
#define X(name, bit, text)                                                                                             \
    case name:                                                                                                         \
        return text;
        SQ_COMMAND_LIST(X)
#undef X
    }
    return "shardq";
}
