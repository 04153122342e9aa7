/* What is carried over beside the weights: everything that stays true, unchanged, and no weights in any form. */
#define _XOPEN_SOURCE 700
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "capture.h"
#include "folder.h"
#include "io/folder.h"
#include "io/side_files.h"

static const char *const carried[] = {
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "tokenization_custom.py",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tiktoken.model",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/tool_use.jinja",
    "additional_chat_templates/rag.jinja",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "modeling_custom.py",
    "code/nested/part.py",
    "LICENSE",
    "README.md",
    "unknown",
};

static const char *const left[] = {
    "config.json",
    "model.safetensors",
    "model-00001-of-00002.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "consolidated.00.pth",
    "training_args.bin",
    "optimizer.pt",
    "model.gguf",
    "tf_model.h5",
    "flax_model.msgpack",
    "model.onnx",
    "quantize_config.json",
    "quant_config.json",
    "hf_quant_config.json",
    "download.tmp",
    "out.tmp.lock",
    "out.store.h5.lock",
    "out.store.h5.state",
    ".gitattributes",
    ".cache/tokenizer.json",
    "original/params.json",
    "original/consolidated.00.pth",
};

#define COUNT(list) (sizeof(list) / sizeof *(list))

/* Makes the folders that the name needs, then the file. */
static void write_file(const struct folder *folder, const char *name)
{
    char path[1024];
    for (const char *slash = strchr(name, '/'); slash; slash = strchr(slash + 1, '/')) {
        char part[256];
        snprintf(part, sizeof part, "%.*s", (int)(slash - name), name);
        mkdir(folder_file(folder, part, path), 0777);
    }
    folder_write(folder, name, name, strlen(name)); /* each holds its own name */
}

static bool holds_its_name(const struct folder *folder, const char *name)
{
    char path[1024], text[256] = "";
    FILE *file = fopen(folder_file(folder, name, path), "rb");
    if (!file) return false;
    size_t length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    return length == strlen(name) && !strcmp(text, name);
}

static void test_what_is_carried(void **state)
{
    (void)state;
    char path[1024];
    struct folder from, to;
    struct capture capture;
    folder_create(&from);
    folder_create(&to);
    for (size_t i = 0; i < COUNT(carried); i++)
        write_file(&from, carried[i]);
    for (size_t i = 0; i < COUNT(left); i++)
        write_file(&from, left[i]);
    assert_int_equal(symlink("tokenizer.json", folder_file(&from, "link.json", path)), 0);
    int fd = open(folder_file(&from, "huge.zip", path), O_CREAT | O_WRONLY, 0666);
    assert_true(fd >= 0 && ftruncate(fd, ((off_t)256 << 20) + 1) == 0);
    close(fd);

    capture_start(&capture);
    enum sq_status status = sq_side_files_copy(from.path, to.path);
    const char *text = capture_stop(&capture);
    assert_int_equal(status, SQ_OK);
    assert_non_null(strstr(text, "huge.zip (256.0 MiB) is not carried over"));
    for (size_t i = 0; i < COUNT(carried); i++)
        if (!holds_its_name(&to, carried[i])) fail_msg("%s was not carried over", carried[i]);
    for (size_t i = 0; i < COUNT(left); i++)
        if (sq_folder_exists(folder_file(&to, left[i], path))) fail_msg("%s was carried over", left[i]);
    assert_false(sq_folder_exists(folder_file(&to, "original", path)));
    assert_false(sq_folder_exists(folder_file(&to, "huge.zip", path)));
    struct stat info;
    assert_int_equal(lstat(folder_file(&to, "link.json", path), &info), 0);
    assert_true(S_ISREG(info.st_mode) && info.st_size == (off_t)strlen("tokenizer.json"));
    sq_folder_remove(from.path);
    sq_folder_remove(to.path);
}

/* A folder that holds itself has no end, and is left out. */
static void test_circle(void **state)
{
    (void)state;
    char path[1024];
    struct folder from, to;
    folder_create(&from);
    folder_create(&to);
    mkdir(folder_file(&from, "loop", path), 0777);
    assert_int_equal(symlink(".", folder_file(&from, "loop/again", path)), 0);
    write_file(&from, "LICENSE");
    assert_int_equal(sq_side_files_copy(from.path, to.path), SQ_OK);
    assert_true(holds_its_name(&to, "LICENSE"));
    assert_false(sq_folder_exists(folder_file(&to, "loop", path)));
    sq_folder_remove(from.path);
    sq_folder_remove(to.path);
}

static void test_missing_folder(void **state)
{
    (void)state;
    struct capture capture;
    capture_start(&capture);
    enum sq_status status = sq_side_files_copy("/nowhere", "/tmp");
    const char *text = capture_stop(&capture);
    assert_int_equal(status, SQ_ERR_IO);
    assert_true(capture_is_one_error(text, (const char *const[4]){"cannot list /nowhere"}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_carried),
        cmocka_unit_test(test_circle),
        cmocka_unit_test(test_missing_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
