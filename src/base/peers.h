/* Signs of life that the ranks of one node give each other in memory that they share: one that waits in vain for others
 * can say who is silent without a call that might itself wait. Local. */
#ifndef SQ_BASE_PEERS_H
#define SQ_BASE_PEERS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

/* What a rank shows. All zero: it has not begun. */
struct sq_peer_sign {
    atomic_uint beats; /* counted up ten times a second while the process runs */
    atomic_uint waits; /* whether it waits for other ranks */
    atomic_uint spoke; /* of the first one's alone: whether a rank of the node has said that it waited in vain */
};

/* The ranks of this node. */
struct sq_peers {
    struct sq_peer_sign *signs; /* [count], shared */
    unsigned *heard;            /* [count]: beats when sq_peers_listen() was called */
    int *ranks;                 /* [count]: in the world, ascending */
    int count, own;             /* own: this rank's place among them */
    bool are_all;               /* there are no other nodes */
    char node[64];              /* name of the node */
};

/* This rank runs, and waits or does not. */
void sq_peers_beat(const struct sq_peers *peers, bool waits);

/* From now on signs are missed that do not come. */
void sq_peers_listen(const struct sq_peers *peers);

/* Who is silent, or why nobody is known to be, as the rest of a sentence; whether somebody is. To be called some
 * seconds after sq_peers_listen(). */
bool sq_peers_find_silent(const struct sq_peers *peers, char *text, size_t bytes);

/* Whether this rank is the first of the node that asks, and so the one to speak: it then ends, and others would take it
 * for lost. */
bool sq_peers_may_speak(const struct sq_peers *peers);

#endif
