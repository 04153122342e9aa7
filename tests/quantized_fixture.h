/* Tests of readers of quantized layers: a folder with one layer, "layer" with OUT outputs, in a form that a table
 * describes. */
#ifndef SQ_TESTS_QUANTIZED_FIXTURE_H
#define SQ_TESTS_QUANTIZED_FIXTURE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "capture.h"
#include "folder.h"
#include "io/checkpoint.h"

#define OUT 70
#define MAX_IN 96

/* layer: the test's own, which says how it is written and what must be read of it. */
struct form {
    int in_features;
    void (*write)(const struct folder *folder, const void *layer); /* config.json and model.safetensors */
    float (*weight)(const void *layer, int n, int k);
    int64_t (*bytes)(const void *layer); /* of codes, scales and zero points */
};

static inline size_t append(unsigned char *data, size_t *used, const void *bytes, size_t size)
{
    memcpy(data + *used, bytes, size);
    return *used += size;
}

/* --- one folder --------------------------------------------------------------------------------------------------- */

struct opened {
    struct folder folder;
    struct sq_checkpoint *checkpoint;
};

static inline struct opened open_layer(const struct form *form, const void *layer)
{
    struct opened opened;
    folder_create(&opened.folder);
    form->write(&opened.folder, layer);
    assert_int_equal(sq_checkpoint_open(opened.folder.path, &opened.checkpoint), SQ_OK);
    return opened;
}

static inline void close_layer(struct opened *opened)
{
    sq_checkpoint_close(opened->checkpoint);
    folder_remove(&opened->folder);
}

static inline struct sq_checkpoint_linear linear_of(const struct form *form)
{
    return (struct sq_checkpoint_linear){"layer", OUT, form->in_features, false};
}

/* --- a layer that is read ----------------------------------------------------------------------------------------- */

static inline void check_rows(const struct form *form, const struct sq_checkpoint *checkpoint, const void *layer,
                              int64_t row, int64_t rows)
{
    static float weights[OUT * MAX_IN + 1];
    const struct sq_checkpoint_linear linear = linear_of(form);
    weights[rows * form->in_features] = 12345;
    assert_int_equal(sq_checkpoint_read_linear(checkpoint, &linear, row, rows, weights), SQ_OK);
    for (int64_t n = row; n < row + rows; n++)
        for (int k = 0; k < form->in_features; k++) {
            float wanted = form->weight(layer, (int)n, k);
            assert_memory_equal(&weights[(n - row) * form->in_features + k], &wanted, sizeof wanted);
        }
    assert_true(weights[rows * form->in_features] == 12345);
}

/* Writes, reads whole and in parts that begin and end anywhere. */
static inline void check_layer(const struct form *form, const void *layer)
{
    const struct sq_checkpoint_linear linear = linear_of(form);
    struct opened opened = open_layer(form, layer);
    assert_int_equal(sq_checkpoint_check_linear(opened.checkpoint, &linear), SQ_OK);
    assert_int_equal(sq_checkpoint_quantized_bytes(opened.checkpoint, "layer"), form->bytes(layer));
    check_rows(form, opened.checkpoint, layer, 0, OUT);
    check_rows(form, opened.checkpoint, layer, 5, 40);
    check_rows(form, opened.checkpoint, layer, 33, 1);
    check_rows(form, opened.checkpoint, layer, 64, 6);
    check_rows(form, opened.checkpoint, layer, 7, 0);
    close_layer(&opened);
}

/* --- a layer that is refused -------------------------------------------------------------------------------------- */

/* Opens the folder, then checks the layer or, with room for its weights, reads it; the status of the first that fails.
 * text_p: what was said. */
static inline enum sq_status try_layer(const struct form *form, const void *layer,
                                       const struct sq_checkpoint_linear *asked, float *weights, struct folder *folder,
                                       const char **text_p)
{
    static struct capture capture;
    struct sq_checkpoint *checkpoint = NULL;
    folder_create(folder);
    form->write(folder, layer);
    capture_start(&capture);
    enum sq_status status = sq_checkpoint_open(folder->path, &checkpoint);
    if (status == SQ_OK && weights) status = sq_checkpoint_read_linear(checkpoint, asked, 0, OUT, weights);
    if (status == SQ_OK && !weights) status = sq_checkpoint_check_linear(checkpoint, asked);
    *text_p = capture_stop(&capture);
    sq_checkpoint_close(checkpoint);
    folder_remove(folder);
    return status;
}

/* parts: of the one error line; as for capture_is_one_error(). */
static inline void check_refused(const struct form *form, const void *layer, const char *prefix, int64_t in_features,
                                 const char *const parts[4])
{
    static float weights[OUT * MAX_IN];
    struct folder folder;
    const char *text;
    const struct sq_checkpoint_linear asked = {prefix, OUT, in_features, false};
    enum sq_status status = try_layer(form, layer, &asked, weights, &folder, &text);
    if (!capture_is_one_error(text, parts)) fail_msg("wanted one line with '%s', got: %s", parts[0], text);
    assert_int_equal(status, SQ_ERR_INPUT);
}

/* What the tensors are is told from what config.json says of them: message NULL where the two go together. */
static inline void check_settings(const struct form *form, const void *layer, const char *message)
{
    struct folder folder;
    const char *text;
    const struct sq_checkpoint_linear linear = linear_of(form);
    enum sq_status status = try_layer(form, layer, &linear, NULL, &folder, &text);
    const char *const parts[4] = {folder.path, "config.json", message};
    if (message ? !capture_is_one_error(text, parts) : *text != 0)
        fail_msg("wanted '%s', got: %s", message ? message : "nothing", text);
    assert_int_equal(status, message ? SQ_ERR_INPUT : SQ_OK);
}

#endif
