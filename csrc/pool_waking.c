/* Who is called out of his sleep, when tasks are READY, and when that can wait.
 *
 * To wake a worker costs more than a short task does, here and there. So while such come in numbers
 * few are called at a time. */
#define _GNU_SOURCE
#include "platform.h"
#include "pool.h"

enum { CALL_INTERVAL = 200000, SEEK_INTERVAL = 100000000 }; /* ns */

/* After a submission: whether somebody will soon look who calls, the caller when he waits, or else
 * the driver. Nor is one called if another spins. */
int pf__pool_calls_can_wait(pf_pool *pool)
{
    if (!pool->driver_runs || (pool->driving && !pool->driver_gathers))
        return 0;
    if (pf__pool_spinners_suffice(pool))
        return 1;
    if (!pf__supervisor_tasks_are_brief(&pool->sup) || pool->driver_naps)
        return 0;
    if (pool->sup.now - pool->called_at < CALL_INTERVAL)
        return 1;
    pool->called_at = pool->sup.now;
    return 0;
}

static int all_sleep(const pf_pool *pool)
{
    const _Atomic uint64_t *sleepers = pool->ring.words->sleepers;
    uint32_t asleep = 0;
    for (uint32_t i = 0; i * 64 < pool->sup.seat_count; i++)
        asleep += (uint32_t)__builtin_popcountll(
            atomic_load_explicit(&sleepers[i], memory_order_relaxed));
    return asleep >= pool->sup.live && pool->sup.called_count == 0;
}

/* How many more may be called now. Who does brief tasks takes one after the other, so workers
 * beyond the processors only take those from each other, and all fall asleep at the end of each
 * burst: as many as there are processors may be called in an interval. If in the last one nothing
 * was settled they may all have begun something long, and it is twice as many. But while all sleep
 * one is called however many were: READY tasks wait for no timer then, nor for a guest's loop. */
static uint32_t calls_left(pf_pool *pool)
{
    if (!pf__supervisor_tasks_are_brief(&pool->sup) || !(pool->guest || pool->driver_runs))
        return UINT32_MAX;
    struct pf__calls *calls = &pool->calls;
    if (pool->sup.now - calls->since >= CALL_INTERVAL) {
        uint64_t settled = pool->counts.submitted - pool->sup.unfinished;
        if (settled != calls->settled)
            calls->most = pf__processors();
        else if (calls->most < PF_MOST_WORKERS)
            calls->most *= 2;
        calls->settled = settled;
        calls->since = pool->sup.now;
        calls->made = 0;
    }
    return calls->made < calls->most ? calls->most - calls->made : (uint32_t)all_sleep(pool);
}

static uint64_t nap_of(const struct pf__child *child)
{
    return child->board.segment == NULL
               ? 0
               : atomic_load_explicit(&child->board.segment->asleep, memory_order_relaxed);
}

/* Whether it is asleep, and was called. */
static int call(pf_pool *pool, uint32_t index)
{
    struct pf__child *child = (struct pf__child *)pool->seats[index];
    if (!pf__supervisor_sleeper_seen(&pool->sup, &child->seat, nap_of(child)))
        return 0;
    pf__child_send(pool, child, PF_FRAME_BELL, 0);
    return 1;
}

/* All workers can write to the bits. Whose was lost to a wild write is found by his own word. */
static void seek_sleepers(pf_pool *pool)
{
    if (pool->sup.now - pool->calls.sought_at < SEEK_INTERVAL)
        return;
    pool->calls.sought_at = pool->sup.now;
    for (uint32_t i = 0; i < pool->sup.seat_count; i++) {
        const struct pf__child *child = (const struct pf__child *)pool->seats[i];
        if (child->seat.state == PF_SEAT_UP && nap_of(child) != 0)
            atomic_fetch_or(&pool->ring.words->sleepers[i / 64], (uint64_t)1 << i % 64);
    }
}

static void call_those_seen(pf_pool *pool)
{
    struct pf__supervisor *sup = &pool->sup;
    const _Atomic uint64_t *sleepers = pool->ring.words->sleepers;
    uint32_t left = calls_left(pool);
    for (uint32_t i = 0; i * 64 < sup->seat_count; i++) {
        uint64_t bits = atomic_load_explicit(&sleepers[i], memory_order_relaxed);
        for (; bits != 0 && pf__supervisor_wants_sleepers(sup); bits &= bits - 1) {
            uint32_t index = i * 64 + (uint32_t)__builtin_ctzll(bits);
            if (index >= sup->seat_count)
                break;
            if (left == 0) {
                pool->calls.again_at = pool->calls.since + CALL_INTERVAL;
                return;
            }
            uint32_t called = (uint32_t)call(pool, index);
            pool->calls.made += called;
            left -= called;
        }
    }
}

/* After publishing: the fence makes "store READY, look for sleepers" and the worker's "announce
 * sleep, look for READY" exclude that both see nothing. */
void pf__pool_call_sleepers(pf_pool *pool)
{
    struct pf__supervisor *sup = &pool->sup;
    pool->calls.again_at = PF_NEVER;
    if (sup->ready == 0)
        return;
    atomic_thread_fence(memory_order_seq_cst);
    for (struct pf__seat *seat = sup->called, *next; seat != NULL; seat = next) {
        next = seat->next_called;
        pf__supervisor_nap_seen(sup, seat, nap_of((struct pf__child *)seat));
    }
    if (!pf__supervisor_wants_sleepers(sup))
        return;
    seek_sleepers(pool);
    if (pf__ring_any(pool->ring.words->sleepers, sup->seat_count))
        call_those_seen(pool);
    if (pool->calls.again_at == PF_NEVER && pf__supervisor_wants_sleepers(sup))
        pool->calls.again_at = pool->calls.sought_at + SEEK_INTERVAL;
}
