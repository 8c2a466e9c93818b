/* The task ring: shared memory through which published tasks reach whichever worker is free first.
 *
 * Three areas. The pool's (head, tail, when to ring, and the bodies) is mapped read-only by
 * workers. The words, one to a cache line, are writable by all: a worker changes a word exactly
 * twice, READY to CLAIMED by compare-and-swap and CLAIMED to TAKEN. So after a crash the words say
 * what the dead worker held, and a wild write reaches at most words, which the pool checks before
 * it believes.
 *
 * This file is the pool's side and the layout; a worker's side is claim.h. */
#ifndef PF_RING_H
#define PF_RING_H

#include "word.h"

#include <stdatomic.h>
#include <stddef.h>

_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "words must be lock-free to be shared by processes");

#define PF_LINE 64

enum { PF_WORKER_BITS = (PF_MOST_WORKERS + 1) / 64 }; /* words with a bit per worker */

enum pf__body_flag {
    PF_BODY_TELL = 1,      /* announce the task when its call begins */
    PF_BODY_OUTSIDE = 2,   /* too large for the slot: ask for it by a NEED frame */
    PF_BODY_LOST = 1 << 16 /* times this: how often a worker died in it */
};

struct pf__body {
    uint64_t id; /* the task's id, copied into its result */
    uint32_t size, flags;
    unsigned char bytes[];
};

struct pf__ring_pool {                        /* written by the pool, read by all */
    _Alignas(PF_LINE) _Atomic uint64_t tail;  /* one past the newest published sequence */
    _Alignas(PF_LINE) _Atomic uint64_t head;  /* nothing before it is READY: a hint for newborns */
    _Alignas(PF_LINE) _Atomic uint32_t armed; /* ring my bell: I am, or am about to be, asleep */
    _Atomic int64_t looks_at; /* but not for a mere start before then: I shall look by myself */
    _Atomic uint32_t awaited; /* a caller waits, for no more tasks than there are workers */
    uint32_t slots, body_size;
    _Alignas(PF_LINE) unsigned char bodies[];
};

struct pf__slot {
    _Alignas(PF_LINE) _Atomic uint64_t word;
};

struct pf__ring_words {                                          /* written by all */
    _Alignas(PF_LINE) _Atomic uint64_t sleepers[PF_WORKER_BITS]; /* a hint: it may be called */
    _Alignas(PF_LINE) _Atomic uint64_t news[PF_WORKER_BITS]; /* its segment is to be looked at */
    /* A hint: it spins, and need not be called; nor need another for what it takes. */
    _Alignas(PF_LINE) _Atomic uint64_t spinners[PF_WORKER_BITS];
    struct pf__slot slot[];
};

struct pf__ring {
    struct pf__ring_pool *pool;
    struct pf__ring_words *words;
    size_t pool_size, words_size;
    int pool_fd, words_fd; /* -1 in workers, who close them once mapped */
    uint32_t slots, body_size;
};

/* `slots` must be a power of two, `body_size` a multiple of eight (bytes, header included).
 * Sequences begin at 1. 0, or -1 with errno. */
int pf__ring_create(struct pf__ring *ring, uint32_t slots, uint32_t body_size);

/* In a worker: maps what the pool created, and closes the descriptors. 0, or -1 with errno. */
int pf__ring_open(struct pf__ring *ring, int pool_fd, int words_fd);
void pf__ring_close(struct pf__ring *ring);
void pf__ring_close_fds(struct pf__ring *ring); /* no more workers will be given it */

static inline _Atomic uint64_t *pf__ring_word(const struct pf__ring *ring, uint64_t seq)
{
    return &ring->words->slot[seq & (ring->slots - 1)].word;
}

static inline struct pf__body *pf__ring_body(const struct pf__ring *ring, uint64_t seq)
{
    return (void *)(ring->pool->bodies + (size_t)(seq & (ring->slots - 1)) * ring->body_size);
}

/* Whether one of the first so many workers has its bit there. */
static inline int pf__ring_any(const _Atomic uint64_t *bits, uint32_t workers)
{
    uint64_t any = 0;
    for (uint32_t i = 0; i * 64 < workers; i++)
        any |= atomic_load_explicit(&bits[i], memory_order_relaxed);
    return any != 0;
}

/* The pool's steps. Publishing puts the body in place, makes the word READY and moves the tail;
 * the caller has seen that the slot is reusable. `data` of NULL: the body stays outside. */
void pf__ring_publish(struct pf__ring *ring, uint64_t seq, uint64_t id, const void *data,
                      uint32_t size, uint32_t flags);
void pf__ring_skip(struct pf__ring *ring, uint64_t seq); /* burns a sequence whose slot is held */
int pf__ring_fits(const struct pf__ring *ring, size_t size);
int pf__ring_cancel(struct pf__ring *ring, uint64_t seq); /* 1 if it was still READY */

/* After a worker's confirmed death: the slots it died holding (one, if it kept to the protocol)
 * become reusable. */
void pf__ring_release(struct pf__ring *ring, uint32_t worker);

#endif
