/* shardq verify: layer errors recomputed from the files. */
#include <stdio.h>

#include "command.h"
#include "config/options.h"
#include "gptq/verify.h"

struct listing {
    const struct sq_config *config;
    bool speaks;
    int count;
    double sum, largest;
};

static void show_layer(void *context, const char *layer, int64_t out_features, int64_t in_features, double error)
{
    struct listing *listing = context;
    listing->count++;
    listing->sum += error;
    if (error > listing->largest) listing->largest = error;
    if (!listing->speaks) return;
    if (listing->config->json)
        printf("{\"name\":\"%s\",\"out_features\":%lld,\"in_features\":%lld,\"error\":%.9g}\n", layer,
               (long long)out_features, (long long)in_features, error);
    else
        printf("%-44s %6lld x %-6lld error %.3e\n", layer, (long long)out_features, (long long)in_features, error);
}

static enum sq_status run(const struct sq_config *config, const struct sq_comm *world)
{
    struct listing listing = {.config = config, .speaks = world->rank == 0};
    SQ_TRY(sq_verify(config, world, show_layer, &listing));
    if (listing.speaks && !config->json)
        printf("%d quantized layers, mean error %.4e, largest %.4e\n", listing.count,
               listing.count ? listing.sum / listing.count : 0, listing.largest);
    return SQ_OK;
}

const struct sq_command sq_command_verify = {
    .name = "verify",
    .summary = "Recomputes the layer errors of a quantized checkpoint from the files.",
    .mask = SQ_COMMAND_VERIFY,
    .needs_mpi = true,
    .run = run,
};
