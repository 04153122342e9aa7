#include "base/peers.h"

#include <stdio.h>
#include <string.h>

#define MOST_NAMED 8 /* ranks */

enum silence { SILENT_NOT, SILENT_GONE, SILENT_AT_WORK };

void sq_peers_beat(const struct sq_peers *peers, bool waits)
{
    struct sq_peer_sign *sign = &peers->signs[peers->own];
    atomic_store_explicit(&sign->waits, waits, memory_order_relaxed);
    atomic_fetch_add_explicit(&sign->beats, 1, memory_order_relaxed);
}

void sq_peers_listen(const struct sq_peers *peers)
{
    for (int i = 0; i < peers->count; i++)
        peers->heard[i] = atomic_load_explicit(&peers->signs[i].beats, memory_order_relaxed);
}

/* One that never gave a sign cannot give any. */
static enum silence silence_of(const struct sq_peers *peers, int i)
{
    unsigned beats = atomic_load_explicit(&peers->signs[i].beats, memory_order_relaxed);
    if (i == peers->own || beats == 0) return SILENT_NOT;
    if (beats == peers->heard[i]) return SILENT_GONE;
    return atomic_load_explicit(&peers->signs[i].waits, memory_order_relaxed) ? SILENT_NOT : SILENT_AT_WORK;
}

static void append(char *text, size_t bytes, const char *more)
{
    size_t used = strlen(text);
    snprintf(text + used, bytes - used, "%s", more);
}

/* "rank 2 of node7" or "ranks 1, 2 and 3 more of node7"; returns how many they are. */
static int append_ranks(const struct sq_peers *peers, enum silence kind, char *text, size_t bytes)
{
    char names[160] = "", more[96] = "";
    int count = 0;
    for (int i = 0; i < peers->count; i++) {
        if (silence_of(peers, i) != kind || ++count > MOST_NAMED) continue;
        snprintf(more, sizeof more, "%s%d", count > 1 ? ", " : "", peers->ranks[i]);
        append(names, sizeof names, more);
    }
    if (count == 0) return 0;
    append(text, bytes, count > 1 ? "; ranks " : "; rank ");
    append(text, bytes, names);
    more[0] = '\0';
    if (count > MOST_NAMED) snprintf(more, sizeof more, " and %d more", count - MOST_NAMED);
    append(text, bytes, more);
    snprintf(more, sizeof more, " of %s", peers->node);
    append(text, bytes, more);
    return count;
}

bool sq_peers_find_silent(const struct sq_peers *peers, char *text, size_t bytes)
{
    text[0] = '\0';
    int gone = append_ranks(peers, SILENT_GONE, text, bytes);
    if (gone > 0) append(text, bytes, gone > 1 ? " give no sign of life" : " gives no sign of life");
    int at_work = append_ranks(peers, SILENT_AT_WORK, text, bytes);
    if (at_work > 0) append(text, bytes, at_work > 1 ? " are still at work" : " is still at work");
    if (gone + at_work > 0) return true;
    snprintf(text, bytes, "; all %d ranks of %s wait%s", peers->count, peers->node,
             peers->are_all ? "" : ", so look at the other nodes");
    return false;
}

bool sq_peers_may_speak(const struct sq_peers *peers)
{
    return atomic_exchange(&peers->signs[0].spoke, 1) == 0;
}
