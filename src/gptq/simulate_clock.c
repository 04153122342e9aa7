/* What a stage of a simulated run took: operations, what ranks sent, files. */
#include <math.h>

#include "gptq/simulate_private.h"

/* Steps of a tree over so many ranks. */
static double tree_steps(int n_ranks)
{
    return ceil(log2((double)n_ranks));
}

/* Even shares from each rank to each other one. What leaves a node goes over the network that its ranks have together:
 * a ring crosses it once, these do all at the same time. */
static double exchanged_seconds(const struct sq_machine *machine, int n_ranks, double bytes)
{
    int on_node = machine->ranks_per_node;
    double away = n_ranks > on_node ? bytes * (n_ranks - on_node) / (n_ranks - 1) : 0;
    double seconds = (bytes - away) / machine->link.bytes_per_second;
    return away > 0 ? seconds + away * on_node / machine->network.bytes_per_second : seconds;
}

/* A ring or a tree of the ranks; the slowest link that is on the way decides. */
static double collective_seconds(const struct sq_machine *machine, enum sq_traffic_kind kind, int n_ranks, double calls,
                                 double bytes)
{
    bool is_wide = n_ranks > machine->ranks_per_node,
         is_host = kind == SQ_TRAFFIC_GATHER || kind == SQ_TRAFFIC_BROADCAST || kind == SQ_TRAFFIC_SHIFT;
    const struct sq_link *near = is_host ? &machine->host_link : &machine->link;
    const struct sq_link *far = is_host ? &machine->host_network : &machine->network;
    double rate = near->bytes_per_second, latency = near->seconds;
    if (n_ranks < 2 || calls <= 0 || rate <= 0) return 0; /* a link that is not known takes no time */
    if (is_wide && far->bytes_per_second < rate) rate = far->bytes_per_second;
    if (is_wide && far->seconds > latency) latency = far->seconds;
    double passes = kind == SQ_TRAFFIC_SUM ? 2 : 1, share = (double)(n_ranks - 1) / n_ranks;
    if (kind == SQ_TRAFFIC_SHIFT) return calls * latency + bytes / rate;
    if (kind == SQ_TRAFFIC_EXCHANGE)
        return calls * (n_ranks - 1) * latency + exchanged_seconds(machine, n_ranks, bytes);
    if (kind == SQ_TRAFFIC_AGREE) passes = 2; /* up the tree and down */
    return calls * passes * latency * tree_steps(n_ranks) + passes * share * bytes / rate;
}

static double seconds_of_one(const struct sq_dry_links *base, enum sq_traffic_kind kind, double bytes)
{
    const struct sq_machine_links *links = (const struct sq_machine_links *)base;
    return collective_seconds(links->machine, kind, links->n_ranks, 1, bytes);
}

struct sq_machine_links sq_machine_links(const struct sq_machine *machine, int n_ranks)
{
    return (struct sq_machine_links){.base = {seconds_of_one}, .machine = machine, .n_ranks = n_ranks};
}

double sq_dry_link_seconds(const struct sq_machine_links *links, const struct sq_traffic *before,
                           const struct sq_traffic *traffic)
{
    double seconds = before->seconds_beside - traffic->seconds_beside;
    for (int k = 0; k < SQ_N_TRAFFIC; k++)
        seconds += collective_seconds(links->machine, (enum sq_traffic_kind)k, links->n_ranks,
                                      (double)(traffic->calls[k] - before->calls[k]),
                                      (double)(traffic->bytes[k] - before->bytes[k]));
    return seconds;
}

void sq_dry_run_clock(struct sq_dry_run *run, enum sq_stage stage)
{
    double now = sq_dry_seconds(run->backend);
    double *seconds = run->result.seconds[stage];
    seconds[SQ_LIMIT_COMPUTE] += now - run->since;
    run->since = now;
    seconds[SQ_LIMIT_LINK] += sq_dry_link_seconds(&run->links, &run->traffic, &run->result.traffic);
    run->traffic = run->result.traffic;
}

void sq_dry_run_begin_teams(struct sq_dry_run *run, int count)
{
    run->n_at_once = count;
    run->links.n_ranks = run->team.size;
}

void sq_dry_run_end_teams(struct sq_dry_run *run)
{
    run->n_at_once = 1;
    run->links.n_ranks = run->world.size;
}

static double file_rate(double of_node, double of_all, int n_nodes)
{
    double rate = of_node * n_nodes;
    return of_all > 0 && of_all < rate ? of_all : rate;
}

void sq_dry_run_files(struct sq_dry_run *run, enum sq_stage stage, double read_bytes, double written_bytes)
{
    const struct sq_machine *m = run->machine;
    int n_nodes = (run->world.size + m->ranks_per_node - 1) / m->ranks_per_node;
    run->result.seconds[stage][SQ_LIMIT_FILE] +=
        run->n_at_once * read_bytes / file_rate(m->node_read, m->all_read, n_nodes) +
        run->n_at_once * written_bytes / file_rate(m->node_write, m->all_write, n_nodes);
}
