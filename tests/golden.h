/* The golden models of tests/golden: folder, tokens, and the logits that transformers computed in float32. */
#ifndef SQ_TESTS_GOLDEN_H
#define SQ_TESTS_GOLDEN_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN_MAX 64

struct golden {
    char name[64], folder[1024];
    int64_t n_samples, length, vocab;
    int32_t *ids;  /* [n_samples, length] */
    float *logits; /* [n_samples, length, vocab] */
};

/* A file of a model in tests/golden, or its folder (file NULL). SHARDQ_SOURCE: the source tree, from the build. */
static inline void golden_path(const char *name, const char *file, char path[1024])
{
    snprintf(path, 1024, "%s/tests/golden/%.63s%s%.255s", SHARDQ_SOURCE, name, file ? "/" : "", file ? file : "");
}

static inline void *golden_read(const char *name, const char *file, size_t bytes)
{
    char path[1024];
    golden_path(name, file, path);
    void *data = malloc(bytes);
    FILE *stream = fopen(path, "rb");
    if (!stream || fread(data, 1, bytes, stream) != bytes || fgetc(stream) != EOF) {
        printf("cannot read %zu bytes of %s\n", bytes, path);
        abort();
    }
    fclose(stream);
    return data;
}

static inline void golden_load(struct golden *golden)
{
    size_t tokens = (size_t)(golden->n_samples * golden->length);
    golden_path(golden->name, NULL, golden->folder);
    golden->ids = golden_read(golden->name, "tokens.i32", tokens * sizeof *golden->ids);
    golden->logits = golden_read(golden->name, "logits.f32", tokens * (size_t)golden->vocab * sizeof *golden->logits);
}

static inline void golden_release(struct golden *golden)
{
    free(golden->ids);
    free(golden->logits);
}

/* Whether SHARDQ_TEST_MODELS asks for this model: names with ':' between them; unset: all. */
static inline bool golden_is_wanted(const char *name)
{
    const char *names = getenv("SHARDQ_TEST_MODELS");
    size_t length = strlen(name);
    for (const char *at = names; at; at = strchr(at, ':')) {
        at += *at == ':';
        if (!strncmp(at, name, length) && (at[length] == ':' || !at[length])) return true;
    }
    return !names;
}

/* All models of the manifest; returns how many there are. */
static inline int golden_list(struct golden list[GOLDEN_MAX])
{
    char path[1024];
    golden_path("manifest.txt", NULL, path);
    FILE *stream = fopen(path, "r");
    int n = 0;
    long long samples, length, vocab;
    if (!stream) abort();
    while (n < GOLDEN_MAX && fscanf(stream, "%63s %lld %lld %lld", list[n].name, &samples, &length, &vocab) == 4) {
        list[n].n_samples = samples;
        list[n].length = length;
        list[n++].vocab = vocab;
    }
    fclose(stream);
    return n;
}

/* The model of that name, loaded. */
static inline struct golden golden_find(const char *name)
{
    struct golden list[GOLDEN_MAX];
    int n = golden_list(list);
    for (int i = 0; i < n; i++)
        if (!strcmp(list[i].name, name)) {
            golden_load(&list[i]);
            return list[i];
        }
    abort();
}

#endif
