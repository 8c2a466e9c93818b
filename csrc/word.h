/* The 64-bit words that pool and workers race on: a sequence, a worker and a state, changed as one.
 *
 * Slot words stand in the task ring, one per slot; a page word stands in each worker's segment.
 * A sequence names one publication of one task and is never used again, so that a compare-and-swap
 * that expects a word can only succeed on that very publication (no ABA for 2^48 publications). */
#ifndef PF_WORD_H
#define PF_WORD_H

#include "prefork.h"

#include <stdint.h>

#define PF_NO_WORKER 4095u /* in the worker field of a word that belongs to nobody */

enum pf__slot_state { PF_EMPTY, PF_READY, PF_CLAIMED, PF_TAKEN, PF_WITHDRAWN };

enum pf__page_state {
    PF_STARTING,
    PF_IDLE,
    PF_LOADING,   /* claimed; the body is being fetched, no user code has run */
    PF_RUNNING,   /* user code: from unpickling the call to pickling its result */
    PF_DONE,      /* the encoded result is in hand and about to be published */
    PF_CONDEMNED, /* stored by the pool: the task is settled, the worker must end */
    PF_REVOKED    /* stored by the pool: the task was cancelled before its call began */
};

static inline uint64_t pf__word(uint64_t seq, uint32_t worker, uint32_t state)
{
    return seq << 16 | (uint64_t)(worker & 0xfffu) << 4 | (state & 0xfu);
}

static inline uint64_t pf__word_seq(uint64_t word)
{
    return word >> 16;
}

static inline uint32_t pf__word_worker(uint64_t word)
{
    return (uint32_t)(word >> 4) & 0xfffu;
}

static inline uint32_t pf__word_state(uint64_t word)
{
    return (uint32_t)word & 0xfu;
}

/* Of a page: whether the call has begun, whatever became of it since. */
static inline int pf__state_has_begun(uint32_t state)
{
    return state == PF_RUNNING || state == PF_DONE || state == PF_CONDEMNED;
}

#endif
