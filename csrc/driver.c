/* The driver: a C thread that keeps the pool going while nobody waits on it.
 *
 * It never touches the interpreter, so an application that burns Python does not starve its own
 * workers. It takes the role of driving after a millisecond in which no caller polled (four, where
 * one has polled all the time), and gives it up at once to a caller who wants it. Idle, it sleeps
 * in the poll without a tick. */
#define _GNU_SOURCE
#include "platform.h"
#include "pool.h"
#include "process.h"

#include <errno.h>
#include <signal.h>

enum { TAKE_OVER = 1000000, MOST_NAP = 4 * TAKE_OVER, GATHER = 1000000 }; /* ns */
enum { BUSY_CALLER = 64 };                                                /* drives in a nap */

static const char NAME[] = "prefork-driver"; /* recovery.py knows it */

/* Waits until it looks as if nobody drives; ever longer where callers drive all the time, whom each
 * look takes a processor from. Called and left with the lock held. */
static int await_turn(pf_pool *pool, int64_t *nap)
{
    pool->driver_naps = *nap > TAKE_OVER;
    if (pool->driving || pool->claimants > 0) {
        pool->driver_parked = 1; /* woken when the role is given up */
        pthread_mutex_unlock(&pool->lock);
        while (pf__semaphore_wait(pool->driver_wake, -1) < 0 && errno == EINTR)
            ;
        pthread_mutex_lock(&pool->lock);
        pool->driver_parked = 0;
    }
    uint64_t drives = pool->drives;
    pthread_mutex_unlock(&pool->lock);
    (void)pf__semaphore_wait(pool->driver_wake, *nap);
    pthread_mutex_lock(&pool->lock);
    pool->driver_naps = 0;
    *nap = pool->drives - drives < BUSY_CALLER ? TAKE_OVER : *nap < MOST_NAP ? 2 * *nap : MOST_NAP;
    return !pool->driving && pool->claimants == 0 && pf__now() - pool->polled >= TAKE_OVER;
}

static void tell_of_events(pf_pool *pool)
{
    if (pool->event_count == 0)
        return;
    if (!atomic_exchange(&pool->gathering, 1))
        pf__semaphore_post(pool->gathered);
}

static void *drive(void *argument)
{
    pf_pool *pool = argument;
    int64_t nap = TAKE_OVER;
    pf__process_name(NAME);
    pthread_mutex_lock(&pool->lock);
    while (!pool->driver_stops) {
        if (!await_turn(pool, &nap))
            continue;
        pool->driving = pool->by_driver = 1;
        uint64_t settled = pool->counts.submitted - pool->sup.unfinished;
        while (!pool->driver_stops && pool->claimants == 0) {
            pf__pool_advance(pool);
            tell_of_events(pool);
            /* While results come, nobody rings for each of them: they are gathered by the
             * millisecond. A caller who cares for less would drive himself. */
            int busy = pool->counts.submitted - pool->sup.unfinished != settled;
            settled = pool->counts.submitted - pool->sup.unfinished;
            int64_t until = busy ? pool->sup.now + GATHER : INT64_MAX;
            pool->driver_gathers = busy;
            (void)pf__pool_wait(pool, until, !busy);
            pool->driver_gathers = 0;
        }
        pf__pool_advance(pool);
        pf__pool_call_sleepers(pool);
        tell_of_events(pool);
        pool->by_driver = 0;
        pf__pool_pass_role(pool);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

int pf_pool_drive_in_background(pf_pool *pool)
{
    if (pool->dead)
        return 0;
    sigset_t all, before;
    sigfillset(&all);
    pthread_mutex_lock(&pool->lock);
    int error = 0;
    if (!pool->driver_runs && !pool->driver_stops && !pool->guest) {
        pthread_sigmask(SIG_SETMASK, &all, &before); /* inherited: signals are not its business */
        error = pthread_create(&pool->driver, NULL, drive, pool);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        pool->driver_runs = error == 0;
        if (error == 0) /* at once: whoever counts the application's threads leaves it out */
            pf__thread_name(pool->driver, NAME);
    }
    pthread_mutex_unlock(&pool->lock);
    errno = error;
    return error != 0 ? -1 : 0;
}

void pf__driver_unpark(pf_pool *pool)
{
    if (pool->driver_parked) {
        pool->driver_parked = 0;
        pf__semaphore_post(pool->driver_wake);
    }
}

void pf__driver_stop(pf_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    int runs = pool->driver_runs;
    pool->driver_stops = 1;
    pool->driver_runs = 0;
    pthread_mutex_unlock(&pool->lock);
    if (runs) {
        pf__semaphore_post(pool->driver_wake);
        if (pf__poll_wake(pool->poll) < 0) {
            /* It may sleep for ever; the pool's memory is left to it. */
            pthread_detach(pool->driver);
            pool->driver_lost = 1;
            return;
        }
        pthread_join(pool->driver, NULL);
    }
}

int pf_pool_wait_gathered(pf_pool *pool)
{
    if (pf__semaphore_wait(pool->gathered, -1) < 0)
        return -1;
    atomic_store(&pool->gathering, 0);
    return 0;
}

void pf_pool_rouse_gatherer(pf_pool *pool)
{
    if (!atomic_exchange(&pool->gathering, 1))
        pf__semaphore_post(pool->gathered);
}
