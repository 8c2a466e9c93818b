/* What a caller does with a task: submits it, cancels it, ends it, interrupts it. */
#define _GNU_SOURCE
#include "pool.h"

#include "platform.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_RETRIES = 60000 };

static void set_options(struct pf__task *task, const pf_task_options *options, int64_t now)
{
    task->tell = options->tell != 0;
    task->retries = options->retries < MOST_RETRIES ? options->retries : MOST_RETRIES;
    task->soft = options->soft_limit > 0 ? options->soft_limit : 0;
    task->limit = options->limit > 0 ? options->limit : 0;
    task->expires = options->queue_limit > 0 ? now + options->queue_limit : 0;
}

static void fill(struct pf__job *job, const void *body, size_t size)
{
    memset(job, 0, sizeof *job);
    job->size = size;
    memcpy(job->body, body, size);
}

/* With the lock: a job that has its id, `large` if there is one. NULL with errno. */
static struct pf__job *admit(pf_pool *pool, struct pf__job *large, const void *body, size_t size)
{
    if (!pool->started || pool->closed) {
        errno = pool->started ? ESHUTDOWN : ENOTCONN;
        return NULL;
    }
    struct pf__job *job = large;
    if (job == NULL) {
        job = pf__slabs_take(&pool->slabs, sizeof *job + size);
        if (job == NULL)
            return NULL;
        fill(job, body, size);
    }
    job->task.id = pf__handles_add(&pool->jobs, job);
    if (job->task.id != 0)
        return job;
    if (job != large)
        pf__slabs_give(job);
    errno = ENOMEM;
    return NULL;
}

uint64_t pf_pool_submit(pf_pool *pool, const void *body, size_t size,
                        const pf_task_options *options, int may_block)
{
    if (pool->dead) {
        errno = ECHILD;
        return 0;
    }
    struct pf__job *large = NULL; /* its copying is to keep nobody waiting */
    if (sizeof *large + size > PF_SLAB_MOST) {
        large = pf__slabs_take_alone(sizeof *large + size);
        if (large == NULL)
            return 0;
        fill(large, body, size);
    }
    if (may_block)
        pthread_mutex_lock(&pool->lock);
    else if (pthread_mutex_trylock(&pool->lock) != 0) {
        pf__slabs_give(large);
        errno = EBUSY;
        return 0;
    }
    struct pf__job *job = admit(pool, large, body, size);
    if (job == NULL) {
        int error = errno;
        pthread_mutex_unlock(&pool->lock);
        pf__slabs_give(large);
        errno = error;
        return 0;
    }
    uint64_t id = job->task.id;
    pool->counts.submitted++;
    pf__pool_tell_time(pool);
    if (pool->sup.queue.first == NULL)
        pf__pool_note_claims(pool);
    if (options != NULL)
        set_options(&job->task, options, pool->sup.now);
    pf__supervisor_submit(&pool->sup, &job->task);
    if (pool->sup.unfinished > pool->sup.live)
        pf__pool_is_awaited(pool, 0);
    pf__pool_obey(pool);
    if (!pf__pool_calls_can_wait(pool))
        pf__pool_call_sleepers(pool);
    pf__pool_leave(pool);
    return id;
}

int pf_pool_cancel(pf_pool *pool, uint64_t id)
{
    if (pf__pool_enter(pool) < 0)
        return pf__pool_refused();
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
    if (next == PF_CANCEL_TRY_PAGE)
        done = pf__child_revoke((struct pf__child *)pool->seats[job->task.seat], job->task.seq);
    if (done)
        pf__supervisor_withdrawn(&pool->sup, &job->task, PF_CANCELLED);
    pf__pool_publish(pool);
    pf__pool_leave(pool);
    return done || next == PF_CANCEL_DONE;
}

struct pf__child *pf__pool_runner(pf_pool *pool, const struct pf__task *task)
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
    struct pf__child *child = pf__pool_runner(pool, task);
    uint64_t running = pf__word(task->seq, 0, PF_RUNNING);
    if (child == NULL || !atomic_compare_exchange_strong(&child->board.segment->page, &running,
                                                         pf__word(task->seq, 0, PF_CONDEMNED)))
        return 0;
    pf__child_look(pool, child);
    task->started = atomic_load(&child->board.segment->started_at);
    pf__supervisor_end_task(&pool->sup, task, PF_TERMINATED, signal);
    pf__pool_publish(pool);
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
    if (!ends_a_worker(signal))
        return -1;
    if (pf__pool_enter(pool) < 0)
        return pf__pool_refused();
    struct pf__job *job = pf__handles_find(&pool->jobs, id);
    int done = job != NULL && end_task(pool, &job->task, signal);
    pf__pool_pass_on(pool);
    pf__pool_leave(pool);
    return done;
}

int pf_pool_kill_job(pf_pool *pool, pid_t pid, int signal)
{
    if (!ends_a_worker(signal))
        return -1;
    if (pf__pool_enter(pool) < 0)
        return pf__pool_refused();
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
    pf__pool_pass_on(pool);
    pf__pool_leave(pool);
    return done;
}

int pf_pool_interrupt_task(pf_pool *pool, uint64_t id)
{
    if (pf__pool_enter(pool) < 0)
        return pf__pool_refused();
    struct pf__job *job = pf__handles_find(&pool->jobs, id);
    struct pf__child *child = job != NULL ? pf__pool_runner(pool, &job->task) : NULL;
    if (child != NULL) {
        pf__child_note(pool, child, PF_NOTE_SIGNALLED, PF_SOFT_SIGNAL);
        pf__child_soften(child, job->task.seq, PF_INTERRUPTED);
    }
    pf__pool_pass_on(pool);
    pf__pool_leave(pool);
    return child != NULL;
}
