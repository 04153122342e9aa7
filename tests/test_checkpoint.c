/* Folders of safetensors files: finding and checking tensors; indexes with shards; what is wrong with a
 * folder. */
#define _XOPEN_SOURCE 700
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/memory.h"
#include "capture.h"
#include "folder.h"
#include "io/checkpoint.h"

#define T(dtype, shape, offsets) "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"
#define INDEX "model.safetensors.index.json"

static struct sq_checkpoint *open_folder(const struct folder *folder)
{
    struct sq_checkpoint *checkpoint = NULL;
    assert_int_equal(sq_checkpoint_open(folder->path, &checkpoint), SQ_OK);
    return checkpoint;
}

static void check_refused(const struct folder *folder, enum sq_status wanted, const char *const parts[4])
{
    struct capture capture;
    struct sq_checkpoint *checkpoint = NULL;
    capture_start(&capture);
    enum sq_status status = sq_checkpoint_open(folder->path, &checkpoint);
    const char *text = capture_stop(&capture);
    if (!capture_is_one_error(text, parts)) fail_msg("wanted one line with '%s', got: %s", parts[0], text);
    assert_int_equal(status, wanted);
    assert_null(checkpoint);
}

/* model-1 has "a" F32 [2, 2], model-2 has "b" BF16 [3]. */
static void write_shards(struct folder *folder)
{
    static const float a[] = {1, -2, 3.5f, 0};
    static const uint16_t b[] = {0x3f80, 0xc000, 0x0001};
    folder_create(folder);
    folder_write_text(folder, "config.json", "{\"architectures\": [\"X\"]}");
    folder_write_tensors(folder, "model-1.safetensors", "{\"a\":" T("F32", "[2,2]", "[0,16]") "}", a, sizeof a);
    folder_write_tensors(folder, "model-2.safetensors", "{\"b\":" T("BF16", "[3]", "[0,6]") "}", b, sizeof b);
    folder_write_text(folder, INDEX,
                      "{\"metadata\":{\"total_size\":22},"
                      "\"weight_map\":{\"b\":\"model-2.safetensors\",\"a\":\"model-1.safetensors\"}}");
}

/* --- right folders ------------------------------------------------------------------------------------------------ */

static void test_shards(void **state)
{
    (void)state;
    struct folder folder;
    write_shards(&folder);
    struct sq_checkpoint *checkpoint = open_folder(&folder);
    assert_string_equal(sq_checkpoint_folder(checkpoint), folder.path);
    assert_non_null(json_object_get(sq_checkpoint_config(checkpoint), "architectures"));
    assert_int_equal(sq_checkpoint_n_tensors(checkpoint), 2);
    assert_string_equal(sq_checkpoint_tensor(checkpoint, 0)->name, "a");
    assert_string_equal(sq_checkpoint_tensor(checkpoint, 1)->name, "b");
    assert_ptr_equal(sq_checkpoint_find(checkpoint, "b"), sq_checkpoint_tensor(checkpoint, 1));
    assert_null(sq_checkpoint_find(checkpoint, "c"));
    assert_null(sq_checkpoint_find(checkpoint, ""));
    assert_non_null(strstr(sq_checkpoint_find(checkpoint, "b")->file, "/model-2.safetensors"));

    float row[2], b[3];
    assert_int_equal(sq_tensor_read_f32(sq_checkpoint_find(checkpoint, "a"), 1, 1, row), SQ_OK);
    assert_true(row[0] == 3.5f && row[1] == 0);
    assert_int_equal(sq_tensor_read_f32(sq_checkpoint_find(checkpoint, "b"), 0, 3, b), SQ_OK);
    assert_true(b[0] == 1 && b[1] == -2 && b[2] == 0x1p-133f);
    sq_checkpoint_close(checkpoint);
    folder_remove(&folder);
}

/* Many names: each is found, and none that lies between. */
static void test_find(void **state)
{
    (void)state;
    enum { N = 257 };
    struct folder folder;
    char *header = malloc(N * 100), *end = header, name[16];
    for (int i = 0; i < N; i++)
        end += sprintf(end, "%s\"t%d\":" T("U8", "[1]", "[%d,%d]"), i ? "," : "{", (i * 101) % N, i, i + 1);
    strcpy(end, "}");
    static const unsigned char data[N];
    folder_create(&folder);
    folder_write_text(&folder, "config.json", "{}");
    folder_write_tensors(&folder, "model.safetensors", header, data, N);
    struct sq_checkpoint *checkpoint = open_folder(&folder);
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "t%d", i);
        assert_string_equal(sq_checkpoint_find(checkpoint, name)->name, name);
        strcat(name, "x");
        assert_null(sq_checkpoint_find(checkpoint, name));
    }
    sq_checkpoint_close(checkpoint);
    folder_remove(&folder);
    free(header);
}

/* model.safetensors is preferred to an index, and a scalar is one row. */
static void test_single_preferred(void **state)
{
    (void)state;
    struct folder folder;
    float data = 4.25f, value = 0;
    write_shards(&folder);
    folder_write_tensors(&folder, "model.safetensors", "{\"s\":" T("F32", "[]", "[0,4]") "}", &data, 4);
    struct sq_checkpoint *checkpoint = open_folder(&folder);
    assert_int_equal(sq_checkpoint_n_tensors(checkpoint), 1);
    assert_int_equal(sq_tensor_read_f32(sq_checkpoint_tensor(checkpoint, 0), 0, 1, &value), SQ_OK);
    assert_true(value == 4.25f);
    sq_checkpoint_close(checkpoint);
    folder_remove(&folder);
}

/* --- tensors that are wrong ------------------------------------------------------------------------------------------
 */

static void check_require(const struct sq_checkpoint *checkpoint, const char *name, int n_dims, const int64_t *shape,
                          const char *const parts[4])
{
    struct capture capture;
    const struct sq_tensor *tensor = NULL;
    capture_start(&capture);
    enum sq_status status = sq_checkpoint_require(checkpoint, name, n_dims, shape, &tensor);
    const char *text = capture_stop(&capture);
    assert_int_equal(status, SQ_ERR_INPUT);
    if (!capture_is_one_error(text, parts)) fail_msg("wanted '%s', got: %s", parts[0], text);
    assert_null(tensor);
}

static void test_require(void **state)
{
    (void)state;
    struct folder folder;
    static const unsigned char data[24];
    static const int64_t shape[] = {2, 3}, turned[] = {3, 2};
    folder_create(&folder);
    folder_write_text(&folder, "config.json", "{}");
    folder_write_tensors(&folder, "model.safetensors",
                         "{\"w\":" T("F16", "[2,3]", "[0,12]") ",\"i\":" T("I16", "[2,3]", "[12,24]") "}", data, 24);
    struct sq_checkpoint *checkpoint = open_folder(&folder);
    const struct sq_tensor *tensor = NULL;
    assert_int_equal(sq_checkpoint_require(checkpoint, "w", 2, shape, &tensor), SQ_OK);
    assert_string_equal(tensor->name, "w");
    check_require(checkpoint, "w", 2, turned, (const char *const[4]){"tensor w", "[2, 3]", "[3, 2]", folder.path});
    check_require(checkpoint, "w", 1, shape, (const char *const[4]){"tensor w", "[2, 3]", "[2]", folder.path});
    check_require(checkpoint, "i", 2, shape, (const char *const[4]){"tensor i", "I16", "F32, F16, BF16 or F8_E4M3"});
    check_require(checkpoint, "x.y", 2, shape, (const char *const[4]){"no tensor x.y", "[2, 3]", folder.path});

    struct capture capture;
    float values[6];
    capture_start(&capture);
    enum sq_status status = sq_tensor_read_f32(sq_checkpoint_find(checkpoint, "i"), 0, 2, values);
    const char *text = capture_stop(&capture);
    assert_int_equal(status, SQ_ERR_INPUT);
    assert_true(capture_is_one_error(text, (const char *const[4]){"tensor i", "I16"}));
    sq_checkpoint_close(checkpoint);
    folder_remove(&folder);
}

/* --- folders that are wrong --------------------------------------------------------------------------------------- */

static void test_missing_files(void **state)
{
    (void)state;
    struct folder folder;
    char path[1024];
    folder_create(&folder);
    check_refused(&folder, SQ_ERR_IO, (const char *const[4]){"config.json", "No such file"});
    folder_write_text(&folder, "config.json", "{}");
    check_refused(&folder, SQ_ERR_INPUT, (const char *const[4]){folder.path, "model.safetensors", INDEX});
    assert_int_equal(mkfifo(folder_file(&folder, "model.safetensors", path), 0600), 0);
    check_refused(&folder, SQ_ERR_IO, (const char *const[4]){"model.safetensors", "not a regular file"});
    folder_remove(&folder);
    check_refused(&folder, SQ_ERR_IO, (const char *const[4]){folder.path, "No such file"});
}

static void test_wrong_config(void **state)
{
    (void)state;
    struct folder folder;
    write_shards(&folder);
    folder_write_text(&folder, "config.json", "");
    check_refused(&folder, SQ_ERR_INPUT, (const char *const[4]){"config.json", "line 1"});
    folder_write_text(&folder, "config.json", "{\"a\":1,\n\"a\":2}");
    check_refused(&folder, SQ_ERR_INPUT, (const char *const[4]){"config.json", "line 2", "duplicate"});
    folder_write_text(&folder, "config.json", "[1]");
    check_refused(&folder, SQ_ERR_INPUT, (const char *const[4]){"config.json", "not a JSON object"});
    char *deep = malloc(20001);
    memset(deep, '[', 10000);
    memset(deep + 10000, ']', 10000);
    deep[20000] = 0;
    folder_write_text(&folder, "config.json", deep);
    check_refused(&folder, SQ_ERR_INPUT, (const char *const[4]){"config.json", "maximum parsing depth"});
    free(deep);
    folder_remove(&folder);
}

static void test_wrong_index(void **state)
{
    (void)state;
    static const struct {
        const char *index;
        const char *parts[4];
    } cases[] = {
        {"{\"weight_map\":{\"a\":\"model-1.safetensors\",\"b\":\"model-3.safetensors\"}}",
         {INDEX, "model-3.safetensors", "No such file"}},
        {"{\"weight_map\":{\"a\":\"model-1.safetensors\",\"c\":\"model-2.safetensors\"}}",
         {INDEX, "tensor c", "model-2.safetensors"}},
        {"{\"weight_map\":{\"a\":\"model-2.safetensors\",\"b\":\"model-1.safetensors\"}}",
         {INDEX, "tensor a", "model-2.safetensors"}},
        {"{\"weight_map\":{\"a\":\"../model-1.safetensors\"}}", {INDEX, "tensor a", "plain file name"}},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", {INDEX, "tensor a", "plain file name"}},
        {"{\"weight_map\":{\"a\":\"..\"}}", {INDEX, "tensor a", "plain file name"}},
        {"{\"weight_map\":{\"a\":\"\"}}", {INDEX, "tensor a", "plain file name"}},
        {"{\"weight_map\":{\"a\":\"x\\ny\"}}", {INDEX, "tensor a", "plain file name"}},
        {"{\"weight_map\":{\"a\":1}}", {INDEX, "tensor a", "plain file name"}},
        {"{\"weight_map\":{\"a\":\"model-1.safetensors\",\"a\":\"model-2.safetensors\"}}",
         {INDEX, "duplicate key \"a\""}},
        {"{\"weight_map\":{}}", {INDEX, "weight_map"}},
        {"{\"weight_map\":[]}", {INDEX, "weight_map"}},
        {"{}", {INDEX, "weight_map"}},
        {"[]", {INDEX, "weight_map"}},
        {"{\"weight_map\":", {INDEX, "line 1"}},
    };
    struct folder folder;
    write_shards(&folder);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        folder_write_text(&folder, INDEX, cases[i].index);
        check_refused(&folder, SQ_ERR_INPUT, cases[i].parts);
    }
    folder_remove(&folder);
}

static void test_duplicate_across_shards(void **state)
{
    (void)state;
    struct folder folder;
    float data[2] = {0};
    write_shards(&folder);
    folder_write_tensors(&folder, "model-2.safetensors",
                         "{\"b\":" T("F32", "[1]", "[0,4]") ",\"a\":" T("F32", "[1]", "[4,8]") "}", data, 8);
    check_refused(&folder, SQ_ERR_INPUT,
                  (const char *const[4]){"tensor a", "model-1.safetensors", "model-2.safetensors"});
    folder_remove(&folder);
}

static void test_cut_shard(void **state)
{
    (void)state;
    struct folder folder;
    write_shards(&folder);
    folder_write_tensors(&folder, "model-2.safetensors", "{\"b\":" T("BF16", "[3]", "[0,6]") "}", "12345", 5);
    check_refused(&folder, SQ_ERR_INPUT,
                  (const char *const[4]){"model-2.safetensors", "tensor b", "[0, 6]", "5 bytes"});
    folder_write_text(&folder, "model-2.safetensors", "");
    check_refused(&folder, SQ_ERR_INPUT, (const char *const[4]){"model-2.safetensors", "0 bytes"});
    folder_remove(&folder);
}

static void test_no_memory(void **state)
{
    (void)state;
    struct folder folder;
    write_shards(&folder);
    enum sq_status status = SQ_ERR_MEMORY;
    int n = 0;
    while (status == SQ_ERR_MEMORY) {
        struct capture capture;
        struct sq_checkpoint *checkpoint = NULL;
        capture_start(&capture);
        sq_memory_fail_at(++n);
        status = sq_checkpoint_open(folder.path, &checkpoint);
        sq_memory_fail_at(0);
        const char *text = capture_stop(&capture);
        assert_true(status == SQ_OK || capture_is_one_error(text, (const char *const[4]){"cannot allocate"}));
        assert_true((status == SQ_OK) == (checkpoint != NULL));
        sq_checkpoint_close(checkpoint);
    }
    assert_int_equal(status, SQ_OK);
    assert_true(n > 10);
    folder_remove(&folder);
}

/* --- fingerprint -------------------------------------------------------------------------------------------------- */

static uint64_t fingerprint_of(const char *config, const char *header, const void *data, size_t size)
{
    struct folder folder;
    folder_create(&folder);
    folder_write_text(&folder, "config.json", config);
    folder_write_tensors(&folder, "model.safetensors", header, data, size);
    struct sq_checkpoint *checkpoint = open_folder(&folder);
    uint64_t fingerprint = sq_checkpoint_fingerprint(checkpoint);
    assert_true(fingerprint == sq_checkpoint_fingerprint(checkpoint));
    sq_checkpoint_close(checkpoint);
    folder_remove(&folder);
    return fingerprint;
}

/* Config, name, dtype, shape, first and last values each change it; where the folder lies does not. */
static void test_fingerprint(void **state)
{
    (void)state;
    static unsigned char data[20000];
    static const char header[] = "{\"w\":" T("F32", "[100,50]", "[0,20000]") "}";
    uint64_t plain = fingerprint_of("{}", header, data, sizeof data);
    assert_true(plain == fingerprint_of("{}", header, data, sizeof data));
    assert_true(plain != fingerprint_of("{\"a\":1}", header, data, sizeof data));
    assert_true(plain != fingerprint_of("{}", "{\"v\":" T("F32", "[100,50]", "[0,20000]") "}", data, sizeof data));
    assert_true(plain != fingerprint_of("{}", "{\"w\":" T("I32", "[100,50]", "[0,20000]") "}", data, sizeof data));
    assert_true(plain != fingerprint_of("{}", "{\"w\":" T("F32", "[50,100]", "[0,20000]") "}", data, sizeof data));
    static const size_t places[] = {0, 4095, 10000, 20000 - 4096, 19999};
    for (int i = 0; i < 5; i++) {
        data[places[i]] = 1;
        assert_true(plain != fingerprint_of("{}", header, data, sizeof data));
        data[places[i]] = 0;
    }
}

/* Of 4000000 bytes, page i of 34 begins at 3995904 * i / 33; what lies between is not covered. */
static void test_fingerprint_pages(void **state)
{
    (void)state;
    static unsigned char data[4000000];
    static const char header[] = "{\"w\":" T("F32", "[1000,1000]", "[0,4000000]") "}";
    static const size_t seen[] = {0, 4095, 121088, 2058495 + 4095, 3995904, 3999999};
    uint64_t plain = fingerprint_of("{}", header, data, sizeof data);
    for (size_t i = 0; i < sizeof seen / sizeof *seen; i++) {
        data[seen[i]] = 1;
        assert_true(plain != fingerprint_of("{}", header, data, sizeof data));
        data[seen[i]] = 0;
    }
    data[4096] = 1;
    assert_true(plain == fingerprint_of("{}", header, data, sizeof data));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shards),           cmocka_unit_test(test_find),
        cmocka_unit_test(test_single_preferred), cmocka_unit_test(test_require),
        cmocka_unit_test(test_missing_files),    cmocka_unit_test(test_wrong_config),
        cmocka_unit_test(test_wrong_index),      cmocka_unit_test(test_duplicate_across_shards),
        cmocka_unit_test(test_cut_shard),        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_fingerprint),      cmocka_unit_test(test_fingerprint_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
