/* Timers by time: a pairing heap threaded through its members, so that it needs no memory. */
#ifndef PF_HEAP_H
#define PF_HEAP_H

#include <stdint.h>

#define PF_NEVER INT64_MAX

struct pf__timer {
    int64_t at;                                /* PF_NEVER: not in the heap */
    struct pf__timer *child, *next, *previous; /* previous: the left sibling, or the parent */
    int kind;                                  /* what it is the timer of: the owner's business */
};

struct pf__heap {
    struct pf__timer *first; /* the earliest, or NULL */
};

void pf__timer_init(struct pf__timer *timer, int kind);
void pf__timer_set(struct pf__heap *heap, struct pf__timer *timer, int64_t at);
void pf__timer_stop(struct pf__heap *heap, struct pf__timer *timer);

#endif
