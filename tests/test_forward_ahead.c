/* Weights on their way ahead of the forward pass, when it does not go on as it began, or what is read are no numbers.
 * On the ranks and devices that a job would have. */
#define _GNU_SOURCE /* mkdtemp, memmem */
#include "ranks.h"

#include <math.h>

#include "model/forward_private.h"
#include "model_fixture.h"
#include "mpi/comm_memory.h"
#include "place_fixture.h"

/* --- what is on its way, which nobody may touch ------------------------------------------------------------------- */

static struct {
    struct sq_backend_ops ops;
    const struct sq_backend_ops *real;
    struct sq_comm_device device;    /* its functions, where there is one */
    const char *sent_from[SQ_LANES]; /* NULL: nothing is on its way */
    size_t room_bytes;
    struct {
        const char *buffers[SQ_STEP_MAX];
        size_t bytes[SQ_STEP_MAX];
        int count;
    } gathers[SQ_COMM_GATHERS];
} watched;

static void check_untouched(const char *memory, size_t bytes)
{
    for (int lane = 0; lane < SQ_COMM_GATHERS; lane++)
        for (int i = 0; i < watched.gathers[lane].count; i++) {
            const char *buffer = watched.gathers[lane].buffers[i];
            CHECK(memory + bytes <= buffer || buffer + watched.gathers[lane].bytes[i] <= memory);
        }
}

static enum sq_status watch_upload(struct sq_backend *backend, const void *host, size_t bytes, void *memory)
{
    check_untouched(memory, bytes);
    return watched.real->upload(backend, host, bytes, memory);
}

static enum sq_status watch_send(struct sq_backend *backend, int lane, const void *host, size_t bytes, void *memory)
{
    check_untouched(memory, bytes);
    CHECK(!watched.sent_from[lane]);
    watched.sent_from[lane] = host;
    return watched.real->send(backend, lane, host, bytes, memory);
}

static enum sq_status watch_sent(struct sq_backend *backend, int lane)
{
    watched.sent_from[lane] = NULL;
    return watched.real->sent(backend, lane);
}

/* A group's first weight is at the start of its area. */
static void watch_free(struct sq_backend *backend, void *memory)
{
    check_untouched(memory, 1);
    watched.real->free(backend, memory);
}

/* Rows are sent out of the memory that they were read to. */
static void watch_free_host(struct sq_backend *backend, void *memory)
{
    const char *room = memory;
    for (int lane = 0; lane < SQ_LANES && room; lane++)
        CHECK(watched.sent_from[lane] < room || watched.sent_from[lane] >= room + watched.room_bytes);
    watched.real->free_host(backend, memory);
}

static enum sq_status watch_start_gather(struct sq_comm_device *device, int lane, void *buffer, const size_t *offsets,
                                         const size_t *bytes)
{
    int last = place.comm.size - 1, i = watched.gathers[lane].count++;
    if (i >= SQ_STEP_MAX) abort();
    watched.gathers[lane].buffers[i] = buffer;
    watched.gathers[lane].bytes[i] = offsets[last] + bytes[last];
    return watched.device.start_gather(device, lane, buffer, offsets, bytes);
}

static enum sq_status watch_finish_gather(struct sq_comm_device *device, int lane)
{
    watched.gathers[lane].count = 0;
    return watched.device.finish_gather(device, lane);
}

static void watch(void)
{
    struct sq_comm_device *device = place.comm.device;
    watched.real = place.backend->ops;
    watched.ops = *place.backend->ops;
    watched.ops.upload = watch_upload;
    watched.ops.send = watch_send;
    watched.ops.sent = watch_sent;
    watched.ops.free = watch_free;
    watched.ops.free_host = watch_free_host;
    place.backend->ops = &watched.ops;
    if (!device) return; /* gathers are over when they have been started */
    watched.device = *device;
    device->start_gather = watch_start_gather;
    device->finish_gather = watch_finish_gather;
}

/* --- a pass ------------------------------------------------------------------------------------------------------- */

/* A forward pass over all samples on every rank. */
struct pass {
    struct opened opened;
    struct sq_forward *forward;
};

static enum sq_status embed(struct pass *p)
{
    return sq_forward_embed(p->forward, &place.comm, p->opened.golden.ids);
}

static void create_pass(struct pass *p)
{
    struct sq_forward_options options = {.compute = SQ_F32,
                                         .n_samples = p->opened.golden.n_samples,
                                         .length = p->opened.golden.length,
                                         .groups_ahead = SQ_FORWARD_AHEAD};
    if (sq_forward_create(place.backend, p->opened.model, &options, &p->forward) != SQ_OK) abort();
    watched.room_bytes = sq_weights_piece_bytes(p->opened.model);
}

/* Groups [0, end) of the first block. */
static enum sq_status run_groups(struct pass *p, int end)
{
    SQ_TRY(sq_forward_load_block(p->forward, &place.comm, 0));
    for (int group = 0; group < end; group++) {
        SQ_TRY(sq_forward_agree(p->forward, &place.comm, sq_forward_to_group(p->forward, group)));
        SQ_TRY(sq_forward_load_group(p->forward, &place.comm));
    }
    return SQ_OK;
}

/* Up to where the next group is being gathered, and the first rows of the one after it are on their way. */
static void stop_on_the_way(struct pass *p)
{
    const struct sq_forward_ahead *ahead = &p->forward->ahead;
    CHECK(embed(p) == SQ_OK && run_groups(p, 2) == SQ_OK);
    CHECK(ahead->count == 2 && ahead->queue[0].is_gathering && !ahead->queue[1].is_gathering);
    CHECK(sq_forward_ahead_step(p->forward) && ahead->queue[1].n_read == 1);
}

/* The residual streams behind the last block; released with free(). */
static float *final_states(struct pass *p)
{
    int64_t count = p->opened.golden.length * sq_model_hidden_size(p->opened.model);
    float *values = calloc((size_t)(p->opened.golden.n_samples * count), sizeof *values);
    CHECK(embed(p) == SQ_OK && sq_forward_run_blocks(p->forward, &place.comm, 0) == SQ_OK);
    for (int64_t s = 0; s < p->opened.golden.n_samples; s++)
        CHECK(sq_forward_get_hidden(p->forward, s, values + s * count) == SQ_OK);
    return values;
}

static void check_states(struct pass *p, const float *expected)
{
    float *values = final_states(p);
    int64_t rows = p->opened.golden.n_samples * p->opened.golden.length;
    CHECK(!memcmp(values, expected, (size_t)(rows * sq_model_hidden_size(p->opened.model)) * sizeof *values));
    free(values);
}

/* --- tests -------------------------------------------------------------------------------------------------------- */

/* A pass that begins anew, and one that is given up and followed by another. */
static void test_what_is_on_its_way_is_dropped(void **state)
{
    (void)state;
    struct pass p;
    open_model("smollm2", &p.opened);
    create_pass(&p);
    float *expected = final_states(&p);
    stop_on_the_way(&p);
    check_states(&p, expected);
    stop_on_the_way(&p);
    sq_forward_destroy(p.forward);
    create_pass(&p);
    check_states(&p, expected);
    sq_forward_destroy(p.forward);
    close_model(&p.opened);
    free(expected);
    ranks_end_test();
}

/* A file of a golden model, into the ranks' folder; a NaN comes where these data begin, unless NULL. */
static void copy_file(const struct golden *golden, const char *name, const void *data)
{
    const float no_number = NAN;
    char path[1024];
    long size = 0;
    golden_path(golden->name, name, path);
    unsigned char *bytes = ranks_read_file(path, &size);
    void *found = data ? memmem(bytes, (size_t)size, data, 64) : NULL; /* random: nothing else is like it */
    if (found) memcpy(found, &no_number, sizeof no_number);
    CHECK(!data == !found);
    folder_write(&ranks.folder, name, bytes, (size_t)size);
    free(bytes);
}

/* smollm2, with a NaN in a row of a weight. */
static void open_spoiled(const char *weight, int64_t row, struct opened *o)
{
    open_model("smollm2", o);
    const struct sq_tensor *tensor = sq_checkpoint_find(o->checkpoint, weight);
    if (!tensor || tensor->dtype != SQ_F32) abort();
    if (ranks.comm.rank == 0) copy_file(&o->golden, "config.json", NULL);
    if (ranks.comm.rank == 0)
        copy_file(&o->golden, "model.safetensors", (const float *)tensor->data + row * tensor->shape[1]);
    ranks_barrier();
    sq_model_close(o->model);
    sq_checkpoint_close(o->checkpoint);
    if (sq_checkpoint_open(ranks.folder.path, &o->checkpoint) != SQ_OK) abort();
    if (sq_model_open(o->checkpoint, &o->model) != SQ_OK) abort();
}

/* Every rank fails before the group's turn, and one says why; so does the next pass. is_beside: when all that is wanted
 * ahead was read beside the work; else not before it is wanted. */
static void check_spoiled(struct pass *p, bool is_beside)
{
    for (int attempt = 0; attempt < 2; attempt++) {
        CHECK(embed(p) == SQ_OK && run_groups(p, 2) == SQ_OK);
        while (is_beside && sq_forward_ahead_step(p->forward)) {
        }
        CHECK(sq_forward_to_group(p->forward, 2) == SQ_OK);
        ranks_listen();
        enum sq_status status = sq_forward_load_group(p->forward, &place.comm);
        EXPECT_ERROR(0, "tensor model.layers.0.mlp.down_proj.weight", "nan in row 47, column 0", ranks.folder.path);
        CHECK(status == SQ_ERR_NUMERIC);
    }
}

/* In the last rows, which the last rank reads, of the group after the next. */
static void test_numbers_that_are_none(void **state)
{
    (void)state;
    struct pass p;
    open_spoiled("model.layers.0.mlp.down_proj.weight", 47, &p.opened);
    for (int is_beside = 0; is_beside < 2; is_beside++) {
        create_pass(&p);
        check_spoiled(&p, is_beside);
        sq_forward_destroy(p.forward);
    }
    close_model(&p.opened);
    ranks_end_test();
}

static int run(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_on_its_way_is_dropped),
        cmocka_unit_test(test_numbers_that_are_none),
    };
    watch();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    return place_main(&argc, &argv, run);
}
