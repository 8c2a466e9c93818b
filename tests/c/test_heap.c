/* The timer heap against an array that is searched. */
#define _GNU_SOURCE
#include "heap.h"
#include "runner.h"

#include <stddef.h>
#include <stdlib.h>

enum { COUNT = 300 };

static int64_t earliest(const struct pf__timer *timers)
{
    int64_t at = PF_NEVER;
    for (int i = 0; i < COUNT; i++)
        if (timers[i].at < at)
            at = timers[i].at;
    return at;
}

TEST(random_against_an_array)
{
    static struct pf__timer timers[COUNT];
    struct pf__heap heap = {NULL};
    srandom(2);
    for (int i = 0; i < COUNT; i++)
        pf__timer_init(&timers[i], i);
    for (int round = 0; round < 200000; round++) {
        struct pf__timer *timer = &timers[random() % COUNT];
        switch (random() % 4) {
        case 0:
            pf__timer_stop(&heap, timer);
            CHECK(timer->at == PF_NEVER);
            break;
        case 1:
            if (heap.first != NULL)
                pf__timer_stop(&heap, heap.first);
            break;
        default:
            pf__timer_set(&heap, timer, random() % 1000);
            break;
        }
        CHECK_EQ(heap.first != NULL ? heap.first->at : PF_NEVER, earliest(timers));
    }
    int64_t before = 0;
    while (heap.first != NULL) { /* they come out in order */
        CHECK(heap.first->at >= before);
        before = heap.first->at;
        pf__timer_stop(&heap, heap.first);
    }
    CHECK(earliest(timers) == PF_NEVER);
}

TEST(never_is_not_in_the_heap)
{
    struct pf__heap heap = {NULL};
    struct pf__timer timer;
    pf__timer_init(&timer, 7);
    pf__timer_set(&heap, &timer, PF_NEVER);
    CHECK(heap.first == NULL);
    pf__timer_stop(&heap, &timer);
    pf__timer_set(&heap, &timer, 5);
    pf__timer_set(&heap, &timer, PF_NEVER);
    CHECK(heap.first == NULL);
    CHECK_EQ(timer.kind, 7);
}
