/* The pool: its life, its size, its end. Start reading here; pool.h says which file does what. */
#define _GNU_SOURCE
#include "pool.h"

#include "platform.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A Celery worker's calls have one or two KiB. What is larger goes by pipe, which takes a question
 * and an answer, and both sides have to be woken for it. */
enum { MIN_SLOTS = 1024, BODY_SIZE = 4096 };

/* ---- life ---------------------------------------------------------------------------------- */

static int recycles(const pf_options *options)
{
    return options->tasks_per_worker != 0 || options->age_per_worker != 0 ||
           options->memory_per_worker != 0 || options->memory_limit != 0;
}

static int make_seats(pf_pool *pool, uint32_t wanted)
{
    uint32_t have = pool->sup.seat_count;
    if (wanted > PF_MOST_WORKERS || wanted >= pool->ring.slots) {
        errno = EINVAL;
        return -1;
    }
    if (recycles(&pool->options)) {
        wanted += pf__supervisor_ahead(wanted);
        wanted = wanted < PF_MOST_WORKERS ? wanted : PF_MOST_WORKERS;
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
    pf__timer_init(&pool->start_timer, 0);
    pool->ring.pool_fd = pool->ring.words_fd = pool->history.fd = -1;
    pthread_mutex_init(&pool->lock, NULL);
    pool->followed = pf__semaphore_new();
    pool->gathered = pf__semaphore_new();
    pool->driver_wake = pf__semaphore_new();
    /* Sixteen slots a worker: the pool can grow that far and more, for a slot is held only by a
     * worker that copies a body out of it. */
    uint32_t slots = MIN_SLOTS;
    while (slots < options->workers * 16 && slots < 1u << 16)
        slots *= 2;
    pool->slots = calloc(slots, sizeof *pool->slots);
    pool->poll = pf__poll_open();
    if (pool->slots == NULL || pool->poll == NULL || pool->followed == NULL ||
        pool->gathered == NULL || pool->driver_wake == NULL ||
        pf__ring_create(&pool->ring, slots, BODY_SIZE) < 0 ||
        pf__history_create(&pool->history, slots < PF_MOST_WORKERS ? slots : PF_MOST_WORKERS) < 0)
        goto fail;
    pf__supervisor_init(&pool->sup, pool->slots, slots, options->term_grace);
    pool->calls = (struct pf__calls){.most = pf__processors(), .again_at = PF_NEVER};
    pool->sup.target = options->workers;
    pool->sup.recycling = (struct pf__recycling){.tasks = options->tasks_per_worker,
                                                 .jitter = options->jitter,
                                                 .age = options->age_per_worker,
                                                 .memory = options->memory_per_worker,
                                                 .memory_limit = options->memory_limit,
                                                 .random = (uint64_t)pf__now()};
    pool->sup.captures = options->capture_output != 0;
    pool->sup.asks = options->ask_to_spawn != 0;
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
    free(event->output);
    free(event->history);
    event->data = event->output = NULL;
    event->history = NULL;
}

/* ---- size and end -------------------------------------------------------------------------- */

int pf_pool_resize(pf_pool *pool, uint32_t workers)
{
    if (pf__pool_enter(pool) < 0)
        return -1;
    int result = make_seats(pool, workers);
    if (result == 0) {
        pf__supervisor_resize(&pool->sup, workers);
        pf__pool_publish(pool);
    }
    pf__pool_leave(pool);
    return result;
}

int pf_pool_permit_spawn(pf_pool *pool)
{
    if (pf__pool_enter(pool) < 0)
        return pf__pool_refused();
    pf__supervisor_permit(&pool->sup);
    pf__pool_publish(pool);
    pf__pool_leave(pool);
    return 0;
}

int pf_pool_close(pf_pool *pool)
{
    if (pf__pool_enter(pool) < 0)
        return pf__pool_refused();
    pool->closed = 1;
    pf__pool_leave(pool);
    return 0;
}

int pf_pool_retire(pf_pool *pool, int at_once)
{
    if (pf__pool_enter(pool) < 0)
        return pf__pool_refused();
    pool->closed = 1;
    pool->sup.draining = true;
    if (at_once)
        pf__supervisor_resize(&pool->sup, 0);
    pf__pool_publish(pool);
    pf__pool_leave(pool);
    return 0;
}

int pf_pool_terminate(pf_pool *pool, int signal, int64_t grace)
{
    if (pf__pool_enter(pool) < 0)
        return pf__pool_refused();
    pool->closed = 1;
    pool->sup.term_grace = grace;
    pf__pool_note_claims(pool);
    for (uint32_t i = 0; i < pool->jobs.count; i++) {
        struct pf__job *job = pool->jobs.places[i].object;
        if (job == NULL || job->task.state == PF_TASK_SETTLED)
            continue;
        struct pf__child *runs_on = pf__pool_runner(pool, &job->task);
        if (runs_on != NULL && job->task.started == 0)
            job->task.started = atomic_load(&runs_on->board.segment->started_at);
        /* What nobody has begun shall not begin now. */
        if (job->task.state == PF_TASK_PUBLISHED)
            (void)pf__ring_cancel(&pool->ring, job->task.seq);
        else if (job->task.state == PF_TASK_HELD)
            (void)pf__child_revoke((struct pf__child *)pool->seats[job->task.seat], job->task.seq);
        pf__supervisor_abandon(&pool->sup, &job->task);
    }
    pf__supervisor_resize(&pool->sup, 0);
    for (uint32_t i = 0; i < pool->sup.seat_count; i++)
        pf__supervisor_kill(&pool->sup, pool->sup.seats[i], signal);
    pf__pool_publish(pool);
    pf__pool_leave(pool);
    return 0;
}

void pf_pool_shut_down(pf_pool *pool)
{
    if (pool->dead)
        return;
    pf__driver_stop(pool);
    pthread_mutex_lock(&pool->lock);
    pool->closed = pool->ending = 1;
    pool->sup.can_spawn = false;
    struct pf__zygote *zygotes = pf__zygotes_release(pool);
    pthread_mutex_unlock(&pool->lock);
    pf__zygotes_end(zygotes);
    pf__pool_turn_out(pool);
    pthread_mutex_lock(&pool->lock);
    for (uint32_t i = 0; pool->poll != NULL && i < pool->sup.seat_count; i++)
        pf__child_close(pool, (struct pf__child *)pool->seats[i]);
    pf__ring_close_fds(&pool->ring);
    if (pool->history.fd >= 0)
        close(pool->history.fd);
    pool->history.fd = -1;
    pf__poll_close(pool->poll);
    pool->poll = NULL;
    pthread_mutex_unlock(&pool->lock);
}

static void free_jobs(pf_pool *pool)
{
    for (uint32_t i = 0; i < pool->jobs.count; i++) {
        struct pf__job *job = pool->jobs.places[i].object;
        if (job != NULL)
            free(job->result);
        pf__slabs_give(job);
    }
    pf__handles_clear(&pool->jobs);
    pf__slabs_clear(&pool->slabs);
}

void pf_pool_free(pf_pool *pool)
{
    pf_pool_shut_down(pool);
    pf__pools_remove(pool);
    if (pool->driver_lost)
        return;
    for (uint32_t i = 0; i < pool->sup.seat_count; i++) {
        struct pf__child *child = (struct pf__child *)pool->seats[i];
        child->zygote = NULL;
        if (pool->dead) {
            child->board.segment = NULL; /* the fork did not bring the mapping along */
            child->crash.text = NULL;
            pf__child_close(pool, child);
        }
        free(child);
    }
    if (pool->dead)
        pool->ring.pool = NULL, pool->ring.words = NULL, pool->history.memory = NULL;
    pf__ring_close(&pool->ring);
    pf__history_close(&pool->history);
    free_jobs(pool);
    while (pool->event_count > 0) {
        pf_event_clear(&pool->events[pool->event_first]);
        pool->event_first = (pool->event_first + 1) & (pool->event_room - 1);
        pool->event_count--;
    }
    free(pool->events);
    free(pool->seats);
    free(pool->slots);
    pf__semaphore_free(pool->followed);
    pf__semaphore_free(pool->gathered);
    pf__semaphore_free(pool->driver_wake);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}
