/* The pool: the calls of prefork.h that an application makes, from birth over submit and poll to
 * its end. Start reading here; pool.h says which file does what. */
#define _GNU_SOURCE
#include "pool.h"

#include "platform.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MIN_SLOTS = 1024, BODY_SIZE = 1024, POLL_BATCH = 64 };

static int64_t later(int64_t now, int64_t timeout)
{
    return timeout < 0 || timeout > INT64_MAX - now ? INT64_MAX : now + timeout;
}

/* ---- life ---------------------------------------------------------------------------------- */

static int make_seats(pf_pool *pool, uint32_t wanted)
{
    uint32_t have = pool->sup.seat_count;
    if (wanted > PF_MAX_WORKERS || wanted >= pool->ring.slots) {
        errno = EINVAL;
        return -1;
    }
    if (wanted <= have)
        return 0;
    struct pf__seat **seats = realloc(pool->seats, wanted * sizeof *seats);
    if (seats == NULL)
        return -1;
    pool->seats = seats;
    uint32_t count = have;
    for (; count < wanted; count++) {
        struct pf__child *child = pf__child_new(count);
        if (child == NULL)
            break;
        seats[count] = &child->seat;
    }
    pf__supervisor_seats(&pool->sup, seats, count);
    return count == wanted ? 0 : -1;
}

pf_pool *pf_pool_new(const pf_options *options)
{
    pf_pool *pool = calloc(1, sizeof *pool);
    if (pool == NULL)
        return NULL;
    pool->options = *options;
    pool->timer_at = INT64_MAX;
    pool->fork_end = -1;
    pf__timer_init(&pool->standby_timer, 0);
    pool->ring.pool_fd = pool->ring.words_fd = -1;
    pthread_mutex_init(&pool->lock, NULL);
    sem_init(&pool->followed, 0, 0);
    sem_init(&pool->gathered, 0, 0);
    sem_init(&pool->driver_wake, 0, 0);
    /* Sixteen slots a worker: the pool can grow that far and more, for a slot is held only by a
     * worker that copies a body out of it. */
    uint32_t slots = MIN_SLOTS;
    while (slots < options->workers * 16 && slots < 1u << 16)
        slots *= 2;
    pool->slots = calloc(slots, sizeof *pool->slots);
    pool->poll = pf__poll_open();
    if (pool->slots == NULL || pool->poll == NULL ||
        pf__ring_create(&pool->ring, slots, BODY_SIZE) < 0)
        goto fail;
    pf__supervisor_init(&pool->sup, pool->slots, slots, options->term_grace);
    pool->sup.target = options->workers;
    pool->sup.now = pf__now();
    if (make_seats(pool, options->workers) < 0 || (errno = pf__pools_add(pool)) != 0)
        goto fail;
    return pool;
fail:;
    int error = errno;
    pf_pool_free(pool);
    errno = error;
    return NULL;
}

void pf_event_clear(pf_event *event)
{
    free(event->data);
    event->data = NULL;
}

static void free_jobs(pf_pool *pool)
{
    for (uint32_t i = 0; i < pool->jobs.count; i++) {
        struct pf__job *job = pool->jobs.places[i].object;
        if (job != NULL)
            free(job->result);
        free(job);
    }
    pf__handles_clear(&pool->jobs);
}

void pf_pool_free(pf_pool *pool)
{
    pf_pool_shut_down(pool);
    pf__pools_remove(pool);
    for (uint32_t i = 0; i < pool->sup.seat_count; i++) {
        struct pf__child *child = (struct pf__child *)pool->seats[i];
        child->zygote = NULL;
        if (pool->dead)
            child->board.segment = NULL; /* the fork did not bring the mapping along */
        if (pool->poll != NULL)
            pf__child_close(pool, child);
        free(child);
    }
    if (pool->dead)
        pool->ring.pool = NULL, pool->ring.words = NULL;
    pf__ring_close(&pool->ring);
    pf__poll_close(pool->poll);
    free_jobs(pool);
    while (pool->event_count > 0) {
        free(pool->events[pool->event_first].data);
        pool->event_first = (pool->event_first + 1) & (pool->event_room - 1);
        pool->event_count--;
    }
    free(pool->events);
    free(pool->seats);
    free(pool->slots);
    sem_destroy(&pool->followed);
    sem_destroy(&pool->gathered);
    sem_destroy(&pool->driver_wake);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

/* 0 with the lock held, or -1 with errno. */
static int enter(pf_pool *pool)
{
    if (pool->dead) {
        errno = ECHILD;
        return -1;
    }
    pthread_mutex_lock(&pool->lock);
    pf__supervisor_time(&pool->sup, pf__now());
    return 0;
}

static void set_timer(pf_pool *pool);

static void leave(pf_pool *pool)
{
    set_timer(pool);
    pthread_mutex_unlock(&pool->lock);
}

/* ---- one turn ------------------------------------------------------------------------------ */

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

static void publish_and_call(pf_pool *pool)
{
    pf__pool_obey(pool);
    pf__pool_call_sleepers(pool);
}

static void fire_timers(pf_pool *pool)
{
    pf__supervisor_time(&pool->sup, pf__now());
    while (pool->timers.first != NULL && pool->timers.first->at <= pool->sup.now) {
        struct pf__timer *timer = pool->timers.first;
        pf__timer_stop(&pool->timers, timer);
        if (timer == &pool->standby_timer)
            pf__zygote_want_standby(pool);
        else
            pf__child_timer(pool, timer);
    }
}

void pf__pool_advance(pf_pool *pool)
{
    fire_timers(pool);
    pf__zygotes_flush(pool);
    pf__pool_note_claims(pool);
    for (uint32_t i = 0; i < pool->sup.seat_count; i++)
        if (pool->sup.seats[i]->state != PF_SEAT_VACANT)
            pf__child_drain(pool, (struct pf__child *)pool->sup.seats[i]);
    publish_and_call(pool);
}

/* ---- waiting ------------------------------------------------------------------------------- */

static int64_t next_deadline(const pf_pool *pool)
{
    int64_t at = pf__supervisor_deadline(&pool->sup);
    if (pool->timers.first != NULL && pool->timers.first->at < at)
        at = pool->timers.first->at;
    return at;
}

/* Set later than needed it would be missed; set earlier it only wakes us once for nothing, so it
 * is not moved back. */
static void set_timer(pf_pool *pool)
{
    int64_t at = pool->poll == NULL ? INT64_MAX : next_deadline(pool);
    if (at < pool->timer_at && pf__poll_timer(pool->poll, at) == 0)
        pool->timer_at = at;
}

static int results_wait(const pf_pool *pool)
{
    for (uint32_t i = 0; i < pool->sup.seat_count; i++) {
        const struct pf__child *child = (const struct pf__child *)pool->sup.seats[i];
        if (child->board.segment != NULL && pf__results_pending(&child->board))
            return 1;
    }
    return 0;
}

/* "Ring my bell from now on", then a look whether a result came just before. */
static int arm(pf_pool *pool)
{
    atomic_store_explicit(&pool->ring.pool->armed, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    return !results_wait(pool);
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

/* Limits stand still while the whole family is stopped: had we been able to run, we would have
 * woken at `due`. */
static void notice_stall(pf_pool *pool, int64_t due)
{
    int64_t excess = pf__now() - due;
    if (due != INT64_MAX && excess > 1000000000)
        pf__supervisor_stalled(&pool->sup, excess);
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
    int count = 0, error = 0, may_sleep = !listen || arm(pool);
    if (may_sleep || look_is_due(pool)) {
        int64_t due = next_deadline(pool), now = pf__now();
        int64_t left = !may_sleep || deadline <= now ? 0 : deadline - now;
        set_timer(pool);
        pool->looked = now;
        pthread_mutex_unlock(&pool->lock);
        count = pf__poll_wait(pool->poll, events, POLL_BATCH,
                              may_sleep && deadline == INT64_MAX ? -1 : left);
        error = errno;
        pthread_mutex_lock(&pool->lock);
        notice_stall(pool, due);
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
    if (pool->followers > 0)
        sem_post(&pool->followed);
    else if (pool->claimants == 0)
        pf__driver_unpark(pool);
}

/* Sleeps until the one who drives gives up the role, or somebody is roused. On a semaphore, for
 * only that is ended by a signal: a condition variable would swallow Ctrl-C. */
static int follow(pf_pool *pool, int64_t deadline)
{
    struct timespec until;
    int64_t left = deadline == INT64_MAX ? 0 : deadline - pf__now();
    if (pool->by_driver) {
        pool->claimants++;
        pf__poll_wake(pool->poll);
    }
    int claimant = pool->by_driver;
    pool->followers++;
    pthread_mutex_unlock(&pool->lock);
    int result;
    if (deadline == INT64_MAX) {
        result = sem_wait(&pool->followed);
    } else {
        clock_gettime(CLOCK_REALTIME, &until);
        int64_t ns = until.tv_nsec + (left > 0 ? left : 0);
        until.tv_sec += ns / 1000000000;
        until.tv_nsec = ns % 1000000000;
        result = sem_timedwait(&pool->followed, &until);
    }
    int error = errno;
    pthread_mutex_lock(&pool->lock);
    pool->followers--;
    if (claimant)
        pool->claimants--;
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
        pf__poll_wake(pool->poll);
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
    if (enter(pool) < 0) {
        atomic_fetch_sub(&pool->pollers, 1);
        return -1;
    }
    int64_t deadline = later(pool->sup.now, timeout);
    int count = look_into_poll(pool, timeout);
    pool->drives++;
    while (count >= 0) {
        pf__pool_advance(pool);
        count = take_events(pool, events, max);
        if (count > 0 || timeout == 0 || atomic_load(&pool->rouses) != rouses ||
            pf__now() >= deadline)
            break;
        if (!pool->driving) {
            pool->driving = 1;
            count = pf__pool_wait(pool, deadline, 1);
            pf__pool_pass_role(pool);
        } else {
            count = follow(pool, deadline);
        }
    }
    int error = errno;
    settle_down(pool);
    leave(pool);
    atomic_fetch_sub(&pool->pollers, 1);
    errno = error;
    return count;
}

uint64_t pf_pool_rouses(const pf_pool *pool)
{
    return atomic_load(&pool->rouses);
}

void pf_pool_rouse(pf_pool *pool)
{
    atomic_fetch_add(&pool->rouses, 1);
    uint32_t pollers = atomic_load(&pool->pollers);
    if (pollers == 0 || pool->dead)
        return;
    pf__poll_wake(pool->poll);
    while (pollers-- > 0)
        sem_post(&pool->followed);
}

int pf_pool_fd(pf_pool *pool)
{
    if (pool->dead) {
        errno = ECHILD;
        return -1;
    }
    if (!pool->guest) {
        pool->guest = 1;
        pf__driver_stop(pool);
        pthread_mutex_lock(&pool->lock);
        settle_down(pool);
        leave(pool);
    }
    return pf__poll_fd(pool->poll);
}

/* ---- tasks --------------------------------------------------------------------------------- */

uint64_t pf_pool_submit(pf_pool *pool, const void *body, size_t size, uint32_t flags, int64_t limit,
                        int may_block)
{
    if (pool->dead) {
        errno = ECHILD;
        return 0;
    }
    struct pf__job *job = malloc(sizeof *job + size);
    if (job == NULL)
        return 0;
    memset(job, 0, sizeof *job);
    job->size = size;
    memcpy(job->body, body, size);
    job->task.limit = limit;
    job->task.tell = (flags & PF_TELL) != 0;
    if (may_block)
        pthread_mutex_lock(&pool->lock);
    else if (pthread_mutex_trylock(&pool->lock) != 0) {
        free(job);
        errno = EBUSY;
        return 0;
    }
    uint64_t id = 0;
    if (!pool->started || pool->closed)
        errno = pool->started ? ESHUTDOWN : ENOTCONN;
    else
        id = pf__handles_add(&pool->jobs, job);
    if (id == 0) {
        int error = errno;
        pthread_mutex_unlock(&pool->lock);
        free(job);
        errno = error;
        return 0;
    }
    job->task.id = id;
    pool->counts.submitted++;
    if (pool->sup.queue.first == NULL)
        pf__pool_note_claims(pool);
    if (limit > 0)
        pf__supervisor_time(&pool->sup, pf__now());
    pf__supervisor_submit(&pool->sup, &job->task);
    publish_and_call(pool);
    leave(pool);
    return id;
}

int pf_pool_cancel(pf_pool *pool, uint64_t id)
{
    if (enter(pool) < 0)
        return -1;
    int done = 0;
    struct pf__job *job = pf__handles_find(&pool->jobs, id);
    enum pf__cancel next =
        job != NULL ? pf__supervisor_cancel(&pool->sup, &job->task) : PF_CANCEL_LATE;
    if (next == PF_CANCEL_TRY_SLOT) {
        done = pf__ring_cancel(&pool->ring, job->task.seq);
        if (!done) {
            pf__pool_note_claims(pool);
            next = pf__supervisor_cancel(&pool->sup, &job->task);
        }
    }
    if (next == PF_CANCEL_TRY_PAGE) {
        struct pf__child *child = (struct pf__child *)pool->seats[job->task.seat];
        uint64_t loading = pf__word(job->task.seq, 0, PF_LOADING);
        done = atomic_compare_exchange_strong(&child->board.segment->page, &loading,
                                              pf__word(job->task.seq, 0, PF_REVOKED));
    }
    if (done)
        pf__supervisor_withdrawn(&pool->sup, &job->task);
    publish_and_call(pool);
    leave(pool);
    return done || next == PF_CANCEL_DONE;
}

/* The lock held: the task's worker, if its call is running now. */
static struct pf__child *runner_of(pf_pool *pool, const struct pf__task *task)
{
    pf__pool_note_claims(pool);
    if (task->state != PF_TASK_HELD)
        return NULL;
    struct pf__child *child = (struct pf__child *)pool->seats[task->seat];
    uint64_t page = atomic_load_explicit(&child->board.segment->page, memory_order_acquire);
    pf__child_learn_pid(pool, child);
    return page == pf__word(task->seq, 0, PF_RUNNING) ? child : NULL;
}

static int end_task(pf_pool *pool, struct pf__task *task, int signal)
{
    struct pf__child *child = runner_of(pool, task);
    uint64_t running = pf__word(task->seq, 0, PF_RUNNING);
    if (child == NULL || !atomic_compare_exchange_strong(&child->board.segment->page, &running,
                                                         pf__word(task->seq, 0, PF_CONDEMNED)))
        return 0;
    pf__child_look(pool, child);
    task->started = atomic_load(&child->board.segment->started_at);
    pf__supervisor_end_task(&pool->sup, task, PF_TERMINATED, signal);
    publish_and_call(pool);
    return 1;
}

static int ends_a_worker(int signal)
{
    if (signal == SIGTERM || signal == SIGQUIT || signal == SIGKILL || signal == SIGABRT)
        return 1;
    errno = EINVAL;
    return 0;
}

int pf_pool_kill_task(pf_pool *pool, uint64_t id, int signal)
{
    if (!ends_a_worker(signal) || enter(pool) < 0)
        return -1;
    struct pf__job *job = pf__handles_find(&pool->jobs, id);
    int done = job != NULL && end_task(pool, &job->task, signal);
    leave(pool);
    return done;
}

int pf_pool_kill_job(pf_pool *pool, pid_t pid, int signal)
{
    if (!ends_a_worker(signal) || enter(pool) < 0)
        return -1;
    int done = 0;
    pf__pool_note_claims(pool);
    for (uint32_t i = 0; i < pool->sup.seat_count; i++) {
        struct pf__child *child = (struct pf__child *)pool->seats[i];
        if (child->seat.state == PF_SEAT_VACANT)
            continue;
        pf__child_learn_pid(pool, child);
        if (child->pid != pid)
            continue;
        if (child->seat.held.last != NULL)
            done = end_task(pool, child->seat.held.last, signal);
        break;
    }
    leave(pool);
    return done;
}

/* ---- size and end -------------------------------------------------------------------------- */

int pf_pool_resize(pf_pool *pool, uint32_t workers)
{
    if (enter(pool) < 0)
        return -1;
    int result = make_seats(pool, workers);
    if (result == 0) {
        pf__supervisor_resize(&pool->sup, workers);
        publish_and_call(pool);
    }
    leave(pool);
    return result;
}

int pf_pool_close(pf_pool *pool)
{
    if (enter(pool) < 0)
        return -1;
    pool->closed = 1;
    leave(pool);
    return 0;
}

int pf_pool_retire(pf_pool *pool, int at_once)
{
    if (enter(pool) < 0)
        return -1;
    pool->closed = 1;
    pool->sup.draining = true;
    if (at_once)
        pf__supervisor_resize(&pool->sup, 0);
    publish_and_call(pool);
    leave(pool);
    return 0;
}

int pf_pool_terminate(pf_pool *pool, int signal)
{
    if (enter(pool) < 0)
        return -1;
    pool->closed = 1;
    pf__pool_note_claims(pool);
    for (uint32_t i = 0; i < pool->jobs.count; i++) {
        struct pf__job *job = pool->jobs.places[i].object;
        if (job == NULL || job->task.state == PF_TASK_SETTLED)
            continue;
        struct pf__child *runs_on = runner_of(pool, &job->task);
        if (runs_on != NULL && job->task.started == 0)
            job->task.started = atomic_load(&runs_on->board.segment->started_at);
        /* What nobody has begun shall not begin now. */
        if (job->task.state == PF_TASK_PUBLISHED)
            (void)pf__ring_cancel(&pool->ring, job->task.seq);
        pf__supervisor_abandon(&pool->sup, &job->task);
    }
    pf__supervisor_resize(&pool->sup, 0);
    for (uint32_t i = 0; i < pool->sup.seat_count; i++)
        pf__supervisor_kill(&pool->sup, pool->sup.seats[i], signal);
    publish_and_call(pool);
    leave(pool);
    return 0;
}

void pf_pool_shut_down(pf_pool *pool)
{
    if (pool->dead)
        return;
    pf__driver_stop(pool);
    pthread_mutex_lock(&pool->lock);
    pool->closed = 1;
    pool->sup.can_spawn = false;
    struct pf__zygote *zygotes = pf__zygotes_release(pool);
    pthread_mutex_unlock(&pool->lock);
    pf__zygotes_end(zygotes);
}

/* ---- looking ------------------------------------------------------------------------------- */

int pf_pool_describe(pf_pool *pool, pf_pool_info *info)
{
    if (enter(pool) < 0)
        return -1;
    pf__pool_note_claims(pool);
    *info = pool->counts;
    info->target = pool->sup.target;
    info->running = pool->sup.can_spawn;
    info->unfinished = pool->sup.unfinished;
    info->processes = pool->sup.live;
    for (uint32_t i = 0; i < pool->sup.seat_count; i++) {
        info->alive += pool->sup.seats[i]->state >= PF_SEAT_STARTING;
        info->busy += pool->sup.seats[i]->held.first != NULL;
    }
    info->queued =
        info->unfinished - (info->busy < info->unfinished ? info->busy : info->unfinished);
    leave(pool);
    return 0;
}

static pf_worker_state state_of(const struct pf__seat *seat)
{
    if (seat->killed)
        return PF_WORKER_ENDING;
    if (seat->state == PF_SEAT_SPAWNING)
        return PF_WORKER_SPAWNING;
    if (seat->state == PF_SEAT_STARTING)
        return PF_WORKER_STARTING;
    if (seat->held.first != NULL)
        return PF_WORKER_RUNNING;
    return seat->retiring ? PF_WORKER_RETIRING : PF_WORKER_IDLE;
}

int pf_pool_list_workers(pf_pool *pool, pf_worker_info *workers, int max)
{
    if (enter(pool) < 0)
        return -1;
    pf__pool_note_claims(pool);
    int count = 0;
    for (uint32_t i = 0; i < pool->sup.seat_count; i++) {
        struct pf__child *child = (struct pf__child *)pool->seats[i];
        const struct pf__task *task = child->seat.held.last;
        if (child->seat.state == PF_SEAT_VACANT)
            continue;
        if (count < max)
            workers[count] =
                (pf_worker_info){.slot = i,
                                 .state = state_of(&child->seat),
                                 .pid = child->pid,
                                 .generation = child->generation,
                                 .task = task != NULL ? task->id : 0,
                                 .since = task != NULL && child->board.segment != NULL
                                              ? atomic_load(&child->board.segment->started_at)
                                              : child->since,
                                 .tasks_done = child->seat.tasks_done};
        count++;
    }
    leave(pool);
    return count;
}

pid_t pf_pool_find_task(pf_pool *pool, uint64_t id)
{
    if (enter(pool) < 0)
        return -1;
    struct pf__job *job = pf__handles_find(&pool->jobs, id);
    struct pf__child *child = job != NULL ? runner_of(pool, &job->task) : NULL;
    pid_t pid = child != NULL ? child->pid : 0;
    leave(pool);
    return pid;
}
