#include "model/slots.h"

/* Sets of slots as bits. */
typedef uint32_t slot_set;

/* An ADD reads and changes the residual stream, which is none of its slots. */
static slot_set residual_of(const struct sq_step *step)
{
    return step->kind == SQ_STEP_ADD ? (slot_set)1 << SQ_SLOT_RESIDUAL : 0;
}

static slot_set read_by(const struct sq_step *step)
{
    slot_set set = residual_of(step);
    if (step->kind == SQ_STEP_GATE_ROWS) set |= (slot_set)1 << step->out[0].slot;
    for (int i = 0; i < step->n_in; i++)
        set |= (slot_set)1 << step->in[i];
    return set;
}

static slot_set written_by(const struct sq_step *step)
{
    slot_set set = 0;
    for (int i = 0; i < step->n_out; i++)
        set |= (slot_set)1 << step->out[i].slot;
    return set;
}

struct liveness {
    slot_set used;
    slot_set persistent;          /* alive at some LINEAR or EXPERTS step */
    slot_set clashes[SQ_N_SLOTS]; /* by slot: those that may not share memory with it */
};

static void add_clashes(struct liveness *live, slot_set these, slot_set those)
{
    for (int i = 0; i < SQ_N_SLOTS; i++) {
        if (these >> i & 1u) live->clashes[i] |= those;
        if (those >> i & 1u) live->clashes[i] |= these;
    }
}

/* Backwards over a block: a slot is alive from where it is written to where it is last read; the residual stream
 * always. */
static void add_liveness(const struct sq_program *program, struct liveness *live)
{
    slot_set alive = 1u;
    for (int i = program->n_steps - 1; i >= 0; i--) {
        const struct sq_step *step = &program->steps[i];
        live->used |= written_by(step) | read_by(step);
        add_clashes(live, written_by(step), written_by(step) | read_by(step) | alive);
        alive = (alive & ~written_by(step)) | read_by(step) | 1u;
        if (step->kind == SQ_STEP_LINEAR || step->kind == SQ_STEP_EXPERTS) live->persistent |= alive;
        if (step->kind == SQ_STEP_EXPERTS) live->persistent |= written_by(step); /* every expert adds to it */
    }
}

static int64_t row_bytes(int64_t width, enum sq_dtype dtype)
{
    return sq_aligned(width * (int64_t)sq_dtype_size(dtype));
}

/* Whether two slots may not share an area. */
static bool is_apart(const struct sq_slot_place *a, const struct sq_slot_place *b, bool clash)
{
    return a->is_persistent == b->is_persistent && (clash || (a->is_persistent && a->stride != b->stride));
}

/* The first area of the slot's kind that it may share, or a new one. */
static void put(struct sq_slot_map *map, int slot, slot_set clashes)
{
    struct sq_slot_place *place = &map->places[slot];
    int64_t *strides = place->is_persistent ? map->persistent_stride : map->scratch_stride;
    int *n_areas = place->is_persistent ? &map->n_persistent : &map->n_scratch;
    slot_set taken = 0; /* areas */
    for (int other = 0; other < slot; other++)
        if (is_apart(place, &map->places[other], clashes >> other & 1u))
            taken |= (slot_set)1 << map->places[other].area;
    int area = 0;
    while (taken >> area & 1u)
        area++;
    if (area == *n_areas) strides[(*n_areas)++] = 0;
    if (strides[area] < place->stride) strides[area] = place->stride;
    place->area = area;
}

void sq_slot_map_make(const struct sq_program *programs, int n_programs, const struct sq_dimensions *dims,
                      enum sq_dtype compute, struct sq_slot_map *map)
{
    struct liveness live = {.used = 1u, .persistent = 1u};
    for (int i = 0; i < n_programs; i++)
        add_liveness(&programs[i], &live);
    *map = (struct sq_slot_map){.n_persistent = 0};
    for (enum sq_slot i = 0; i < SQ_N_SLOTS; i++) {
        if (!(live.used >> i & 1u)) continue;
        enum sq_dtype dtype = sq_slot_is_f32(i) ? SQ_F32 : compute;
        int64_t width = sq_slot_width(dims, i);
        map->places[i] = (struct sq_slot_place){.is_persistent = live.persistent >> i & 1u,
                                                .width = width,
                                                .stride = row_bytes(width, dtype),
                                                .dtype = dtype};
        /* the residual stream is alive everywhere, and dense: it is what the state file keeps */
        put(map, i, live.clashes[i] | 1u);
    }
    map->persistent_stride[0] = map->places[0].width * (int64_t)sizeof(float);
}

/* The areas of those slots that stay. */
static uint32_t areas_of(const struct sq_slot_map *map, slot_set slots)
{
    uint32_t areas = 0;
    for (int i = 0; i < SQ_N_SLOTS; i++)
        if ((slots >> i & 1u) && map->places[i].is_persistent) areas |= 1u << map->places[i].area;
    return areas;
}

struct sq_slot_traffic sq_slot_map_traffic(const struct sq_slot_map *map, const struct sq_step *steps, int first,
                                           int end, const enum sq_slot *checked, int n_checked)
{
    slot_set in = 0, out = 0;
    for (int i = 0; i < n_checked; i++)
        in |= (slot_set)1 << checked[i];
    for (int i = end - 1; i >= first; i--) {
        if (steps[i].kind == SQ_STEP_EXPERTS) continue;
        in = (in & ~written_by(&steps[i])) | read_by(&steps[i]);
        out |= written_by(&steps[i]) | residual_of(&steps[i]);
    }
    return (struct sq_slot_traffic){areas_of(map, in), areas_of(map, out)};
}

static int64_t total(const int64_t *strides, int count)
{
    int64_t bytes = 0;
    for (int i = 0; i < count; i++)
        bytes += strides[i];
    return bytes;
}

int64_t sq_slot_map_persistent_bytes(const struct sq_slot_map *map)
{
    return total(map->persistent_stride, map->n_persistent);
}

int64_t sq_slot_map_scratch_bytes(const struct sq_slot_map *map)
{
    return total(map->scratch_stride, map->n_scratch);
}
