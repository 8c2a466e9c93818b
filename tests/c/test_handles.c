/* Task ids: found while they live, never again after, never zero, never twice. */
#define _GNU_SOURCE
#include "handles.h"
#include "runner.h"

#include <stdlib.h>

TEST(an_id_finds_its_object_until_removed)
{
    struct pf__handles handles = {0};
    int a, b;
    uint64_t id_a = pf__handles_add(&handles, &a), id_b = pf__handles_add(&handles, &b);
    CHECK(id_a != 0 && id_b != 0 && id_a != id_b);
    CHECK(pf__handles_find(&handles, id_a) == &a);
    CHECK(pf__handles_find(&handles, id_b) == &b);
    pf__handles_remove(&handles, id_a);
    CHECK(pf__handles_find(&handles, id_a) == NULL);
    uint64_t next = pf__handles_add(&handles, &b);
    CHECK(next != id_a);
    CHECK(pf__handles_find(&handles, id_a) == NULL);
    CHECK(pf__handles_find(&handles, next) == &b);
    pf__handles_clear(&handles);
}

TEST(nonsense_finds_nothing)
{
    struct pf__handles handles = {0};
    int a;
    CHECK(pf__handles_find(&handles, 0) == NULL);
    uint64_t id = pf__handles_add(&handles, &a);
    CHECK(pf__handles_find(&handles, 0) == NULL);
    CHECK(pf__handles_find(&handles, UINT64_MAX) == NULL);
    CHECK(pf__handles_find(&handles, id + 1) == NULL);
    CHECK(pf__handles_find(&handles, id + ((uint64_t)1 << 32)) == NULL);
    pf__handles_remove(&handles, id);
    pf__handles_remove(&handles, id); /* twice: the place must not be free twice */
    uint64_t first = pf__handles_add(&handles, &a), second = pf__handles_add(&handles, &a);
    CHECK((uint32_t)first != (uint32_t)second);
    pf__handles_clear(&handles);
}

TEST(random_against_an_array)
{
    enum { COUNT = 500, ROUNDS = 200000 };
    static uint64_t ids[COUNT];
    static int objects[COUNT];
    struct pf__handles handles = {0};
    srandom(1);
    for (int i = 0; i < ROUNDS; i++) {
        int at = (int)(random() % COUNT);
        if (ids[at] == 0) {
            ids[at] = pf__handles_add(&handles, &objects[at]);
            CHECK(ids[at] != 0);
        } else {
            CHECK(pf__handles_find(&handles, ids[at]) == &objects[at]);
            pf__handles_remove(&handles, ids[at]);
            CHECK(pf__handles_find(&handles, ids[at]) == NULL);
            ids[at] = 0;
        }
    }
    CHECK(handles.count <= COUNT);
    pf__handles_clear(&handles);
}
