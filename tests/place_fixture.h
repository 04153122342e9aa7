/* Where a job of a test's ranks would compute: on the backend of SHARDQ_TEST_BACKEND, of devices each rank on its own
 * and with NCCL between them where there are enough. */
#ifndef SQ_TESTS_PLACE_FIXTURE_H
#define SQ_TESTS_PLACE_FIXTURE_H

#include "backends.h"
#include "gptq/place.h"
#include "ranks.h"

static struct sq_place place;

static inline enum sq_status open_place(void)
{
    struct sq_config config;
    struct sq_backend *backend;
    assert_int_equal(backend_create(1, &backend), SQ_OK); /* or the test is skipped */
    backend->ops->destroy(backend);
    SQ_TRY(sq_config_set_defaults(&config));
    config.backend = backend_in_host_memory() ? SQ_BACKEND_CPU : SQ_BACKEND_CUDA;
    config.share_device = true;
    config.threads = 2;
    enum sq_status status = sq_place_open(&config, &ranks.comm, &place);
    sq_config_release(&config);
    return status;
}

/* ranks_main(), at the place. */
static int (*tests_at_place)(void);

static inline int run_at_place(void)
{
    if (open_place() != SQ_OK) return 1;
    int n_failed = tests_at_place();
    sq_place_close(&place);
    return n_failed;
}

static inline int place_main(int *argc, char ***argv, int (*run)(void))
{
    tests_at_place = run;
    return ranks_main(argc, argv, run_at_place);
}

#endif
