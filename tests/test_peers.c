/* What a rank says of those on its node that are silent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/peers.h"

enum { COUNT = 14 };

struct node {
    struct sq_peer_sign signs[COUNT];
    unsigned heard[COUNT];
    int ranks[COUNT];
    struct sq_peers peers[COUNT]; /* as each rank has them */
};

/* Ranks 100, 101 ... of one node, which have all begun and wait. */
static void begin(struct node *node, int count)
{
    memset(node, 0, sizeof *node);
    for (int i = 0; i < count; i++) {
        node->ranks[i] = 100 + i;
        node->peers[i] = (struct sq_peers){node->signs, node->heard, node->ranks, count, i, false, "node7"};
        sq_peers_beat(&node->peers[i], true);
    }
}

/* Rank 0 listens, then the others give signs: '.' waits, 'w' works, ' ' gives none. */
static void expect(struct node *node, const char *signs, bool is_silent, const char *wanted)
{
    char text[320];
    sq_peers_listen(&node->peers[0]);
    for (int i = 0; signs[i]; i++)
        if (signs[i] != ' ') sq_peers_beat(&node->peers[i], signs[i] == '.');
    assert_int_equal(sq_peers_find_silent(&node->peers[0], text, sizeof text), is_silent);
    assert_string_equal(text, wanted);
}

static void test_silent_ranks_are_named(void **state)
{
    (void)state;
    struct node node;
    begin(&node, 4);
    expect(&node, ".. .", true, "; rank 102 of node7 gives no sign of life");
    expect(&node, ".w..", true, "; rank 101 of node7 is still at work");
    expect(&node, ".w ", true, "; ranks 102, 103 of node7 give no sign of life; rank 101 of node7 is still at work");
    expect(&node, "....", false, "; all 4 ranks of node7 wait, so look at the other nodes");
    for (int i = 0; i < 4; i++)
        node.peers[i].are_all = true;
    expect(&node, "....", false, "; all 4 ranks of node7 wait");
}

/* One that has never given a sign may have no memory for it; and of many some are named. */
static void test_unknown_and_many_ranks(void **state)
{
    (void)state;
    struct node node;
    begin(&node, COUNT);
    node.signs[1].beats = 0;
    expect(&node, ".", true, "; ranks 102, 103, 104, 105, 106, 107, 108, 109 and 4 more of node7 give no sign of life");
}

static void test_one_speaks(void **state)
{
    (void)state;
    struct node node;
    begin(&node, 3);
    assert_true(sq_peers_may_speak(&node.peers[1]));
    for (int i = 0; i < 3; i++)
        assert_false(sq_peers_may_speak(&node.peers[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_silent_ranks_are_named),
                                       cmocka_unit_test(test_unknown_and_many_ranks),
                                       cmocka_unit_test(test_one_speaks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
