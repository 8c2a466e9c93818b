/* Pieces of slabs: none overlaps another, and what is given back goes back. */
#define _GNU_SOURCE
#include "runner.h"
#include "slab.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { SMALL = 250, MANY = 10000 };

static void *filled(struct pf__slabs *slabs, size_t size, int with)
{
    unsigned char *piece = pf__slabs_take(slabs, size);
    CHECK(piece != NULL && (uintptr_t)piece % sizeof(void *) == 0);
    memset(piece, with, size);
    return piece;
}

static void check(const unsigned char *piece, size_t size, int with)
{
    for (size_t i = 0; i < size; i++)
        CHECK(piece[i] == (unsigned char)with);
}

TEST(random_pieces_keep_what_is_written)
{
    enum { COUNT = 3000, ROUNDS = 300000, LARGEST = 1300 };
    static unsigned char *pieces[COUNT];
    static size_t sizes[COUNT];
    struct pf__slabs slabs = {0};
    srandom(1);
    for (int i = 0; i < ROUNDS; i++) {
        int at = (int)(random() % COUNT);
        if (pieces[at] == NULL) {
            sizes[at] = (size_t)random() % LARGEST;
            pieces[at] = filled(&slabs, sizes[at], at);
        } else {
            check(pieces[at], sizes[at], at);
            pf__slabs_give(pieces[at]);
            pieces[at] = NULL;
        }
    }
    for (int at = 0; at < COUNT; at++)
        pf__slabs_give(pieces[at]);
    CHECK(slabs.count <= PF_SLAB_MOST / PF_SLAB_STEP); /* an empty one of each size is kept */
    pf__slabs_clear(&slabs);
    CHECK(slabs.count == 0);
}

TEST(many_go_as_they_came_and_their_slabs_with_them)
{
    static void *pieces[MANY];
    struct pf__slabs slabs = {0};
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < MANY; i++)
            pieces[i] = filled(&slabs, SMALL, i);
        size_t most = slabs.count;
        CHECK(most > 1 && most <= MANY * (size_t)(SMALL + PF_SLAB_STEP + 8) / 65000 + 1);
        for (int i = 0; i < MANY / 2; i++)
            pf__slabs_give(pieces[i]);
        CHECK(slabs.count <= most / 2 + 2);
        for (int i = MANY / 2; i < MANY; i++)
            pf__slabs_give(pieces[i]);
        CHECK(slabs.count == 1);
    }
    pf__slabs_clear(&slabs);
}

TEST(one_at_a_time_costs_no_slab_each)
{
    struct pf__slabs slabs = {0};
    void *first = pf__slabs_take(&slabs, SMALL);
    pf__slabs_give(first);
    for (int i = 0; i < MANY; i++) {
        void *piece = pf__slabs_take(&slabs, SMALL);
        CHECK(piece == first);
        pf__slabs_give(piece);
        CHECK(slabs.count == 1);
    }
    pf__slabs_clear(&slabs);
}

TEST(a_large_one_belongs_to_no_slab)
{
    struct pf__slabs slabs = {0};
    void *large = filled(&slabs, PF_SLAB_MOST, 1), *alone = pf__slabs_take_alone(SMALL);
    CHECK(slabs.count == 0 && alone != NULL);
    pf__slabs_give(large);
    pf__slabs_give(alone);
    pf__slabs_give(NULL);
    CHECK(pf__slabs_take(&slabs, SIZE_MAX - 4) == NULL);
    pf__slabs_clear(&slabs);
}
