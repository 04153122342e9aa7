#define _POSIX_C_SOURCE 200809L
#define XXH_INLINE_ALL
#include "io/tokenizer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "io/map.h"

#define DIGITS 16

/* What stands in the line "tokenizer_xxh3: ..." of the provenance, up to its end; NULL: there is no such line. */
static const char *find_stated(const char *provenance)
{
    static const char key[] = "tokenizer_xxh3: ";
    const char *line = provenance;
    while (line && strncmp(line, key, sizeof key - 1) != 0) {
        line = strchr(line, '\n');
        if (line) line++;
    }
    return line ? line + sizeof key - 1 : NULL;
}

/* stated: what the tokens say of their own tokenizer, up to the end of the line. */
static enum sq_status compare(const char *stated, const char *path, const char *tokenizer)
{
    char found[DIGITS + 1];
    int length = (int)strcspn(stated, "\n");
    struct sq_map map;
    if (access(tokenizer, F_OK) != 0 && errno == ENOENT) return SQ_OK; /* other faults are for opening to tell */
    SQ_TRY(sq_map_open(tokenizer, &map));
    snprintf(found, sizeof found, "%016" PRIx64, (uint64_t)XXH3_64bits(map.data, map.bytes));
    sq_map_close(&map);
    if (length != DIGITS || memcmp(found, stated, DIGITS) != 0)
        sq_warning(SQ_WARNING_TOKENIZER, "%s: its tokens were made with another tokenizer than %s (XXH3 %.*s, not %s)",
                   path, tokenizer, length, stated, found);
    return SQ_OK;
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
