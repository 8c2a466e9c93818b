/* The pool's part in spinning: who waits looks a little before he sleeps, and says that he waits,
 * so that workers do, too; and whether their spinning will do instead of a call. */
#define _GNU_SOURCE
#include "platform.h"
#include "pool.h"

void pf__pool_is_awaited(pf_pool *pool, uint32_t awaited)
{
    if (pool->awaited != awaited)
        atomic_store_explicit(&pool->ring.pool->awaited, awaited, memory_order_relaxed);
    pool->awaited = awaited;
}

/* A caller who waits for no more tasks than there are workers waits for each of them. */
static uint32_t is_awaited(const pf_pool *pool)
{
    return !pool->by_driver && pool->sup.unfinished > 0 && pool->sup.unfinished <= pool->sup.live;
}

int pf__pool_spin(pf_pool *pool, int64_t deadline)
{
    pf__pool_is_awaited(pool, is_awaited(pool));
    if (!pool->awaited || !pf__spin_pays(&pool->spin))
        return 0;
    const _Atomic uint64_t *news = pool->ring.words->news;
    uint32_t workers = pool->sup.seat_count;
    uint64_t rouses = atomic_load(&pool->rouses);
    int64_t until = pf__now() + PF_SPIN;
    int found, late;
    until = until < deadline ? until : deadline;
    pthread_mutex_unlock(&pool->lock);
    do {
        pf__spin_once(&pool->spin);
        late = pf__now() >= until || atomic_load(&pool->rouses) != rouses;
        found = pf__ring_any(news, workers);
    } while (!found && !late);
    pthread_mutex_lock(&pool->lock);
    pf__spin_ended(&pool->spin, found);
    return found;
}

int pf__pool_spinners_suffice(const pf_pool *pool)
{
    uint32_t spinners = 0;
    for (uint32_t i = 0; i * 64 < pool->sup.seat_count; i++)
        spinners += (uint32_t)__builtin_popcountll(
            atomic_load_explicit(&pool->ring.words->spinners[i], memory_order_relaxed));
    return pool->sup.ready <= spinners;
}
