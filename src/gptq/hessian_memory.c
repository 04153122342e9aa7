/* Memory of the Hessian: panels and slices, rooms for inputs. */
#include <string.h>

#include "base/memory.h"
#include "gptq/hessian_private.h"

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

struct sq_panels sq_panels_make(const struct sq_sizes *sizes, int64_t n, const struct sq_hessian_rooms *rooms)
{
    struct sq_panels panels = {*sizes, n};
    if (rooms->slice > sizes->hessian_slice) panels.sizes.hessian_slice = rooms->slice;
    return panels;
}

int64_t sq_panels_count(const struct sq_panels *panels)
{
    return (panels->n + panels->sizes.hessian_panel - 1) / panels->sizes.hessian_panel;
}

struct sq_panel sq_panels_at(const struct sq_panels *panels, int64_t p)
{
    int64_t rows = panels->sizes.hessian_panel;
    struct sq_panel panel = {.row = p * rows, .offset = rows * rows * (p * (p + 1) / 2)};
    panel.rows = smaller(panels->n - panel.row, rows);
    panel.columns = panel.row + panel.rows;
    return panel;
}

int64_t sq_panels_slice(const struct sq_panels *panels, int64_t first)
{
    int64_t end = first + 1, start = sq_panels_at(panels, first).offset;
    while (end < sq_panels_count(panels) && sq_panels_at(panels, end + 1).offset - start <= panels->sizes.hessian_slice)
        end++;
    return end - first;
}

/* Elements of the inputs that are packed at once. */
static int64_t packed_elements(const struct sq_sizes *sizes, int64_t n_max)
{
    int64_t one = sq_gram_elements(sizes->hessian_tokens, n_max);
    if (sizes->hessian_packed == 0) return 0;
    return one > sizes->hessian_packed ? one : sizes->hessian_packed;
}

/* Elements of all panels, each of them as high as the first. */
static int64_t all_elements(const struct sq_panels *panels)
{
    return sq_panels_at(panels, sq_panels_count(panels)).offset;
}

static int64_t widest_elements(const struct sq_panels *panels)
{
    return all_elements(panels) - sq_panels_at(panels, sq_panels_count(panels) - 1).offset;
}

/* Elements of the largest slice. */
static int64_t slice_elements(const struct sq_panels *panels)
{
    int64_t widest = widest_elements(panels), slice = panels->sizes.hessian_slice;
    return smaller(all_elements(panels), widest > slice ? widest : slice);
}

bool sq_panels_halve(struct sq_panels *panels)
{
    int64_t half = panels->sizes.hessian_slice / 2;
    if (all_elements(panels) <= panels->sizes.hessian_slice || widest_elements(panels) > half) return false;
    panels->sizes.hessian_slice = half;
    return true;
}

size_t sq_hessian_bytes(const struct sq_sizes *sizes, int64_t n_max, const struct sq_hessian_rooms *rooms)
{
    const struct sq_panels panels = sq_panels_make(sizes, n_max, rooms);
    return 20 * (size_t)n_max + 4 * (size_t)packed_elements(sizes, n_max) + 8 * (size_t)slice_elements(&panels) +
           (size_t)rooms->count * rooms->bytes;
}

size_t sq_hessian_host_bytes(int64_t n_max, int n_workers)
{
    return (size_t)n_max * (16 * (size_t)n_workers + 20);
}

size_t sq_hessian_room_bytes(const struct sq_sizes *sizes, int64_t n_samples, int64_t n_shards, int64_t length,
                             int64_t row_bytes)
{
    int64_t rows = (n_samples + n_shards - 1) / n_shards * length;
    return (size_t)(smaller(rows, sizes->hessian_tokens) * row_bytes);
}

static int64_t n_slices(const struct sq_sizes *sizes, int64_t n, const struct sq_hessian_rooms *rooms)
{
    const struct sq_panels panels = sq_panels_make(sizes, n, rooms);
    int64_t count = 0;
    for (int64_t first = 0; first < sq_panels_count(&panels); first += sq_panels_slice(&panels, first))
        count++;
    return count;
}

/* The smallest slice of which there are no more than with this one. */
static int64_t trim(const struct sq_sizes *sizes, int64_t n, struct sq_hessian_rooms rooms)
{
    int64_t count = n_slices(sizes, n, &rooms), low = 0;
    for (int64_t high = rooms.slice; low < high;) {
        rooms.slice = low + (high - low) / 2;
        if (n_slices(sizes, n, &rooms) <= count)
            high = rooms.slice;
        else
            low = rooms.slice + 1;
    }
    return low;
}

/* A second room hides either the products or one coming in of all inputs, whichever takes less time. That is worth one
 * slice more. */
struct sq_hessian_rooms sq_hessian_widen(const struct sq_sizes *sizes, int64_t n_max,
                                         const struct sq_hessian_rooms *least, int64_t bytes)
{
    const struct sq_hessian_rooms whole = {.slice = INT64_MAX};
    const struct sq_panels panels = sq_panels_make(sizes, n_max, least), all = sq_panels_make(sizes, n_max, &whole);
    struct sq_hessian_rooms one = *least, two = *least;
    one.slice = smaller(slice_elements(&all), slice_elements(&panels) + bytes / 8);
    int64_t rest = bytes - (int64_t)least->bytes;
    two.count = SQ_LANES;
    two.slice = smaller(slice_elements(&all), slice_elements(&panels) + rest / 8);
    if (rest < 0 || n_slices(sizes, n_max, &two) > n_slices(sizes, n_max, &one) + 1) two = one;
    two.slice = trim(sizes, n_max, two);
    return two;
}

static enum sq_status alloc_host(const char *what, int64_t count, size_t size, void *pointer_p)
{
    return sq_alloc(what, count, size, (void **)pointer_p);
}

enum sq_status sq_hessian_create(struct sq_backend *backend, int64_t n_max, const struct sq_hessian_rooms *rooms,
                                 struct sq_hessian_workspace *workspace_p)
{
    struct sq_hessian_workspace w = {.n_max = n_max,
                                     .n_workers = backend->n_workers,
                                     .packed_elements = packed_elements(&backend->sizes, n_max),
                                     .rooms = *rooms};
    const struct sq_panels panels = sq_panels_make(&backend->sizes, n_max, rooms);
    const char *what = "the Hessian's workspace";
    enum sq_status status = alloc_host(what, n_max * w.n_workers, sizeof *w.squares, &w.squares);
    if (status == SQ_OK) status = alloc_host(what, n_max * w.n_workers, sizeof *w.exponents, &w.exponents);
    if (status == SQ_OK) status = alloc_host(what, 5 * n_max, sizeof *w.scales, &w.scales);
    if (status == SQ_OK) status = backend->ops->alloc(backend, what, 20 * (size_t)n_max, (void **)&w.scale_up);
    if (status == SQ_OK && w.packed_elements > 0)
        status = backend->ops->alloc(backend, what, (size_t)w.packed_elements * sizeof *w.packed, (void **)&w.packed);
    if (status == SQ_OK)
        status = backend->ops->alloc(backend, what, (size_t)slice_elements(&panels) * sizeof *w.sums, (void **)&w.sums);
    for (int i = 0; i < rooms->count && status == SQ_OK; i++)
        status = backend->ops->alloc(backend, what, rooms->bytes, (void **)&w.room[i]);
    if (status != SQ_OK) {
        sq_hessian_destroy(backend, &w);
        return status;
    }
    w.scale_mean = w.scale_up + n_max;
    w.scale_down = (float *)(w.scale_mean + n_max);
    *workspace_p = w;
    return SQ_OK;
}

void sq_hessian_destroy(struct sq_backend *backend, struct sq_hessian_workspace *workspace)
{
    sq_free(workspace->squares);
    sq_free(workspace->exponents);
    sq_free(workspace->scales);
    backend->ops->free(backend, workspace->scale_up);
    backend->ops->free(backend, workspace->packed);
    backend->ops->free(backend, workspace->sums);
    for (int i = 0; i < workspace->rooms.count; i++)
        backend->ops->free(backend, workspace->room[i]);
    memset(workspace, 0, sizeof *workspace);
}
