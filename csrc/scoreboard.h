/* A worker's own segment: its page (what it is doing, in words) and its result ring.
 *
 * Made anew for every worker process and never handed to a successor, so nobody but that process
 * and the pool ever has it mapped. */
#ifndef PF_SCOREBOARD_H
#define PF_SCOREBOARD_H

#include "ring.h"

#include <sys/types.h>

enum pf__control {
    PF_CTL_RETIRE = 1, /* end after the present task, claim no more */
    PF_CTL_HOLD = 2    /* claim nothing as yet */
};

struct pf__record { /* a result in the ring, 8-aligned, its bytes behind it */
    uint64_t seq, id;
    int64_t started; /* CLOCK_MONOTONIC ns */
    uint32_t size, outcome;
};

/* ns by which limits can be moved at most: 36 years, and no sum with it overflows */
#define PF_MOST_EXTENDED ((int64_t)1 << 60)

struct pf__segment {
    /* Worker to pool: the line that the pool reads when it looks. */
    _Alignas(PF_LINE) _Atomic uint64_t page; /* pf__word of the task it holds */
    _Atomic uint64_t results_tail;           /* bytes ever put into the result ring */
    _Atomic uint64_t asleep;                 /* number of the present sleep, 0 awake */
    _Atomic int64_t started_at;              /* of the present task */
    _Atomic int64_t extended;                /* ns by which it has moved its own limits */
    _Atomic uint64_t answered;               /* the sequence whose stacks are in the crash log */
    _Atomic uint32_t rung;                   /* it has rung; cleared by the pool */
    _Atomic uint32_t want_space;             /* blocked on a full result ring */
    _Atomic uint32_t claims_left;            /* 0: claims no more; UINT32_MAX: no bound */
    _Atomic int32_t pid;                     /* the first store of a newborn */
    /* Pool to worker. */
    _Alignas(PF_LINE) _Atomic uint32_t control;
    _Atomic uint64_t softened;     /* the sequence whose soft limit is up */
    _Atomic int64_t soft_limit;    /* ns */
    _Atomic uint64_t results_head; /* bytes ever taken out */
    uint32_t results_size;         /* a power of two */
    _Alignas(PF_LINE) unsigned char results[];
};

struct pf__scoreboard {
    struct pf__segment *segment;
    size_t size;
    int fd;
    /* Each side's own copies, so that a wild write in the segment cannot lead it astray. */
    uint32_t mask;
    uint64_t cursor; /* of the worker: bytes put in; of the pool: bytes taken out */
};

/* The pool creates, the worker opens (and closes the descriptor). 0, or -1 with errno. */
int pf__scoreboard_create(struct pf__scoreboard *board, uint32_t results_size, uint32_t claims);
int pf__scoreboard_open(struct pf__scoreboard *board, int fd);
void pf__scoreboard_close(struct pf__scoreboard *board);

/* Worker: puts a result into the ring. 1, or 0 if there is no room now, or -1 with errno E2BIG if
 * there never will be. */
int pf__results_put(struct pf__scoreboard *board, const struct pf__record *record,
                    const void *data);

/* Pool: takes the next result that ends at or before `tail`, a value of results_tail read earlier.
 * 1 with `*data` malloc'd (NULL for none, and for want of memory), 0 if there is none, -1 with
 * errno EPROTO if the ring holds nonsense. */
int pf__results_take(struct pf__scoreboard *board, uint64_t tail, struct pf__record *record,
                     void **data);

static inline uint64_t pf__results_tail(const struct pf__scoreboard *board)
{
    return atomic_load_explicit(&board->segment->results_tail, memory_order_acquire);
}

static inline int pf__results_pending(const struct pf__scoreboard *board)
{
    return pf__results_tail(board) != board->cursor;
}

#endif
