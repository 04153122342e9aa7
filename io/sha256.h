/* SHA-256 (FIPS 180-4), by which `shardq tokenize` remembers files. */
#ifndef SQ_IO_SHA256_H
#define SQ_IO_SHA256_H

#include <stddef.h>
#include <stdint.h>

struct sq_sha256 {
    uint32_t state[8];
    uint64_t bytes;    /* so far */
    uint8_t block[64]; /* the last bytes % 64 of them */
};

void sq_sha256_begin(struct sq_sha256 *sha);
void sq_sha256_add(struct sq_sha256 *sha, const void *data, size_t bytes);

/* 64 digits and a zero. */
void sq_sha256_end(struct sq_sha256 *sha, char hex[65]);

#endif
