/* The report: what goes into the page, that it is safe there, and what is refused. */
#define _POSIX_C_SOURCE 200809L
#include <sys/stat.h>

#include "config/config.h"
#include "io/job_record.h"
#include "io/json.h"
#include "report/report.h"
#include "report/report_private.h"
#include "store_fixture.h"

static enum sq_status report(const char *out, int count, char *const *paths)
{
    const struct sq_string_list inputs = {.items = (char **)paths, .count = count};
    return sq_report_write(&ranks.comm, &inputs, out);
}

/* The object in the page, which is everything between its element's tags. Rank 0. */
static json_t *data_of(const char *page)
{
    static const char begin[] = "<script type=\"application/json\" id=\"data\">\n";
    long size = 0;
    json_t *data = NULL;
    char *text = (char *)ranks_read_file(page, &size);
    if (!CHECK(text != NULL)) return NULL;
    text[size] = '\0';
    char *start = strstr(text, begin), *end = start ? strstr(start, "\n</script>") : NULL;
    if (CHECK(end != NULL)) {
        start += sizeof begin - 1;
        CHECK(sq_json_parse(start, (size_t)(end - start), page, &data) == SQ_OK);
    }
    free(text);
    return data;
}

static const json_t *cell(const json_t *run, const char *column, size_t row)
{
    const json_t *columns = json_object_get(run, "columns");
    for (size_t i = 0; i < json_array_size(columns); i++)
        if (!strcmp(json_string_value(json_array_get(columns, i)), column))
            return json_array_get(json_array_get(json_object_get(run, "rows"), row), i);
    return NULL;
}

static int64_t sum_of(const json_t *list)
{
    int64_t sum = 0;
    for (size_t i = 0; i < json_array_size(list); i++)
        sum += json_integer_value(json_array_get(list, i));
    return sum;
}

static void write_text(const char *name, const char *text, char path[1024])
{
    ranks_file(name, path);
    if (ranks.comm.rank == 0) folder_write_text(&ranks.folder, name, text);
    ranks_barrier();
}

/* --- what is in it ------------------------------------------------------------------------------------------------ */

static void check_histograms(const json_t *run)
{
    const json_t *list = json_object_get(run, "histograms"), *worst = json_array_get(list, 0);
    CHECK(json_array_size(list) == SQ_REPORT_WORST);
    CHECK(json_integer_value(json_object_get(worst, "layer")) == N_LAYERS - 1); /* the fixture's errors grow */
    const int64_t weights = layers[N_LAYERS - 1].out_features * layers[N_LAYERS - 1].in_features;
    CHECK(sum_of(json_object_get(worst, "codes")) == weights);
    CHECK(sum_of(json_object_get(worst, "quantized")) == weights);
    CHECK(json_array_size(json_object_get(worst, "codes")) == 16);
    CHECK(json_is_null(json_object_get(worst, "original"))); /* the model is not there */
}

static void test_store(void **state)
{
    (void)state;
    char store[1024], page[1024];
    make_full(&ranks.comm, ranks_file("full.h5", store));
    CHECK(report(ranks_file("page.html", page), 1, (char *[]){store}) == SQ_OK);
    ranks_barrier();
    if (ranks.comm.rank == 0) {
        json_t *data = data_of(page);
        const json_t *run = json_array_get(json_object_get(data, "runs"), 0);
        CHECK(json_array_size(json_object_get(run, "rows")) == N_LAYERS);
        for (size_t l = 0; l < N_LAYERS; l++) {
            const struct sq_layer_report wanted = fixture_report((int)l);
            CHECK(!strcmp(json_string_value(cell(run, "name", l)), layers[l].name));
            CHECK(json_number_value(cell(run, "error", l)) == wanted.error);
            CHECK(json_integer_value(cell(run, "dead_inputs", l)) == wanted.n_dead);
        }
        CHECK(json_integer_value(cell(run, "flags", 0)) == 2);           /* diagonal only */
        CHECK(json_integer_value(cell(run, "flags", 2)) == (1 | 4 | 8)); /* raised, dead, limited */
        CHECK(json_integer_value(json_object_get(json_object_get(run, "config"), "bits")) == 4);
        check_histograms(run);
        json_decref(data);
    }
    remove_file("page.html");
    end_test();
}

/* Names that end the script, or begin a comment in it, must not. */
static void test_hostile_names(void **state)
{
    (void)state;
    char *text = NULL;
    size_t bytes = 0;
    FILE *file = open_memstream(&text, &bytes);
    json_t *data = json_pack("{s:s, s:s}", "a", "</script><script>alert(1)</script>", "<!--", "\xe2\x80\xa8<");
    json_t *again = NULL;
    CHECK(sq_report_write_json(data, file));
    fclose(file);
    CHECK(!strchr(text, '<'));
    CHECK(sq_json_parse(text, bytes, "it", &again) == SQ_OK && json_equal(again, data));
    json_decref(again);
    json_decref(data);
    free(text);
    end_test();
}

/* What a token file says of its sources may be in any encoding. */
static void test_foreign_names(void **state)
{
    (void)state;
    json_t *pairs = sq_job_record_pairs("seed: 0\nsources: caf\xe9.txt\n");
    const char *sources = json_string_value(json_object_get(pairs, "sources"));
    CHECK(sources && !strcmp(sources, "caf?.txt") && json_object_size(pairs) == 2);
    json_decref(pairs);
    end_test();
}

/* Of a block with too many spans the longest are shown, those of all ranks; the rest is counted. */
static void test_long_block(void **state)
{
    (void)state;
    struct sq_report_events events = {0};
    json_t *trace = json_pack("{s:{s:i, s:[{}, {}]}}", "otherData", "seconds", 9, "ranks"), *small = NULL;
    for (int i = 0; i < 5000; i++) {
        json_t *event = json_pack("{s:s, s:i, s:s, s:s, s:i, s:i, s:{s:i}}", "ph", "X", "pid", i / 2500 + 1, "cat",
                                  i % 2 ? "collectives" : "stages", "name", i % 2 ? "sum" : "solve", "ts", 100 * i,
                                  "dur", i % 2500, "args", "block", 0);
        CHECK(sq_report_events_add(&events, event) == SQ_OK);
        json_decref(event);
    }
    CHECK(events.n_spans == 5000 && sq_report_trace("trace", trace, &events, &small) == SQ_OK);
    const json_t *spans = json_object_get(small, "spans"), *last = json_array_get(spans, 1199);
    CHECK(json_array_size(spans) == 1200 && json_integer_value(json_object_get(small, "left_out")) == 3800);
    CHECK(json_integer_value(json_array_get(last, 0)) == 1);
    CHECK(json_number_value(json_array_get(json_array_get(spans, 0), 4)) >= 1e-6 * 1900);
    json_decref(small);
    json_decref(trace);
    sq_report_events_free(&events);
    end_test();
}

/* Rank 1 of two computes half of the time, in the second half: its first slices are empty, its last are full. */
static void test_trace(void **state)
{
    (void)state;
    static const char text[] =
        "{\"traceEvents\": [{\"ph\": \"M\", \"pid\": 1, \"name\": \"process_name\", \"args\": {\"name\": \"x\"}},"
        "{\"ph\":\"X\",\"pid\":1,\"cat\":\"stages\",\"name\":\"forward\",\"ts\":0,\"dur\":4e6,\"args\":{\"block\":0,"
        "\"bytes\":7}"
        "},"
        "{\"ph\":\"X\",\"pid\":2,\"cat\":\"stages\",\"name\":\"solve\",\"ts\":2e6,\"dur\":2e6,\"args\":{\"block\":0,"
        "\"bytes\":0}"
        "},"
        "{\"ph\":\"X\",\"pid\":2,\"cat\":\"collectives\",\"name\":\"agree\",\"ts\":3e6,\"dur\":1e6,\"args\":{\"block\":"
        "0,\"bytes\":4}"
        "},"
        "{\"ph\":\"X\",\"pid\":2,\"cat\":\"stages\",\"name\":\"solve\",\"ts\":1e30,\"dur\":1,\"args\":{\"block\":1,"
        "\"bytes\":0}}"
        "," /* beyond the end */
        "{\"ph\":\"C\",\"pid\":2,\"name\":\"memory\",\"ts\":3e6,\"args\":{\"bytes\":99}}],"
        "\"otherData\": {\"seconds\": 4, \"ranks\": [{\"rank\": 0, \"sums\": []}, {\"rank\": 1, \"sums\": []}]}}\n";
    char path[1024];
    json_t *trace = NULL, *small = NULL;
    struct sq_report_events events = {0};
    write_text("run.json", text, path);
    CHECK(sq_json_read_list(path, "traceEvents", sq_report_events_add, &events, &trace) == SQ_OK);
    CHECK(json_object_size(trace) == 2 && json_array_size(json_object_get(trace, "traceEvents")) == 0);
    CHECK(sq_report_trace("trace", trace, &events, &small) == SQ_OK);
    const json_t *last = json_array_get(json_object_get(small, "ranks"), 1), *shares = json_object_get(last, "shares");
    const json_t *solve = json_array_get(shares, 1);
    CHECK(json_array_size(json_object_get(small, "stages")) == 2 && json_array_size(shares) == 2);
    CHECK(json_integer_value(json_array_get(solve, 0)) == 0 && json_integer_value(json_array_get(solve, 159)) == 100);
    CHECK(sum_of(solve) == 100 * 80 && sum_of(json_array_get(shares, 0)) == 0);
    CHECK(json_array_size(json_object_get(small, "spans")) == 3);
    CHECK(json_array_size(json_object_get(last, "memory")) == 1);
    json_decref(small);
    json_object_del(trace, "otherData");
    ranks_listen();
    CHECK(sq_report_trace("run.json", trace, &events, &small) == SQ_ERR_INPUT);
    EXPECT_ERROR(ranks.comm.rank, "run.json: a trace without stages, or without otherData.ranks");
    json_decref(trace);
    sq_report_events_free(&events);
    end_test();
}

/* --- what is refused ---------------------------------------------------------------------------------------------- */

static void refused(enum sq_status status, const char *out, int count, char *const *paths, const char *part)
{
    char page[1024];
    ranks_listen();
    CHECK(report(ranks_file(out, page), count, paths) == status);
    EXPECT_ERROR(0, part);
    CHECK(!exists(page, "") && !exists(page, ".tmp"));
    ranks_barrier();
}

static void test_refused(void **state)
{
    (void)state;
    char store[1024], text[1024], json[1024], evaluation[1024], absent[1024];
    ranks_file("full.h5", store);
    write_text("notes.txt", "what I did\n", text);
    write_text("other.json", "{\"a\": 1}\n", json);
    write_text("eval.json", "{\"perplexity\": 12.5}\n", evaluation);
    refused(SQ_ERR_INPUT, "page.html", 1, (char *[]){text}, "notes.txt");
    refused(SQ_ERR_INPUT, "page.html", 1, (char *[]){(char *)ranks_file("absent", absent)}, "absent");
    refused(SQ_ERR_INPUT, "page.html", 1, (char *[]){ranks.folder.path}, "has no shardq.json");
    refused(SQ_ERR_INPUT, "page.html", 2, (char *[]){store, json}, "neither a trace of quantize nor a result of eval");
    refused(SQ_ERR_USAGE, "page.html", 2, (char *[]){evaluation, store},
            "a store or a checkpoint must stand before it");
    refused(SQ_ERR_IO, "no/page.html", 1, (char *[]){store}, "cannot open report");
    end_test();
}

/* An earlier page is written over, and an empty file; nothing else. */
static void test_written_over(void **state)
{
    (void)state;
    char store[1024], page[1024], notes[1024];
    ranks_file("full.h5", store);
    for (int i = 0; i < 2; i++)
        CHECK(report(ranks_file("page.html", page), 1, (char *[]){store}) == SQ_OK);
    write_text("page.html", "", page);
    CHECK(report(page, 1, (char *[]){store}) == SQ_OK);
    write_text("notes", "what I did\n", notes);
    ranks_listen();
    CHECK(report(notes, 1, (char *[]){store}) == SQ_ERR_USAGE);
    EXPECT_ERROR(0, "exists and is no report: it is not written over");
    if (ranks.comm.rank == 0) {
        long size = 0;
        char *text = (char *)ranks_read_file(notes, &size);
        CHECK(text && size == 11 && !memcmp(text, "what I did\n", 11));
        free(text);
    }
    remove_file("page.html");
    end_test();
}

/* A long list is read element by element; what is wrong is named with its line. */
static enum sq_status count_element(void *context, const json_t *element)
{
    *(int *)context += (int)json_integer_value(element);
    return SQ_OK;
}

static void test_lists(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"[1]", "line 1: expected an object"},
        {"{\"a\": 1,\n \"list\": 1}", "line 2: expected a list"},
        {"{\"list\": [1,\n2,\n]}", "line 3, column"},
        {"{\"list\": [1 2]}", "line 1: expected \",\" or \"]\""},
        {"{\"list\": [1", "line 1: expected \",\" or \"]\""},
        {"{\"list\" [1]}", "line 1: expected \":\""},
        {"{\"a\": 1, \"a\": 2}", "line 1: expected another key"},
        {"{1: 2}", "line 1: expected another key"},
        {"{\"a\": {\"b\": 1, \"b\": 2}}", "duplicate key \"b\""},
        {"{\"a\": 1} x", "line 1: expected nothing more"},
        {"{\"a\": 1", "line 1: expected \",\" or \"}\""},
        {"", "expected an object"},
    };
    char path[1024];
    int sum = 0;
    json_t *object = NULL;
    write_text("list.json", " {\"a\": {\"b\": [1]},\n\"list\" : [1, 2 ,3], \"c\": \"x\"}\n", path);
    CHECK(sq_json_read_list(path, "list", count_element, &sum, &object) == SQ_OK && sum == 6);
    ranks_barrier();
    CHECK(json_object_size(object) == 3 && json_array_size(json_object_get(object, "list")) == 0);
    json_decref(object);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_text("list.json", bad[i][0], path);
        ranks_listen();
        CHECK(sq_json_read_list(path, "list", count_element, &sum, &object) == SQ_ERR_INPUT);
        EXPECT_ERROR(ranks.comm.rank, bad[i][1]);
        ranks_barrier();
    }
    end_test();
}

#define RECORD(fingerprint, layers)                                                                                    \
    "{\"config\": {}, \"fingerprint\": " fingerprint ", \"versions\": [\"1\"], \"source_bytes\": 1, "                  \
    "\"checkpoint_bytes\": 1, \"evals\": 5, \"layers\": [" layers "]}"

/* A record with a figure missing, one out of range, a member of another type, and without layers. */
static void test_bad_records(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"{\"config\": {}, \"layers\": []}", "shardq.json lacks fingerprint"},
        {RECORD("[]", ""), "shardq.json lacks fingerprint"},
        {RECORD("{}", ""), "shardq.json lacks layers"},
        {RECORD("{}", "{\"name\": \"a\", \"out\": 4}"), "layer a lacks one of its figures"},
        {RECORD("{}", "{\"name\": \"a\", \"out\": 4, \"in\": 4, \"bits\": 99, \"group_size\": 4}"),
         "layer a lacks one of its figures, or has it out of range"},
        {"{\"config\": {}", "shardq.json: line 1"},
    };
    char path[1024];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_text("config.json", "{}", path);
        if (ranks.comm.rank == 0)
            folder_write_tensors(&ranks.folder, "model.safetensors",
                                 "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", "\0\0\0", 4);
        write_text("shardq.json", bad[i][0], path);
        refused(SQ_ERR_INPUT, "page.html", 1, (char *[]){ranks.folder.path}, bad[i][1]);
    }
    end_test();
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_store),        cmocka_unit_test(test_hostile_names), cmocka_unit_test(test_foreign_names),
        cmocka_unit_test(test_trace),        cmocka_unit_test(test_long_block),    cmocka_unit_test(test_refused),
        cmocka_unit_test(test_written_over), cmocka_unit_test(test_lists),         cmocka_unit_test(test_bad_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    fixture_layers(layers);
    return ranks_main(&argc, &argv, run);
}
