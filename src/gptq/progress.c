#include "gptq/progress.h"

#include <stdio.h>

#include "base/log.h"
#include "base/node.h"
#include "base/text.h"
#include "gptq/flags.h"

#define N_WORST 3

/* The name inside the block: "mlp.up_proj" of "model.layers.3.mlp.up_proj". */
static const char *short_name(const char *name)
{
    const char *digit = name;
    while (*digit && !(digit[0] == '.' && digit[1] >= '0' && digit[1] <= '9'))
        digit++;
    if (*digit) digit++;
    while (*digit >= '0' && *digit <= '9')
        digit++;
    return *digit == '.' ? digit + 1 : name;
}

static const struct sq_linear *linear_of(const struct sq_job *job, int layer)
{
    return sq_model_linear(job->model, job->layers.linears[layer]);
}

static unsigned flags_of(const struct sq_job *job, int layer, const struct sq_layer_report *report)
{
    const struct sq_linear *linear = linear_of(job, layer);
    int64_t expert_tokens = linear->expert >= 0 ? job->config->expert_tokens : 0;
    return sq_layer_flags(report, job->config->solver, linear->in_features, expert_tokens);
}

/* The first of an expert's layers speaks for it. */
static bool is_first_of_expert(const struct sq_job *job, int layer)
{
    const struct sq_linear *linear = linear_of(job, layer);
    if (linear->expert < 0) return false;
    if (layer == 0) return true;
    const struct sq_linear *before = linear_of(job, layer - 1);
    return before->expert != linear->expert || before->block != linear->block;
}

void sq_progress_start(const struct sq_job *job, int n_done)
{
    const struct sq_config *config = job->config;
    char memory[16];
    if (job->world->rank != 0) return;
    sq_info("%s: %s, %lld blocks, %d layers to quantize (%d in the store); %lld samples of %lld tokens", config->model,
            sq_model_architecture(job->model), (long long)sq_model_n_blocks(job->model), job->layers.n_layers, n_done,
            (long long)job->tokens.n_samples, (long long)job->tokens.length);
    sq_info("%d bits, group size %lld, %s; %d rank%s of %d thread%s, %s on %s; about %s per rank%s%s", config->bits,
            (long long)job->layers.group_size, config->symmetric ? "symmetric" : "asymmetric", job->world->size,
            job->world->size > 1 ? "s" : "", job->backend->n_workers, job->backend->n_workers > 1 ? "s" : "",
            job->compute == SQ_BF16 ? "bf16" : "fp32", job->backend->isa,
            sq_size_format((double)job->memory.resident, memory),
            job->memory.place == SQ_ACTIVATIONS_NEAR ? "" : ", activations ", sq_activations_where(job->memory.place));
    sq_event(
        "{\"event\":\"start\",\"layers\":%d,\"done\":%d,\"ranks\":%d,\"threads\":%d,\"compute\":\"%s\",\"bits\":%d,"
        "\"group_size\":%lld,\"memory_bytes\":%lld}",
        job->layers.n_layers, n_done, job->world->size, job->backend->n_workers, sq_dtype_name(job->compute),
        config->bits, (long long)job->layers.group_size, (long long)job->memory.resident);
    sq_layers_warn_of_tokens(&job->layers, job->model, config->solver, config->tokens,
                             job->tokens.n_samples * job->tokens.length);
}

/* One warning for all layers of an expert. */
static void warn_of_expert(const struct sq_job *job, int layer, const struct sq_layer_report *report)
{
    const struct sq_linear *linear = linear_of(job, layer);
    if (!is_first_of_expert(job, layer)) return;
    if (report->n_tokens == 0)
        sq_warning(SQ_WARNING_LAYER, "block %d: no token came to expert %d; it is plainly rounded", linear->block + 1,
                   linear->expert);
    else
        sq_warning(SQ_WARNING_LAYER, "block %d: expert %d was calibrated with %lld tokens, fewer than %lld",
                   linear->block + 1, linear->expert, (long long)report->n_tokens,
                   (long long)job->config->expert_tokens);
}

static void warn_of_layer(const struct sq_job *job, int layer, const struct sq_layer_report *report)
{
    const char *name = job->layers.layers[layer].name;
    unsigned flags = flags_of(job, layer, report);
    if (flags & SQ_FLAG_STARVED) warn_of_expert(job, layer, report);
    if (flags & SQ_FLAG_DIAGONAL)
        sq_warning(SQ_WARNING_LAYER,
                   "%s: the Hessian was not positive definite at any damping; only its diagonal was used", name);
    if (flags & SQ_FLAG_RAISED)
        sq_warning(SQ_WARNING_LAYER, "%s: damping was raised %lld times, to %g", name, (long long)report->n_rungs,
                   report->damping);
    if (flags & SQ_FLAG_DEAD)
        sq_warning(SQ_WARNING_LAYER, "%s: %lld inputs were zero in every token; their weights are quantized as zero",
                   name, (long long)report->n_dead);
    if (flags & SQ_FLAG_LIMITED)
        sq_warning(SQ_WARNING_LAYER,
                   "%s: %lld scales are too large or too small for type %s, and were held at its limit or lost digits",
                   name, (long long)report->n_limited, sq_dtype_name(job->config->scale_dtype));
    if (flags & SQ_FLAG_NO_BETTER)
        sq_warning(SQ_WARNING_LAYER, "%s: error %.3g is no better than plain rounding's %.3g", name, report->error,
                   report->error_rtn);
}

void sq_progress_layer(const struct sq_job *job, int layer, const struct sq_layer_report *report, double seconds)
{
    const struct sq_store_layer *l = &job->layers.layers[layer];
    if (job->world->rank != 0) return;
    const struct sq_linear *linear = linear_of(job, layer);
    sq_info("block %3d/%lld  %-20s %6lld x %-6lld error %.3e  rounding %.3e  ratio %.3f  %6.2f s", linear->block + 1,
            (long long)sq_model_n_blocks(job->model), short_name(l->name), (long long)l->out_features,
            (long long)l->in_features, report->error, report->error_rtn,
            report->error_rtn > 0 ? report->error / report->error_rtn : 1.0, seconds);
    warn_of_layer(job, layer, report);
    sq_event(
        "{\"event\":\"layer\",\"name\":\"%s\",\"block\":%d,\"out_features\":%lld,\"in_features\":%lld,\"error\":%.9g,"
        "\"error_rtn\":%.9g,\"damping\":%g,\"rungs\":%lld,\"dead\":%lld,\"limited\":%lld,\"tokens\":%lld,\"routed\":%"
        "lld,\"rounds\":%.6g,\"seconds\":%.4f}",
        l->name, linear->block, (long long)l->out_features, (long long)l->in_features, report->error, report->error_rtn,
        report->damping, (long long)report->n_rungs, (long long)report->n_dead, (long long)report->n_limited,
        (long long)report->n_tokens, (long long)report->n_routed, report->rounds, seconds);
}

/* "37 %, 8.1 layers/s, about 17 s left, 83.0 MiB held" */
static const char *describe_rate(const struct sq_job *job, const struct sq_progress_point *point, char text[128])
{
    char left[48], held[16];
    double rate = point->seconds > 0 ? point->n_done_in_run / point->seconds : 0;
    int n_left = job->layers.n_layers - point->n_done;
    snprintf(text, 128, "%d %%, %.1f layers/s, about %s left, %s held", 100 * point->n_done / job->layers.n_layers,
             rate, sq_duration_format(rate > 0 ? n_left / rate : 0, left),
             sq_size_format((double)sq_process_memory(), held));
    return text;
}

void sq_progress_left(const struct sq_job *job, int layer, const struct sq_progress_point *point)
{
    char text[128];
    int n_blocks = (int)sq_model_n_blocks(job->model), block = linear_of(job, layer)->block;
    bool ends_block = layer + 1 == job->layers.n_layers || linear_of(job, layer + 1)->block != block;
    if (job->world->rank != 0 || point->n_done_in_run == 0 || point->n_done == job->layers.n_layers) return;
    if (sq_log_is_live())
        sq_progress("block %d/%d  %s  %s", block + 1, n_blocks, short_name(job->layers.layers[layer].name),
                    describe_rate(job, point, text));
    else if (ends_block)
        sq_info("block %3d/%d  done: %s", block + 1, n_blocks, describe_rate(job, point, text));
}

int sq_progress_n_flagged(const struct sq_job *job, unsigned flags)
{
    int count = 0;
    for (int i = 0; i < job->layers.n_layers; i++)
        if (sq_store_is_done(job->store, i)) count += (flags_of(job, i, sq_store_report(job->store, i)) & flags) != 0;
    return count;
}

/* --- summary ---------------------------------------------------------------------------------------------------------
 */

/* The layers with the largest errors, the largest first, into worst[N_WORST]; how many there are. */
static int find_worst(const struct sq_job *job, int *worst)
{
    int count = 0;
    for (int i = 0; i < job->layers.n_layers; i++) {
        int at = count < N_WORST ? count++ : N_WORST;
        double error = sq_store_report(job->store, i)->error;
        while (at > 0 && sq_store_report(job->store, worst[at - 1])->error < error) {
            if (at < N_WORST) worst[at] = worst[at - 1];
            at--;
        }
        if (at < N_WORST) worst[at] = i;
    }
    return count;
}

static void show_worst(const struct sq_job *job)
{
    int worst[N_WORST];
    int count = find_worst(job, worst);
    for (int i = 0; i < count; i++)
        sq_info("  %s %s: %.3e", i ? "          " : "worst layer", job->layers.layers[worst[i]].name,
                sq_store_report(job->store, worst[i])->error);
}

static void show_times(const struct sq_job *job, double seconds)
{
    char text[256] = "";
    size_t used = 0;
    for (int i = 0; i < SQ_N_STAGES; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s %.2f", i ? ", " : "", sq_stage_name(i),
                                 job->seconds[i]);
    sq_info("  time         %.2f s: %s", seconds, text);
}

static int64_t n_quantized_weights(const struct sq_job *job)
{
    int64_t n = 0;
    for (int i = 0; i < job->layers.n_layers; i++)
        n += job->layers.layers[i].out_features * job->layers.layers[i].in_features;
    return n;
}

/* Bits that the codes, scales and zero points take, per quantized weight. */
static double bits_per_weight(const struct sq_job *job)
{
    double bits = 0;
    for (int i = 0; i < job->layers.n_layers; i++) {
        const struct sq_store_layer *l = &job->layers.layers[i];
        int64_t groups = sq_grid_n_groups(&l->grid, l->in_features);
        bits +=
            (double)l->out_features * ((double)l->in_features * l->grid.bits + (double)groups * (16 + l->grid.bits));
    }
    return bits / (double)n_quantized_weights(job);
}

static int64_t source_bytes(const struct sq_job *job)
{
    int64_t bytes = 0;
    for (int64_t i = 0; i < sq_checkpoint_n_tensors(job->checkpoint); i++)
        bytes += (int64_t)sq_checkpoint_tensor(job->checkpoint, i)->bytes;
    return bytes;
}

/* The mean over all rows; 0 where no layer was refined. */
static double mean_rounds(const struct sq_job *job)
{
    double sum = 0, rows = 0;
    for (int i = 0; i < job->layers.n_layers; i++) {
        sum += sq_store_report(job->store, i)->rounds * (double)job->layers.layers[i].out_features;
        rows += (double)job->layers.layers[i].out_features;
    }
    return sum / rows;
}

static void show_rounds(const struct sq_job *job)
{
    double rounds = mean_rounds(job);
    if (rounds > 0) sq_info("  refinement   %.2f rounds in the mean, of %d at most", rounds, job->config->refine);
}

/* Experts whose layers are in the store. */
struct experts {
    int count, n_starved;
    int64_t fewest, most; /* tokens */
};

static struct experts count_experts(const struct sq_job *job)
{
    struct experts experts = {.fewest = INT64_MAX};
    for (int i = 0; i < job->layers.n_layers; i++) {
        const struct sq_layer_report *report = sq_store_report(job->store, i);
        if (!is_first_of_expert(job, i)) continue;
        experts.count++;
        experts.n_starved += (flags_of(job, i, report) & SQ_FLAG_STARVED) != 0;
        if (report->n_tokens < experts.fewest) experts.fewest = report->n_tokens;
        if (report->n_tokens > experts.most) experts.most = report->n_tokens;
    }
    return experts;
}

static void show_experts(const struct sq_job *job)
{
    struct experts experts = count_experts(job);
    if (experts.count > 0)
        sq_info("  experts      %d, calibrated with %lld to %lld tokens; %d with fewer than %lld", experts.count,
                (long long)experts.fewest, (long long)experts.most, experts.n_starved,
                (long long)job->config->expert_tokens);
}

/* --- the same as data: members of the event, each list behind a comma ------------------------------------------------
 */

#define MEMBERS_BYTES 4096

static void add_times(const struct sq_job *job, char members[MEMBERS_BYTES])
{
    for (int i = 0; i < SQ_N_STAGES; i++)
        sq_text_append(members, MEMBERS_BYTES, "%s\"%s\":%.4f", i ? "," : ",\"stages\":{", sq_stage_name(i),
                       job->seconds[i]);
    sq_text_append(members, MEMBERS_BYTES, "}");
}

static void add_experts(const struct sq_job *job, char members[MEMBERS_BYTES])
{
    struct experts experts = count_experts(job);
    if (experts.count > 0)
        sq_text_append(members, MEMBERS_BYTES,
                       ",\"experts\":{\"count\":%d,\"fewest_tokens\":%lld,\"most_tokens\":%lld,\"starved\":%d}",
                       experts.count, (long long)experts.fewest, (long long)experts.most, experts.n_starved);
}

static void add_worst(const struct sq_job *job, char members[MEMBERS_BYTES])
{
    int worst[N_WORST];
    int count = find_worst(job, worst);
    for (int i = 0; i < count; i++)
        sq_text_append(members, MEMBERS_BYTES, "%s{\"name\":\"%s\",\"error\":%.9g}", i ? "," : ",\"worst\":[",
                       job->layers.layers[worst[i]].name, sq_store_report(job->store, worst[i])->error);
    sq_text_append(members, MEMBERS_BYTES, "]");
}

/* Warnings of other ranks than this one. */
static int64_t count_elsewhere(const int64_t counts[SQ_N_WARNINGS])
{
    int64_t sum = -sq_log_n_warnings();
    for (int kind = 0; kind < SQ_N_WARNINGS; kind++)
        sum += counts[kind];
    return sum;
}

static void log_end(const struct sq_job *job, int64_t total_bytes, double seconds, int64_t n_warnings)
{
    char members[MEMBERS_BYTES] = "";
    add_times(job, members);
    add_experts(job, members);
    add_worst(job, members);
    sq_event("{\"event\":\"end\",\"seconds\":%.3f,\"warnings\":%lld,\"bytes_before\":%lld,\"bytes_after\":%lld,"
             "\"layers\":%d,\"flagged\":%d,\"weights\":%lld,\"bits_per_weight\":%.9g,\"rounds\":%.6g%s}",
             seconds, (long long)n_warnings, (long long)source_bytes(job), (long long)total_bytes, job->layers.n_layers,
             sq_progress_n_flagged(job, SQ_FLAG_ANY), (long long)n_quantized_weights(job), bits_per_weight(job),
             mean_rounds(job), members);
}

void sq_progress_summary(const struct sq_job *job, int64_t total_bytes, double seconds,
                         const int64_t counts[SQ_N_WARNINGS])
{
    char before[16], after[16];
    int64_t n_elsewhere = count_elsewhere(counts);
    if (job->world->rank != 0) return;
    sq_info("%d layers, %.1f million weights at %.3f bits each", job->layers.n_layers,
            1e-6 * (double)n_quantized_weights(job), bits_per_weight(job));
    if (total_bytes)
        sq_info("  size         %s -> %s (%.2f x smaller)", sq_size_format((double)source_bytes(job), before),
                sq_size_format((double)total_bytes, after), (double)source_bytes(job) / (double)total_bytes);
    show_experts(job);
    show_worst(job);
    show_rounds(job);
    show_times(job, seconds);
    log_end(job, total_bytes, seconds, n_elsewhere + sq_log_n_warnings()); /* which may warn itself */
    sq_info(
        "  warnings     %lld; layers with raised damping, dead inputs, scales at a limit, few tokens or no gain over "
        "rounding: "
        "%d of %d",
        (long long)(n_elsewhere + sq_log_n_warnings()), sq_progress_n_flagged(job, SQ_FLAG_ANY), job->layers.n_layers);
}
