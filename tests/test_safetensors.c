/* The safetensors parser and the JSON reader on bytes in memory: what is right is read, what is wrong is refused with
 * one line. */
#define _XOPEN_SOURCE 700
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "capture.h"
#include "io/json.h"
#include "io/safetensors.h"

/* A file in memory, exactly as long as its content, so that a sanitizer sees a read beyond it. */
struct bytes {
    unsigned char *data;
    size_t size;
};

static struct bytes make_file(uint64_t length, const char *header, size_t data_bytes)
{
    struct bytes file = {NULL, 8 + strlen(header) + data_bytes};
    file.data = calloc(file.size, 1);
    memcpy(file.data, &length, 8);
    memcpy(file.data + 8, header, strlen(header));
    for (size_t i = 0; i < data_bytes; i++)
        file.data[8 + strlen(header) + i] = (unsigned char)i;
    return file;
}

/* --- right files -------------------------------------------------------------------------------------------------- */

static void test_good(void **state)
{
    (void)state;
    static const char header[] = "{\"__metadata__\":{\"format\":\"pt\"},"
                                 "\"b\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[4,16]},"
                                 "\"empty\":{\"dtype\":\"F32\",\"shape\":[0,5],\"data_offsets\":[16,16]},"
                                 "\"scalar\":{\"dtype\":\"I32\",\"shape\":[],\"data_offsets\":[0,4]}}   ";
    struct bytes file = make_file(strlen(header), header, 16);
    struct sq_tensor_list list;
    assert_int_equal(sq_safetensors_parse(file.data, file.size, "good", &list), SQ_OK);
    assert_int_equal(list.count, 3);
    const struct sq_tensor *scalar = &list.items[0], *b = &list.items[1], *empty = &list.items[2];
    assert_string_equal(scalar->name, "scalar"); /* the order of the data */
    assert_int_equal(scalar->n_dims, 0);
    assert_int_equal(scalar->bytes, 4);
    assert_string_equal(b->name, "b");
    assert_int_equal(b->dtype, SQ_BF16);
    assert_int_equal(b->n_dims, 2);
    assert_int_equal(b->shape[0], 2);
    assert_int_equal(b->shape[1], 3);
    assert_int_equal(b->bytes, 12);
    assert_ptr_equal(b->data, file.data + 8 + strlen(header) + 4);
    assert_false(b->is_mapped);
    assert_string_equal(empty->name, "empty");
    assert_int_equal(empty->bytes, 0);
    sq_tensor_list_release(&list);
    free(file.data);
}

static void test_no_tensors(void **state)
{
    (void)state;
    struct bytes file = make_file(2, "{}", 0);
    struct sq_tensor_list list;
    assert_int_equal(sq_safetensors_parse(file.data, file.size, "empty", &list), SQ_OK);
    assert_int_equal(list.count, 0);
    sq_tensor_list_release(&list);
    free(file.data);
}

/* --- wrong files -------------------------------------------------------------------------------------------------- */

static void check_refused(const unsigned char *bytes, size_t size, const char *const parts[4])
{
    struct capture capture;
    struct sq_tensor_list list = {.count = -5};
    capture_start(&capture);
    enum sq_status status = sq_safetensors_parse(bytes, size, "some/model.safetensors", &list);
    const char *text = capture_stop(&capture);
    if (!capture_is_one_error(text, parts) || !strstr(text, "some/model.safetensors"))
        fail_msg("wanted one line with '%s', got: %s", parts[0], text);
    assert_int_equal(status, SQ_ERR_INPUT);
    assert_int_equal(list.count, -5); /* outputs are set only on success */
}

#define T(dtype, shape, offsets) "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static const struct {
    const char *header;
    size_t data_bytes;
    const char *parts[4];
} wrong_headers[] = {
    /* offsets */
    {"{\"w\":" T("F32", "[4]", "[0,16]") "}", 15, {"tensor w", "[0, 16]", "15 bytes"}},
    {"{\"w\":" T("F32", "[4]", "[0,16]") "}", 17, {"1 bytes behind", "w"}},
    {"{\"w\":" T("F32", "[4]", "[16,0]") "}", 16, {"tensor w", "[16, 0]"}},
    {"{\"w\":" T("F32", "[4]", "[-16,0]") "}", 16, {"tensor w", "[-16, 0]"}},
    {"{\"w\":" T("F32", "[4]", "[9223372036854775800,9223372036854775807]") "}", 16, {"tensor w", "do not lie"}},
    {"{\"w\":" T("F32", "[4]", "[0,99999999999999999999999]") "}", 16, {"too big integer"}},
    {"{\"w\":" T("F32", "[4]", "[0]") "}", 16, {"tensor w", "data_offsets"}},
    {"{\"w\":" T("F32", "[4]", "[0,16,16]") "}", 16, {"tensor w", "data_offsets"}},
    {"{\"w\":" T("F32", "[4]", "[0,16.0]") "}", 16, {"tensor w", "data_offsets"}},
    {"{\"w\":" T("F32", "[4]", "{}") "}", 16, {"tensor w", "data_offsets"}},
    {"{\"w\":{\"dtype\":\"F32\",\"shape\":[4]}}", 16, {"tensor w", "data_offsets"}},
    {"{\"a\":" T("F32", "[4]", "[0,16]") ",\"b\":" T("F32", "[4]", "[12,28]") "}",
     28,
     {"tensor b", "overlap", "tensor a"}},
    {"{\"a\":" T("F32", "[4]", "[0,16]") ",\"b\":" T("F32", "[4]", "[0,16]") "}",
     16,
     {"overlap", "tensor a", "tensor b"}},
    {"{\"a\":" T("F32", "[4]", "[0,16]") ",\"b\":" T("F32", "[4]", "[20,36]") "}", 36, {"tensor b", "hole of 4 bytes"}},
    {"{\"a\":" T("F32", "[4]", "[4,20]") "}", 20, {"tensor a", "hole of 4 bytes"}},
    {"{\"a\":" T("F32", "[0]", "[4,4]") ",\"b\":" T("F32", "[2]", "[0,8]") "}", 8, {"overlap", "tensor a", "tensor b"}},
    /* shape and dtype */
    {"{\"w\":" T("F32", "[5]", "[0,16]") "}", 16, {"tensor w", "16 bytes", "20"}},
    {"{\"w\":" T("BF16", "[4]", "[0,16]") "}", 16, {"tensor w", "BF16", "16 bytes"}},
    {"{\"w\":" T("F32", "[-4]", "[0,16]") "}", 16, {"tensor w", "shape"}},
    {"{\"w\":" T("F32", "[\"4\"]", "[0,16]") "}", 16, {"tensor w", "shape"}},
    {"{\"w\":" T("F32", "[4.0]", "[0,16]") "}", 16, {"tensor w", "shape"}},
    {"{\"w\":" T("F32", "4", "[0,16]") "}", 16, {"tensor w", "shape"}},
    {"{\"w\":" T("F32", "[1,1,1,1,1,1,1,1,4]", "[0,16]") "}", 16, {"tensor w", "shape", "at most 8"}},
    {"{\"w\":" T("F32", "[4294967296,4294967296]", "[0,0]") "}", 0, {"tensor w", "overflow"}},
    {"{\"w\":" T("F32", "[4611686018427387904]", "[0,0]") "}", 0, {"tensor w", "overflow"}}, /* 2^62 * 4 = 2^64 */
    {"{\"w\":" T("F8_E5M2", "[16]", "[0,16]") "}", 16, {"tensor w", "dtype F8_E5M2"}},
    {"{\"w\":" T("F\\n32", "[4]", "[0,16]") "}", 16, {"tensor w", "dtype"}},
    {"{\"w\":{\"dtype\":7,\"shape\":[4],\"data_offsets\":[0,16]}}", 16, {"tensor w", "dtype"}},
    {"{\"w\":{\"shape\":[4],\"data_offsets\":[0,16]}}", 16, {"tensor w", "dtype"}},
    {"{\"w\":[]}", 0, {"tensor w", "not an object"}},
    /* names */
    {"{\"a.rather.long.name.of.a.weight\":" T("F32", "[1]", "[0,4]") ",\"a.rather.long.name.of.a.weight\":" T(
         "F32", "[1]", "[4,8]") "}",
     8,
     {"duplicate", "\"a.rather.long.name.of.a.weight\""}},
    {"{\"w\":{\"dtype\":\"F32\",\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":[0,16]}}",
     16,
     {"duplicate", "\"dtype\""}},
    {"{\"\":" T("F32", "[1]", "[0,4]") "}", 4, {"name", "empty"}},
    {"{\"a\\nb\":" T("F32", "[1]", "[0,4]") "}", 4, {"name", "control"}},
    {"{\"a\\u0000b\":" T("F32", "[1]", "[0,4]") "}", 4, {"line 1"}},
    /* JSON */
    {"", 0, {"line 1"}},
    {"[]", 0, {"not a JSON object"}},
    {"{\"w\":", 0, {"line 1", "near end of file"}},
    {"{} x", 0, {"end of file expected"}},
    {"{\"\xff\xfe\":1}", 0, {"unable to decode byte 0xff"}},
    {"{\"w\n\":1}", 0, {"unexpected newline"}},
};

static void test_wrong_headers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof wrong_headers / sizeof *wrong_headers; i++) {
        const char *header = wrong_headers[i].header;
        struct bytes file = make_file(strlen(header), header, wrong_headers[i].data_bytes);
        check_refused(file.data, file.size, wrong_headers[i].parts);
        free(file.data);
    }
}

static void test_wrong_length(void **state)
{
    (void)state;
    static const char header[] = "{\"w\":" T("F32", "[1]", "[0,4]") "}";
    static const uint64_t lengths[] = {1u << 30, UINT64_MAX, UINT64_MAX - 7, (uint64_t)INT64_MAX, sizeof header + 4};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct bytes file = make_file(lengths[i], header, 4);
        check_refused(file.data, file.size, (const char *const[4]){"header length"});
        free(file.data);
    }
    struct bytes file = make_file(0, header, 4);
    check_refused(file.data, file.size, (const char *const[4]){"line 1"});
    free(file.data);
}

/* A header that fits the file but is larger than the format allows is refused before it is parsed. */
static void test_huge_header(void **state)
{
    (void)state;
    size_t size = SQ_JSON_MAX_BYTES + 9;
    unsigned char *bytes = calloc(size, 1);
    uint64_t length = SQ_JSON_MAX_BYTES + 1;
    memcpy(bytes, &length, 8);
    check_refused(bytes, size, (const char *const[4]){"100000001", "limit"});
    free(bytes);
}

/* Cut short at every length. */
static void test_cut(void **state)
{
    (void)state;
    static const char header[] = "{\"a\":" T("F32", "[2]", "[0,8]") ",\"b\":" T("BF16", "[1,2]", "[8,12]") "}";
    struct bytes file = make_file(strlen(header), header, 12);
    for (size_t size = 0; size < file.size; size++) {
        unsigned char *cut = malloc(size + (size == 0));
        memcpy(cut, file.data, size);
        check_refused(cut, size, (const char *const[4]){NULL});
        free(cut);
    }
    free(file.data);
}

static void test_deep_nesting(void **state)
{
    (void)state;
    enum { DEPTH = 10000 };
    char *header = calloc(2 * DEPTH + 16, 1);
    memcpy(header, "{\"w\":", 5);
    memset(header + 5, '[', DEPTH);
    memset(header + 5 + DEPTH, ']', DEPTH);
    header[5 + 2 * DEPTH] = '}';
    struct bytes file = make_file(strlen(header), header, 0);
    check_refused(file.data, file.size, (const char *const[4]){"maximum parsing depth"});
    free(file.data);
    free(header);
}

/* Every allocation fails in turn: status, no leak (the sanitizer's to see), until there is none left to fail. */
static void test_no_memory(void **state)
{
    (void)state;
    static const char header[] = "{\"a\":" T("F32", "[2]", "[0,8]") ",\"b\":" T("BF16", "[1,2]", "[8,12]") "}";
    struct bytes file = make_file(strlen(header), header, 12);
    enum sq_status status = SQ_ERR_MEMORY;
    int n = 0;
    while (status == SQ_ERR_MEMORY) {
        struct capture capture;
        struct sq_tensor_list list;
        capture_start(&capture);
        sq_memory_fail_at(++n);
        status = sq_safetensors_parse(file.data, file.size, "file", &list);
        sq_memory_fail_at(0);
        const char *text = capture_stop(&capture);
        if (status == SQ_OK) sq_tensor_list_release(&list);
        if (status != SQ_OK) assert_true(capture_is_one_error(text, (const char *const[4]){"cannot allocate"}));
    }
    assert_int_equal(status, SQ_OK);
    assert_int_equal(n, 4); /* the list and two names */
    free(file.data);
}

/* --- JSON --------------------------------------------------------------------------------------------------------- */

static void test_json(void **state)
{
    (void)state;
    static const char text[] = "{\"a\": [1, 2.5, \"\xc3\xa9\"]}rest"; /* no zero byte needed behind it */
    json_t *json;
    assert_int_equal(sq_json_parse(text, sizeof text - 5, "a.json", &json), SQ_OK);
    assert_int_equal(json_integer_value(json_array_get(json_object_get(json, "a"), 0)), 1);
    json_decref(json);
}

static void test_json_wrong(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *parts[4];
    } cases[] = {{"{\n\n\"a\": tru}", {"a.json", "line 3"}},
                 {"{\"a\":1,\n \"a\":2}", {"a.json", "line 2", "duplicate key \"a\""}},
                 {"{\"q\\\"x\":1,\"q\\\"x\":2}", {"a.json", "duplicate key \"q\\\"x\""}},
                 {"{\"a\":{\"b\":1,\"b\":2}}", {"duplicate key \"b\""}},
                 {"", {"a.json"}},
                 {"{\"a\": 1e999}", {"a.json", "real number overflow"}},
                 {"{\"a\": NaN}", {"a.json", "line 1"}},
                 {"{\"a\": \x01}", {"a.json", "line 1"}}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct capture capture;
        json_t *json = NULL;
        capture_start(&capture);
        enum sq_status status = sq_json_parse(cases[i].text, strlen(cases[i].text), "a.json", &json);
        const char *text = capture_stop(&capture);
        if (!capture_is_one_error(text, cases[i].parts)) fail_msg("%s gave: %s", cases[i].text, text);
        assert_int_equal(status, SQ_ERR_INPUT);
        assert_null(json);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),         cmocka_unit_test(test_no_tensors),  cmocka_unit_test(test_wrong_headers),
        cmocka_unit_test(test_wrong_length), cmocka_unit_test(test_huge_header), cmocka_unit_test(test_cut),
        cmocka_unit_test(test_deep_nesting), cmocka_unit_test(test_no_memory),   cmocka_unit_test(test_json),
        cmocka_unit_test(test_json_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
