/* shardq report: what happened in one run or in several, as a page to look at. */
#include "base/log.h"
#include "command.h"
#include "report/report.h"

static enum sq_status run(const struct sq_config *config, const struct sq_comm *world)
{
    SQ_TRY(sq_report_write(world, &config->inputs, config->out));
    sq_info("wrote %s", config->out);
    return SQ_OK;
}

const struct sq_command sq_command_report = {
    .name = "report",
    .summary = "Writes a page (HTML) of what happened: errors of all layers, warnings, sizes, times; several runs side "
               "by side.",
    .mask = SQ_COMMAND_REPORT,
    .needs_mpi = true,
    .run = run,
};
