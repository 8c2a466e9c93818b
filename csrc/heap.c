/* The pairing heap of timers: insert and stop in constant time, the next one in O(log n) amortised.
 */
#include "heap.h"

#include <stddef.h>

void pf__timer_init(struct pf__timer *timer, int kind)
{
    *timer = (struct pf__timer){.at = PF_NEVER, .kind = kind};
}

static struct pf__timer *meld(struct pf__timer *a, struct pf__timer *b)
{
    if (a == NULL || b == NULL)
        return a != NULL ? a : b;
    if (b->at < a->at) {
        struct pf__timer *later = a;
        a = b;
        b = later;
    }
    b->next = a->child;
    if (b->next != NULL)
        b->next->previous = b;
    b->previous = a;
    a->child = b;
    return a;
}

/* Pairs siblings left to right, then melds the pairs right to left. */
static struct pf__timer *meld_children(struct pf__timer *child)
{
    struct pf__timer *pairs = NULL, *root = NULL;
    while (child != NULL) {
        struct pf__timer *a = child, *b = a->next;
        child = b != NULL ? b->next : NULL;
        a->next = a->previous = NULL;
        if (b != NULL)
            b->next = b->previous = NULL;
        struct pf__timer *pair = meld(a, b);
        pair->next = pairs;
        pairs = pair;
    }
    while (pairs != NULL) {
        struct pf__timer *pair = pairs;
        pairs = pair->next;
        pair->next = NULL;
        root = meld(root, pair);
    }
    return root;
}

void pf__timer_stop(struct pf__heap *heap, struct pf__timer *timer)
{
    if (timer->at == PF_NEVER)
        return;
    struct pf__timer *orphans = meld_children(timer->child);
    if (heap->first == timer) {
        heap->first = orphans;
    } else {
        if (timer->previous->child == timer)
            timer->previous->child = timer->next;
        else
            timer->previous->next = timer->next;
        if (timer->next != NULL)
            timer->next->previous = timer->previous;
        heap->first = meld(heap->first, orphans);
    }
    timer->at = PF_NEVER;
    timer->child = timer->next = timer->previous = NULL;
}

void pf__timer_set(struct pf__heap *heap, struct pf__timer *timer, int64_t at)
{
    pf__timer_stop(heap, timer);
    if (at == PF_NEVER)
        return;
    timer->at = at;
    heap->first = meld(heap->first, timer);
}
