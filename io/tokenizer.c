#define _POSIX_C_SOURCE 200809L
#include "io/tokenizer.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "io/sha256.h"
#include "io/stale.h"

#define DIGITS 64

/* The digits in the line "tokenizer_sha256: ..." of the provenance; NULL: there is no such line. */
static const char *find_stated(const char *provenance)
{
    static const char key[] = "tokenizer_sha256: ";
    const char *line = provenance;
    while (line && strncmp(line, key, sizeof key - 1) != 0) {
        line = strchr(line, '\n');
        if (line) line++;
    }
    if (!line) return NULL;
    const char *digits = line + sizeof key - 1;
    return strspn(digits, "0123456789abcdef") == DIGITS ? digits : NULL;
}

static enum sq_status hash_file(int fd, const char *path, char hex[DIGITS + 1])
{
    struct sq_sha256 sha;
    char bytes[16384];
    ssize_t count;
    sq_sha256_begin(&sha);
    while ((count = read(fd, bytes, sizeof bytes)) != 0) {
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) {
            sq_error("cannot read %s: %s", path, strerror(errno));
            return SQ_ERR_IO;
        }
        sq_sha256_add(&sha, bytes, (size_t)count);
    }
    sq_sha256_end(&sha, hex);
    return SQ_OK;
}

/* stated: DIGITS of the tokens' own tokenizer. */
static enum sq_status compare(const char *stated, const char *path, const char *tokenizer)
{
    char found[DIGITS + 1];
    int fd = sq_stale_open(tokenizer, O_RDONLY);
    if (fd < 0 && errno == ENOENT) return SQ_OK;
    if (fd < 0) {
        sq_error("cannot open %s: %s", tokenizer, strerror(errno));
        return SQ_ERR_IO;
    }
    enum sq_status status = hash_file(fd, tokenizer, found);
    close(fd);
    if (status == SQ_OK && memcmp(found, stated, DIGITS) != 0)
        sq_warning("%s: its tokens were made with another tokenizer than %s (SHA-256 %.12s..., not %.12s...)", path,
                   tokenizer, stated, found);
    return status;
}

enum sq_status sq_tokenizer_compare(const struct sq_comm *comm, const struct sq_tokens *tokens, const char *path,
                                    const char *folder)
{
    const char *stated = find_stated(tokens->provenance);
    if (!stated) return SQ_OK; /* on all ranks */
    char *tokenizer = NULL;
    enum sq_status status = comm->rank == 0 ? sq_path_join(folder, "tokenizer.json", &tokenizer) : SQ_OK;
    if (tokenizer) status = compare(stated, path, tokenizer);
    sq_free(tokenizer);
    return sq_comm_agree(comm, status);
}
