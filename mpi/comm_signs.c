#define _POSIX_C_SOURCE 200809L
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/peers.h"
#include "base/watch.h"
#include "mpi/comm.h"

#define NAME_BYTES 64

/* Memory of that name, all zero when it is new; NULL: there can be none. */
static void *map(const char *name, int flags, size_t bytes)
{
    int file = shm_open(name, flags, 0600);
    if (file < 0) return NULL;
    void *memory = MAP_FAILED;
    /* all of it now: a page for which there is no more room would be a bus error when it is used */
    if (!(flags & O_CREAT) || posix_fallocate(file, 0, (off_t)bytes) == 0)
        memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (memory != MAP_FAILED) return memory;
    if (flags & O_CREAT) shm_unlink(name);
    return NULL;
}

/* The node's first rank makes the memory; its name is gone as soon as all have it. NULL: this rank has none. */
static enum sq_status share(const struct sq_comm *node, size_t bytes, void **memory_p)
{
    char name[NAME_BYTES];
    void *memory = NULL;
    snprintf(name, sizeof name, "/shardq.%ld", (long)getpid());
    if (node->rank == 0) memory = map(name, O_CREAT | O_EXCL | O_RDWR, bytes);
    bool is_made = memory != NULL;
    if (!is_made) name[0] = '\0'; /* of which there is no memory */
    SQ_TRY(sq_comm_broadcast(node, 0, name, sizeof name));
    if (node->rank > 0) memory = map(name, O_RDWR, bytes);
    SQ_TRY(sq_comm_barrier(node));
    if (is_made) shm_unlink(name);
    *memory_p = memory;
    return SQ_OK;
}

static enum sq_status find_ranks(const struct sq_comm *node, int own, int *ranks)
{
    int64_t *all;
    void *memory = NULL;
    SQ_TRY(sq_comm_agree(node, sq_alloc("ranks of the node", node->size, sizeof *all, &memory)));
    all = memory;
    all[node->rank] = own;
    enum sq_status status = sq_comm_sum_i64(node, all, node->size);
    for (int i = 0; i < node->size; i++)
        ranks[i] = (int)all[i];
    sq_free(memory);
    return status;
}

static void release(struct sq_peers *peers)
{
    sq_free(peers->ranks);
    sq_free(peers->heard);
    sq_free(peers);
}

static enum sq_status make_peers(const struct sq_comm *node, bool are_all, struct sq_peers **peers_p)
{
    void *memory = NULL, *heard = NULL, *ranks = NULL;
    SQ_TRY(sq_alloc("the ranks of the node", 1, sizeof(struct sq_peers), &memory));
    struct sq_peers *peers = memory;
    enum sq_status status = sq_alloc("signs of the ranks", node->size, sizeof *peers->heard, &heard);
    peers->heard = heard;
    if (status == SQ_OK) status = sq_alloc("the ranks of the node", node->size, sizeof *peers->ranks, &ranks);
    peers->ranks = ranks;
    peers->count = node->size;
    peers->own = node->rank;
    peers->are_all = are_all;
    if (gethostname(peers->node, sizeof peers->node - 1) != 0) snprintf(peers->node, sizeof peers->node, "this node");
    if (status == SQ_OK)
        *peers_p = peers;
    else
        release(peers);
    return status;
}

static enum sq_status show(const struct sq_comm *comm, const struct sq_comm *node)
{
    struct sq_peers *peers = NULL;
    void *signs = NULL;
    if (node->size == 1) return SQ_OK;
    enum sq_status status = sq_comm_agree(node, make_peers(node, node->size == comm->size, &peers));
    if (status == SQ_OK) status = find_ranks(node, comm->rank, peers->ranks);
    if (status == SQ_OK) status = share(node, (size_t)node->size * sizeof *peers->signs, &signs);
    if (status != SQ_OK || !signs) {
        if (peers) release(peers);
        return status;
    }
    peers->signs = signs;
    sq_watch_set_peers(peers);
    return SQ_OK;
}

enum sq_status sq_comm_show_signs(const struct sq_comm *comm)
{
    struct sq_comm node;
    if (comm->size == 1) return SQ_OK;
    SQ_TRY(sq_comm_split_node(comm, &node));
    enum sq_status status = show(comm, &node);
    sq_comm_free(&node);
    return sq_comm_agree(comm, status);
}
