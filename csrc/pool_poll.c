/* Driving: one turn of the pool, waiting for the next, and who of several threads does it. */
#define _GNU_SOURCE
#include "platform.h"
#include "pool.h"

#include <errno.h>
#include <sched.h>

enum { POLL_BATCH = 64 };

static int64_t later(int64_t now, int64_t timeout)
{
    return timeout < 0 || timeout > INT64_MAX - now ? INT64_MAX : now + timeout;
}

/* ---- time and claims ----------------------------------------------------------------------- */

void pf__pool_note_claims(pf_pool *pool)
{
    struct pf__supervisor *sup = &pool->sup;
    while (sup->head < sup->tail &&
           pf__supervisor_slot_seen(
               sup, sup->head,
               atomic_load_explicit(pf__ring_word(&pool->ring, sup->head), memory_order_acquire)))
        ;
    atomic_store_explicit(&pool->ring.pool->head, sup->head, memory_order_relaxed);
}

static int64_t next_deadline(const pf_pool *pool)
{
    int64_t at = pf__supervisor_deadline(&pool->sup);
    if (pool->timers.first != NULL && pool->timers.first->at < at)
        at = pool->timers.first->at;
    return pool->calls.again_at < at ? pool->calls.again_at : at;
}

/* Limits stand still while the whole family is stopped: had anybody been able to run, the driver
 * or who waits here, the time would have been told when that was due. Nobody knows when it was
 * stopped, but not before the time was told last; counted from when it was due, the task whose
 * limit that is would have nothing left of it. */
static void notice_stall(pf_pool *pool, int64_t now)
{
    if ((pool->driver_runs || pool->driving) && now - next_deadline(pool) > 1000000000)
        pf__supervisor_stalled(&pool->sup, now);
}

/* By whoever comes in, before anything else: what is to be done in a while is reckoned from it.
 * A limit may be up of a task that nobody has seen claimed yet; it would seem not to have begun. */
void pf__pool_tell_time(pf_pool *pool)
{
    struct pf__supervisor *sup = &pool->sup;
    int64_t now = pf__now();
    if (now < next_deadline(pool)) {
        sup->now = now;
        return;
    }
    notice_stall(pool, now);
    if (pf__supervisor_deadline(sup) <= now)
        pf__pool_note_claims(pool);
    pf__supervisor_time(sup, now);
}

/* ---- into the pool and out of it ----------------------------------------------------------- */

/* Set later than needed it would be missed; set earlier it only wakes us once for nothing, so it
 * is not moved back. */
static void set_timer(pf_pool *pool)
{
    int64_t at = next_deadline(pool);
    if (at < pool->timer_at && pf__poll_timer(pool->poll, at) == 0)
        pool->timer_at = at;
}

int pf__pool_enter(pf_pool *pool)
{
    if (pool->dead) {
        errno = ECHILD;
        return -1;
    }
    pthread_mutex_lock(&pool->lock);
    if (atomic_load(&pool->ended)) {
        pthread_mutex_unlock(&pool->lock);
        errno = ESHUTDOWN;
        return -1;
    }
    pool->event_known = pool->event_count;
    pf__pool_tell_time(pool);
    return 0;
}

int pf__pool_refused(void)
{
    return errno == ESHUTDOWN ? 0 : -1;
}

/* What follows from claims that were noted by who only wanted to know is for who drives. */
void pf__pool_pass_on(pf_pool *pool)
{
    if (!atomic_load(&pool->ended) && pf__supervisor_has_orders(&pool->sup))
        (void)pf__poll_wake(pool->poll);
}

/* Who drives, or the loop of a guest, may be asleep: a question that has just been put shall be
 * heard. Of what a call gives else, as an end by cancel, who calls knows, and polls. */
void pf__pool_leave(pf_pool *pool)
{
    if (pool->sup.asks && pool->event_count > pool->event_known)
        (void)pf__poll_wake(pool->poll);
    set_timer(pool);
    pthread_mutex_unlock(&pool->lock);
}

/* ---- one turn ------------------------------------------------------------------------------ */

void pf__pool_publish(pf_pool *pool)
{
    pf__pool_obey(pool);
    pf__pool_call_sleepers(pool);
}

static void fire_timers(pf_pool *pool)
{
    pf__pool_tell_time(pool);
    while (pool->timers.first != NULL && pool->timers.first->at <= pool->sup.now) {
        struct pf__timer *timer = pool->timers.first;
        pf__timer_stop(&pool->timers, timer);
        if (timer == &pool->standby_timer)
            pf__zygote_want_standby(pool);
        else if (timer != &pool->start_timer) /* whose turn looks at all news anyhow */
            pf__child_timer(pool, timer);
    }
}

void pf__pool_advance(pf_pool *pool)
{
    fire_timers(pool);
    pf__zygotes_flush(pool);
    pf__pool_note_claims(pool);
    pf__pool_drain(pool);
    pf__pool_obey(pool);
    if (!pf__pool_spinners_suffice(pool)) /* else when we wait, should they not have taken it */
        pf__pool_call_sleepers(pool);
}

/* ---- waiting ------------------------------------------------------------------------------- */

/* Claims are noted, for a start that is to be told of may be among them. What follows from them, or
 * from those that somebody noted who only wanted to know, is still to be carried out. */
static int something_waits(pf_pool *pool)
{
    pf__pool_note_claims(pool);
    return pf__supervisor_has_orders(&pool->sup) || pf__pool_has_news(pool);
}

/* "Ring my bell from now on", then a look whether something came just before. */
static int arm(pf_pool *pool)
{
    atomic_store_explicit(&pool->ring.pool->armed, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    return !something_waits(pool);
}

static void handle(pf_pool *pool, const struct pf__poll_event *event)
{
    int kind = (int)(event->key >> 56);
    uint64_t number = event->key & 0xfffffffffffULL;
    if (event->key == PF_POLL_TIMER) {
        pool->timer_at = INT64_MAX;
        return;
    }
    if (event->key == PF_POLL_WAKE)
        return;
    if (kind == PF_KEY_ZYGOTE || kind == PF_KEY_ZYGOTE_EXIT) {
        pf__zygote_ready(pool, number, kind == PF_KEY_ZYGOTE_EXIT);
        return;
    }
    /* One that was buried earlier in this batch is not found any more. */
    struct pf__child *child = pf__child_at(pool, (uint32_t)(event->key >> 44) & 0xfffu, number);
    if (child != NULL)
        pf__child_ready(pool, child, kind);
}

/* Results come without the poll; exits, large bodies and deadlines do not. However fast results
 * come, those must not wait longer than this. */
static int look_is_due(const pf_pool *pool)
{
    return pool->sup.now - pool->looked > 1000000;
}

int pf__pool_wait(pf_pool *pool, int64_t deadline, int listen)
{
    struct pf__poll_event events[POLL_BATCH];
    int count = 0, error = 0;
    int found = deadline > pool->sup.now && pf__pool_spin(pool, deadline);
    if (!found)
        pf__pool_call_sleepers(pool);
    int may_sleep = !found && (!listen || arm(pool));
    if (may_sleep || look_is_due(pool)) {
        int64_t now = pf__now();
        int64_t left = !may_sleep || deadline <= now ? 0 : deadline - now;
        set_timer(pool);
        pool->looked = now;
        pthread_mutex_unlock(&pool->lock);
        count = pf__poll_wait(pool->poll, events, POLL_BATCH,
                              may_sleep && deadline == INT64_MAX ? -1 : left);
        error = errno;
        pthread_mutex_lock(&pool->lock);
    }
    atomic_store_explicit(&pool->ring.pool->armed, 0, memory_order_relaxed);
    fire_timers(pool);
    for (int i = 0; i < count; i++)
        handle(pool, &events[i]);
    errno = error;
    return count < 0 ? -1 : 0;
}

void pf__pool_pass_role(pf_pool *pool)
{
    pool->driving = 0;
    if (pool->followers != NULL)
        pf__semaphore_post(pool->followed);
    else if (pool->claimants == 0)
        pf__driver_unpark(pool);
}

struct pf__follower {
    uint64_t rouses; /* that it knows of */
    struct pf__follower *next;
};

static int somebody_is_roused(const pf_pool *pool, uint64_t rouses)
{
    const struct pf__follower *one = pool->followers;
    while (one != NULL && one->rouses == rouses)
        one = one->next;
    return one != NULL;
}

/* Sleeps until the one who drives gives up the role, or somebody is roused. On a semaphore, for
 * only that is ended by a signal: a condition variable would swallow Ctrl-C. */
static int follow(pf_pool *pool, int64_t deadline, uint64_t rouses)
{
    int64_t left = deadline == INT64_MAX ? -1 : deadline - pf__now();
    if (deadline != INT64_MAX && left < 0)
        left = 0;
    /* Closed under us: the driver, asleep in it, can be woken no more. */
    if (pool->by_driver && pf__poll_wake(pool->poll) < 0)
        return -1;
    int claimant = pool->by_driver;
    pool->claimants += claimant;
    struct pf__follower self = {rouses, pool->followers}, **at = &pool->followers;
    pool->followers = &self;
    pthread_mutex_unlock(&pool->lock);
    int result = pf__semaphore_wait(pool->followed, left);
    int error = errno;
    pthread_mutex_lock(&pool->lock);
    while (*at != &self)
        at = &(*at)->next;
    *at = self.next;
    if (claimant)
        pool->claimants--;
    /* Who comes after a rouse may take what it has posted for those who were here before. */
    uint64_t now = atomic_load(&pool->rouses);
    if (result == 0 && rouses == now && somebody_is_roused(pool, now))
        pf__semaphore_post(pool->followed);
    errno = error;
    return result < 0 && error == EINTR ? -1 : 0;
}

static int take_events(pf_pool *pool, pf_event *events, int max)
{
    int count = 0;
    while (count < max && pool->event_count > 0) {
        events[count++] = pool->events[pool->event_first];
        pool->event_first = (pool->event_first + 1) & (pool->event_room - 1);
        pool->event_count--;
    }
    return count;
}

/* A guest's descriptor must be readable whenever there is something to do. */
static void settle_down(pf_pool *pool)
{
    if (pool->guest && (!arm(pool) || pool->event_count > 0))
        (void)pf__poll_wake(pool->poll);
}

static int look_into_poll(pf_pool *pool, int64_t timeout)
{
    if (pool->driving || (timeout != 0 && !pool->guest && !look_is_due(pool)))
        return 0;
    pool->driving = 1;
    int result = pf__pool_wait(pool, 0, 1);
    pf__pool_pass_role(pool);
    return result;
}

int pf_pool_poll(pf_pool *pool, pf_event *events, int max, int64_t timeout, uint64_t rouses)
{
    atomic_fetch_add(&pool->pollers, 1);
    if (pf__pool_enter(pool) < 0) {
        atomic_fetch_sub(&pool->pollers, 1);
        return pf__pool_refused();
    }
    int64_t deadline = later(pool->sup.now, timeout);
    int count = look_into_poll(pool, timeout), follows = 0;
    pool->drives++;
    pool->polled = pool->sup.now;
    while (count >= 0) {
        pf__pool_advance(pool);
        count = take_events(pool, events, max);
        pool->sup.forks_wait = false; /* they are the next turn's, ours or the driver's */
        if (count > 0 || timeout == 0 || atomic_load(&pool->rouses) != rouses ||
            atomic_load(&pool->ended) || pf__now() >= deadline)
            break;
        follows = pool->driving;
        if (follows) {
            count = follow(pool, deadline, rouses);
        } else {
            pool->driving = 1;
            count = pf__pool_wait(pool, deadline, 1);
            pf__pool_pass_role(pool);
        }
    }
    int error = errno;
    pf__pool_call_sleepers(pool);
    pool->event_known = pool->event_count; /* who polls comes again; but a guest is told */
    settle_down(pool);
    if (follows && !pool->driving) /* woken to take the role, and there is no need to any more */
        pf__pool_pass_role(pool);
    pf__pool_leave(pool);
    atomic_fetch_sub(&pool->pollers, 1);
    errno = error;
    return count;
}

uint64_t pf_pool_rouses(const pf_pool *pool)
{
    return atomic_load(&pool->rouses);
}

static void wake(pf_pool *pool, uint32_t pollers)
{
    (void)pf__poll_wake(pool->poll);
    while (pollers-- > 0)
        pf__semaphore_post(pool->followed);
}

void pf_pool_rouse(pf_pool *pool)
{
    atomic_fetch_add(&pool->rouses, 1);
    if (pool->dead)
        return;
    /* Counted among the pollers, so that the poll is not closed under us. */
    uint32_t others = atomic_fetch_add(&pool->pollers, 1);
    if (others > 0 && !atomic_load(&pool->ended))
        wake(pool, others);
    atomic_fetch_sub(&pool->pollers, 1);
}

void pf_pool_remind(pf_pool *pool)
{
    if (pool->dead)
        return;
    atomic_fetch_add(&pool->pollers, 1);
    if (!atomic_load(&pool->ended))
        (void)pf__poll_wake(pool->poll);
    atomic_fetch_sub(&pool->pollers, 1);
}

void pf__pool_turn_out(pf_pool *pool)
{
    uint32_t pollers;
    atomic_store(&pool->ended, 1);
    while ((pollers = atomic_load(&pool->pollers)) > 0) {
        wake(pool, pollers);
        sched_yield();
    }
}

int pf_pool_fd(pf_pool *pool)
{
    if (!pool->dead) {
        pthread_mutex_lock(&pool->lock);
        pool->guest = 1;
        pthread_mutex_unlock(&pool->lock);
        pf__driver_stop(pool);
    }
    if (pf__pool_enter(pool) < 0)
        return -1;
    pf__pool_call_sleepers(pool); /* what was left to a driver */
    settle_down(pool);
    int fd = pf__poll_fd(pool->poll);
    pf__pool_leave(pool);
    return fd;
}
