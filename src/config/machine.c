#include "config/machine.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "config/text.h"
#include "config/yaml_document.h"

enum value { NAME, BACKEND, COUNT, NUMBER, SIZE, RATE, LINK };

#define MOST 1e18 /* bytes: an int64_t holds them */

/* Who has to give a key. */
enum need { ALWAYS, DEVICE, NEVER };

struct key {
    const char *name; /* NULL: that of the work */
    enum value value;
    enum need need;
    size_t offset;
};

#define FIELD(field) offsetof(struct sq_machine, field)
#define WORK(work) (offsetof(struct sq_machine, rates.of) + (work) * sizeof(struct sq_rate))

/* clang-format off */
static const struct key keys[] = {
    {"name", NAME, ALWAYS, FIELD(name)},
    {"backend", BACKEND, ALWAYS, FIELD(backend)},
    {"ranks_per_node", COUNT, ALWAYS, FIELD(ranks_per_node)},
    {"threads", COUNT, ALWAYS, FIELD(threads)},
    {"node_memory", SIZE, ALWAYS, FIELD(node_memory)},
    {"device_memory", SIZE, DEVICE, FIELD(device_memory)},
    {"bf16_product", RATE, NEVER, WORK(SQ_WORK_BF16)},
    {"f32_product", RATE, ALWAYS, WORK(SQ_WORK_F32)},
    {"attention", RATE, ALWAYS, WORK(SQ_WORK_ATTENTION)},
    {"bf16_gram", RATE, NEVER, WORK(SQ_WORK_GRAM_BF16)},
    {"f32_gram", RATE, ALWAYS, WORK(SQ_WORK_GRAM_F32)},
    {"factor", RATE, ALWAYS, WORK(SQ_WORK_FACTOR)},
    {"tile_product", RATE, ALWAYS, WORK(SQ_WORK_TILE)},
    {"descent", RATE, ALWAYS, WORK(SQ_WORK_DESCENT)},
    {"search", RATE, ALWAYS, WORK(SQ_WORK_SEARCH)},
    {"quantize", RATE, ALWAYS, WORK(SQ_WORK_QUANTIZE)},
    {"cells", RATE, ALWAYS, WORK(SQ_WORK_CELLS)},
    {"math", RATE, ALWAYS, WORK(SQ_WORK_MATH)},
    {"turn", RATE, ALWAYS, WORK(SQ_WORK_TURN)},
    {"stream", RATE, ALWAYS, WORK(SQ_WORK_STREAM)},
    {"copy", RATE, DEVICE, WORK(SQ_WORK_COPY)},
    {"read_weights", RATE, ALWAYS, WORK(SQ_WORK_READ)},
    {"pack_weights", RATE, ALWAYS, WORK(SQ_WORK_PACK)},
    {"operation_seconds", NUMBER, ALWAYS, FIELD(rates.operation_seconds)},
    {"parallel_seconds", NUMBER, ALWAYS, FIELD(rates.parallel_seconds)},
    {"link", LINK, NEVER, FIELD(link)},
    {"network", LINK, NEVER, FIELD(network)},
    {"host_link", LINK, NEVER, FIELD(host_link)},
    {"host_network", LINK, NEVER, FIELD(host_network)},
    {"node_read", SIZE, ALWAYS, FIELD(node_read)},
    {"node_write", SIZE, ALWAYS, FIELD(node_write)},
    {"all_read", NUMBER, NEVER, FIELD(all_read)},
    {"all_write", NUMBER, NEVER, FIELD(all_write)},
};
/* clang-format on */
#define N_KEYS ((int)(sizeof keys / sizeof *keys))

struct reader {
    const char *path;
    yaml_document_t *document;
    struct sq_machine *machine;
    bool is_given[N_KEYS];
};

/* --- values ------------------------------------------------------------------------------------------------------- */

static enum sq_status refuse(const struct reader *reader, const yaml_node_t *node, const char *key, const char *wanted)
{
    sq_error("%s:%zu: %s must be %s", reader->path, node->start_mark.line + 1, key, wanted);
    return SQ_ERR_USAGE;
}

static const char *text_of(const yaml_node_t *node)
{
    return node->type == YAML_SCALAR_NODE ? (const char *)node->data.scalar.value : "";
}

/* A finite number of at least `least`. */
static bool read_number(const yaml_node_t *node, double least, double *number_p)
{
    const char *text = text_of(node);
    char *end;
    double number = strtod(text, &end);
    if (!*text || *end || !isfinite(number) || number < least) return false;
    *number_p = number;
    return true;
}

/* [a, b], or a alone: b is 0. */
static bool read_pair(const struct reader *reader, const yaml_node_t *node, double pair[2])
{
    const double tiny = 1e-30;
    pair[1] = 0;
    if (node->type != YAML_SEQUENCE_NODE) return read_number(node, tiny, &pair[0]);
    const int *items = node->data.sequence.items.start;
    if (node->data.sequence.items.top - items != 2) return false;
    return read_number(yaml_document_get_node(reader->document, items[0]), tiny, &pair[0]) &&
           read_number(yaml_document_get_node(reader->document, items[1]), 0, &pair[1]);
}

static enum sq_status read_name(const struct reader *reader, const yaml_node_t *node, char *name)
{
    const char *text = text_of(node);
    if (!*text || strlen(text) >= sizeof reader->machine->name || strpbrk(text, "\"\\\n"))
        return refuse(reader, node, "name", "a short text without quotes");
    strcpy(name, text);
    return SQ_OK;
}

static const char *backend_name(enum sq_backend_choice backend)
{
    return backend == SQ_BACKEND_CPU ? "cpu" : "cuda";
}

static enum sq_status read_backend(const struct reader *reader, const yaml_node_t *node, enum sq_backend_choice *field)
{
    const char *text = text_of(node);
    bool is_cpu = !strcmp(text, "cpu");
    if (!is_cpu && strcmp(text, "cuda") != 0) return refuse(reader, node, "backend", "cpu or cuda");
    *field = is_cpu ? SQ_BACKEND_CPU : SQ_BACKEND_CUDA;
    return SQ_OK;
}

static enum sq_status read_value(const struct reader *reader, const struct key *key, const yaml_node_t *node)
{
    void *field = (char *)reader->machine + key->offset;
    double number = 0, pair[2];
    switch (key->value) {
    case NAME:
        return read_name(reader, node, field);
    case BACKEND:
        return read_backend(reader, node, field);
    case COUNT:
        if (!read_number(node, 1, &number) || number > 1e6 || number != floor(number))
            return refuse(reader, node, key->name, "a whole number from 1 on");
        *(int *)field = (int)number;
        return SQ_OK;
    case NUMBER:
        if (!read_number(node, 0, (double *)field))
            return refuse(reader, node, key->name, "a number that is not negative");
        return SQ_OK;
    case SIZE:
        if (!read_number(node, 1, (double *)field) || *(const double *)field > MOST)
            return refuse(reader, node, key->name, "a number of bytes from 1 to 1e18");
        return SQ_OK;
    case RATE:
    case LINK:
        break;
    }
    if (!read_pair(reader, node, pair))
        return refuse(reader, node, key->name,
                      key->value == LINK ? "[bytes a second, seconds]" : "a rate above zero, or [rate, half]");
    memcpy(field, pair, sizeof pair); /* both structs are two doubles */
    return SQ_OK;
}
_Static_assert(sizeof(struct sq_rate) == 2 * sizeof(double) && sizeof(struct sq_link) == 2 * sizeof(double), "pairs");

/* --- the file ----------------------------------------------------------------------------------------------------- */

static enum sq_status read_line(struct reader *reader, const yaml_node_pair_t *pair)
{
    const yaml_node_t *node = yaml_document_get_node(reader->document, pair->key);
    const char *name = text_of(node);
    int k = 0;
    while (k < N_KEYS && strcmp(keys[k].name, name) != 0)
        k++;
    if (k == N_KEYS) {
        char hint[96];
        struct sq_nearest nearest = {.word = name};
        for (int i = 0; i < N_KEYS; i++)
            sq_nearest_try(&nearest, keys[i].name);
        sq_error("%s:%zu: unknown key %s%s", reader->path, node->start_mark.line + 1, name,
                 sq_nearest_hint(&nearest, hint));
        return SQ_ERR_USAGE;
    }
    if (reader->is_given[k]) {
        sq_error("%s:%zu: key %s is given twice", reader->path, node->start_mark.line + 1, name);
        return SQ_ERR_USAGE;
    }
    reader->is_given[k] = true;
    return read_value(reader, &keys[k], yaml_document_get_node(reader->document, pair->value));
}

static enum sq_status check_needs(const struct reader *reader)
{
    bool has_device = reader->machine->backend == SQ_BACKEND_CUDA;
    for (int k = 0; k < N_KEYS; k++) {
        bool is_needed = keys[k].need == ALWAYS || (keys[k].need == DEVICE && has_device);
        if (!is_needed || reader->is_given[k]) continue;
        sq_error("%s: key %s is missing", reader->path, keys[k].name);
        return SQ_ERR_USAGE;
    }
    return SQ_OK;
}

static void set_unless_known(struct sq_link *link, const struct sq_link *like)
{
    if (link->bytes_per_second == 0) *link = *like;
}

/* What is as something else where the file does not say it. Nodes of one rank each have a network alone. */
static void settle(struct sq_machine *machine)
{
    if (machine->backend == SQ_BACKEND_CPU) machine->rates.of[SQ_WORK_COPY] = machine->rates.of[SQ_WORK_STREAM];
    set_unless_known(&machine->network, &machine->link);
    set_unless_known(&machine->link, &machine->network);
    set_unless_known(&machine->host_link, &machine->link);
    set_unless_known(&machine->host_network, &machine->network);
    if (machine->rates.of[SQ_WORK_GRAM_BF16].per_second == 0) machine->rates.of[SQ_WORK_BF16].per_second = 0;
}

static enum sq_status apply(void *context, yaml_document_t *document, const yaml_node_t *root)
{
    struct reader *reader = context;
    reader->document = document;
    if (root->type != YAML_MAPPING_NODE) return refuse(reader, root, "the file", "`key: value` lines");
    for (const yaml_node_pair_t *pair = root->data.mapping.pairs.start; pair < root->data.mapping.pairs.top; pair++)
        SQ_TRY(read_line(reader, pair));
    return SQ_OK;
}

enum sq_status sq_machine_read(const char *path, struct sq_machine *machine_p)
{
    struct sq_machine machine = {.backend = SQ_BACKEND_CPU};
    struct reader reader = {.path = path, .machine = &machine};
    SQ_TRY(sq_yaml_with_file("machine description", path, apply, &reader));
    SQ_TRY(check_needs(&reader));
    settle(&machine);
    *machine_p = machine;
    return SQ_OK;
}

enum sq_status sq_machine_read_for(enum sq_backend_choice backend, const char *path, struct sq_machine *machine_p)
{
    SQ_TRY(sq_machine_read(path, machine_p));
    if (backend == SQ_BACKEND_AUTO || backend == machine_p->backend) return SQ_OK;
    sq_error("--machine %s: it describes a machine for backend %s, not %s", path, backend_name(machine_p->backend),
             backend_name(backend));
    return SQ_ERR_USAGE;
}

void sq_machine_write(const struct sq_machine *machine, FILE *file)
{
    for (int k = 0; k < N_KEYS; k++) {
        const void *field = (const char *)machine + keys[k].offset;
        const double *pair = field;
        if (keys[k].need == DEVICE && machine->backend != SQ_BACKEND_CUDA) continue;
        switch (keys[k].value) {
        case NAME:
            fprintf(file, "%s: \"%s\"\n", keys[k].name, (const char *)field);
            break;
        case BACKEND:
            fprintf(file, "%s: %s\n", keys[k].name, backend_name(machine->backend));
            break;
        case COUNT:
            fprintf(file, "%s: %d\n", keys[k].name, *(const int *)field);
            break;
        case NUMBER:
        case SIZE:
            if (keys[k].need != NEVER || *pair > 0) fprintf(file, "%s: %.4g\n", keys[k].name, *pair);
            break;
        case RATE:
        case LINK:
            if (pair[0] > 0) fprintf(file, "%s: [%.4g, %.4g]\n", keys[k].name, pair[0], pair[1]);
            break;
        }
    }
}
