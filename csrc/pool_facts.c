/* What the pool tells about itself: counters, its workers, who runs a task. */
#define _GNU_SOURCE
#include "pool.h"

#include <errno.h>

/* The lock taken; an ended pool has facts, too. */
static int look(pf_pool *pool)
{
    if (pool->dead) {
        errno = ECHILD;
        return -1;
    }
    pthread_mutex_lock(&pool->lock);
    if (!atomic_load(&pool->ended)) {
        pf__pool_tell_time(pool);
        pf__pool_note_claims(pool);
    }
    return 0;
}

static void look_away(pf_pool *pool)
{
    pf__pool_pass_on(pool);
    pthread_mutex_unlock(&pool->lock);
}

int pf_pool_describe(pf_pool *pool, pf_pool_info *info)
{
    if (look(pool) < 0)
        return -1;
    *info = pool->counts;
    info->target = pool->sup.target;
    info->running = pool->sup.can_spawn;
    info->unfinished = pool->sup.unfinished;
    info->processes = pool->sup.live;
    for (uint32_t i = 0; i < pool->sup.seat_count; i++) {
        info->alive += pool->sup.seats[i]->state >= PF_SEAT_STARTING && !pool->sup.seats[i]->spare;
        info->busy += pool->sup.seats[i]->held.first != NULL;
    }
    info->queued =
        info->unfinished - (info->busy < info->unfinished ? info->busy : info->unfinished);
    look_away(pool);
    return 0;
}

static pf_worker_state state_of(const struct pf__seat *seat)
{
    if (seat->killed || seat->down)
        return PF_WORKER_ENDING;
    if (seat->state == PF_SEAT_SPAWNING)
        return PF_WORKER_SPAWNING;
    if (seat->state == PF_SEAT_STARTING)
        return PF_WORKER_STARTING;
    if (seat->held.first != NULL)
        return PF_WORKER_RUNNING;
    if (seat->spare)
        return PF_WORKER_SPARE;
    return seat->retiring ? PF_WORKER_RETIRING : PF_WORKER_IDLE;
}

/* One that is at work says so before the zygote's word of its birth is read. */
static pid_t pid_of(const struct pf__child *child)
{
    return child->pid == 0 && child->board.segment != NULL ? atomic_load(&child->board.segment->pid)
                                                           : child->pid;
}

int pf_pool_list_workers(pf_pool *pool, pf_worker_info *workers, int max)
{
    if (look(pool) < 0)
        return -1;
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
                                 .pid = pid_of(child),
                                 .generation = child->generation,
                                 .task = task != NULL ? task->id : 0,
                                 .since = task != NULL && child->board.segment != NULL
                                              ? atomic_load(&child->board.segment->started_at)
                                              : child->since,
                                 .tasks_done = child->seat.tasks_done};
        count++;
    }
    look_away(pool);
    return count;
}

int pf_pool_history(pf_pool *pool, uint32_t slot, pf_history *copy)
{
    if (look(pool) < 0)
        return -1;
    int known = slot < pool->sup.seat_count;
    if (known)
        pf__history_copy(pf__history_of(&pool->history, slot), copy);
    look_away(pool);
    errno = ERANGE;
    return known ? 0 : -1;
}

pid_t pf_pool_find_task(pf_pool *pool, uint64_t id)
{
    if (pf__pool_enter(pool) < 0)
        return pf__pool_refused();
    struct pf__job *job = pf__handles_find(&pool->jobs, id);
    struct pf__child *child = job != NULL ? pf__pool_runner(pool, &job->task) : NULL;
    pid_t pid = child != NULL ? child->pid : 0;
    pf__pool_pass_on(pool);
    pf__pool_leave(pool);
    return pid;
}
