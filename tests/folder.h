/* A temporary folder of test files. */
#ifndef SQ_TESTS_FOLDER_H
#define SQ_TESTS_FOLDER_H

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct folder {
    char path[512];
};

static inline void folder_create(struct folder *folder)
{
    const char *base = getenv("TMPDIR");
    snprintf(folder->path, sizeof folder->path, "%s/shardq_test_XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(folder->path)) abort();
}

static inline const char *folder_file(const struct folder *folder, const char *name, char path[1024])
{
    snprintf(path, 1024, "%s/%s", folder->path, name);
    return path;
}

static inline void folder_write(const struct folder *folder, const char *name, const void *bytes, size_t size)
{
    char path[1024];
    FILE *file = fopen(folder_file(folder, name, path), "wb");
    if (!file || fwrite(bytes, 1, size, file) != size || fclose(file) != 0) abort();
}

static inline void folder_write_text(const struct folder *folder, const char *name, const char *text)
{
    folder_write(folder, name, text, strlen(text));
}

/* A safetensors file from its header and data. */
static inline void folder_write_tensors(const struct folder *folder, const char *name, const char *header,
                                        const void *data, size_t size)
{
    uint64_t length = strlen(header);
    unsigned char *bytes = malloc(8 + length + size);
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, length);
    if (size > 0) memcpy(bytes + 8 + length, data, size);
    folder_write(folder, name, bytes, 8 + length + size);
    free(bytes);
}

/* Removes the files in it and the folder. */
static inline void folder_remove(const struct folder *folder)
{
    DIR *directory = opendir(folder->path);
    if (!directory) return;
    for (struct dirent *entry; (entry = readdir(directory));) {
        char path[1024];
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            remove(folder_file(folder, entry->d_name, path));
    }
    closedir(directory);
    rmdir(folder->path);
}

#endif
