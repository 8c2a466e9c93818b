/* The end of a zygote: lost and replaced by its standby, silent, or let go. */
#define _GNU_SOURCE
#include "platform.h"
#include "pool.h"
#include "process.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* Looks, a second apart, at what it owes; the latter where there is nobody to take over. */
enum { MUTE_AFTER = 5, MUTE_ALONE = 30 };
static const int64_t LAST_PATIENCE = (int64_t)5 * 1000000000; /* ns */

static void close_ends(pf_pool *pool, struct pf__zygote *zygote)
{
    if (zygote->control >= 0) {
        (void)pf__poll_remove(pool->poll, zygote->control);
        close(zygote->control);
    }
    if (zygote->watch >= 0)
        (void)pf__poll_remove(pool->poll, zygote->watch); /* open still: by it we reap */
    zygote->control = -1;
}

static void drop(struct pf__zygote *zygote)
{
    if (zygote->watch >= 0)
        close(zygote->watch);
    free(zygote->unreaped);
    free(zygote);
}

/* ---- death --------------------------------------------------------------------------------- */

/* First this, then the pid: one that is being born now has either said its pid, or will claim
 * nothing. Then the order is void, and 1 is returned. */
static int give_up_birth(pf_pool *pool, struct pf__child *child)
{
    pf__child_learn_pid(pool, child);
    if (child->pid == 0) {
        atomic_store(&child->board.segment->control, PF_CTL_RETIRE);
        pf__child_learn_pid(pool, child);
    }
    if (child->pid != 0)
        return 0;
    pf__child_not_spawned(pool, child, ENETDOWN);
    return 1;
}

/* Its workers die with it, by the kernel's hand; each is settled when its own end is confirmed. */
static void children_of_dead(pf_pool *pool, struct pf__zygote *zygote)
{
    for (uint32_t i = 0; i < pool->sup.seat_count; i++) {
        struct pf__child *child = (struct pf__child *)pool->seats[i];
        if (child->zygote != zygote || child->seat.state == PF_SEAT_VACANT)
            continue;
        /* Should one have been born after that, it found its zygote gone. */
        if (!give_up_birth(pool, child) && (child->exit_seen || child->watch < 0))
            pf__timer_set(&pool->timers, &child->timer, pool->sup.now);
    }
}

static void promote(pf_pool *pool, pf_event *event)
{
    struct pf__zygote *standby = pf__zygote_with_role(pool, PF_ZYGOTE_STANDBY);
    pool->counts.zygote = pool->counts.standby = 0;
    pool->sup.can_spawn = false;
    if (standby == NULL)
        return;
    pf__zygote_activate(pool, standby);
    event->status = standby->pid;
}

/* Counted in looks, between which what it has said is read: by the clock a zygote would be blamed
 * for the time in which it is the application that was stopped, or a guest's loop that was busy. */
static uint32_t silence_of(const pf_pool *pool, struct pf__zygote *zygote)
{
    if (zygote->silence == 0 || pool->sup.now - zygote->looked >= PF_BIRTH_LOOK) {
        zygote->looked = pool->sup.now;
        zygote->silence++;
    }
    return zygote->silence;
}

/* One that is still starting imports for as long as that takes; unless there is another. */
static int is_waited_for(const pf_pool *pool, const struct pf__zygote *zygote, uint32_t silence)
{
    if (zygote->role == PF_ZYGOTE_OLD || pool->counts.standby != 0)
        return silence < MUTE_AFTER;
    return !zygote->up || silence < MUTE_ALONE;
}

/* It does not answer: the standby takes over, if there is one. */
static void replace(pf_pool *pool, struct pf__zygote *zygote)
{
    pf_event event = {.type = PF_EVENT_ZYGOTE_LOST, .pid = zygote->pid, .outcome = 1};
    struct pf__zygote *standby = pf__zygote_with_role(pool, PF_ZYGOTE_STANDBY);
    zygote->role = PF_ZYGOTE_OLD;
    pool->counts.zygotes_lost++;
    if (standby != NULL && standby->pid == 0) { /* asked of this one, and not born yet either */
        standby->role = PF_ZYGOTE_OLD;
        pf__zygote_let_go(pool, standby);
    }
    promote(pool, &event);
    pf__pool_event(pool, &event);
}

/* Stopped, swapped out, or stuck: in somebody's fork handler, or in an import while there is a
 * newer one. What it owes others do. It is not killed while it has workers, for they would go with
 * it. */
int pf__zygote_is_mute(pf_pool *pool, struct pf__zygote *zygote)
{
    if (is_waited_for(pool, zygote, silence_of(pool, zygote)))
        return 0;
    zygote->children++;
    if (zygote->role == PF_ZYGOTE_ACTIVE)
        replace(pool, zygote);
    for (uint32_t i = 0; i < pool->sup.seat_count; i++) {
        struct pf__child *child = (struct pf__child *)pool->seats[i];
        if (child->zygote == zygote && child->seat.state == PF_SEAT_SPAWNING &&
            !give_up_birth(pool, child) && pf__process_parent(child->pid) == zygote->pid)
            pf__child_spawned(pool, child, child->pid);
    }
    zygote->children--;
    pf__zygote_let_go(pool, zygote);
    return 1;
}

void pf__zygote_died(pf_pool *pool, struct pf__zygote *zygote)
{
    enum pf__zygote_role role = zygote->role;
    if (role == PF_ZYGOTE_DEAD)
        return;
    zygote->role = PF_ZYGOTE_DEAD;
    close_ends(pool, zygote);
    if (zygote->pid > 0)
        (void)pf__process_reap(zygote->watch, zygote->pid, 1);
    pf_event event = {.type = PF_EVENT_ZYGOTE_LOST, .pid = zygote->pid};
    if (role == PF_ZYGOTE_ACTIVE) {
        pool->counts.zygotes_lost++;
        promote(pool, &event);
        pf__pool_event(pool, &event);
        children_of_dead(pool, zygote);
    } else if (role == PF_ZYGOTE_STANDBY) {
        pool->counts.standby = 0;
        pf__timer_set(&pool->timers, &pool->standby_timer,
                      pool->sup.now + (zygote->pid != 0 ? 0 : PF_STANDBY_INTERVAL));
    } else {
        children_of_dead(pool, zygote);
    }
}

/* An old or dead zygote goes when its last worker has gone. */
void pf__zygote_let_go(pf_pool *pool, struct pf__zygote *zygote)
{
    if (zygote->children > 0 || (zygote->role != PF_ZYGOTE_OLD && zygote->role != PF_ZYGOTE_DEAD))
        return;
    int alive = zygote->role == PF_ZYGOTE_OLD;
    close_ends(pool, zygote);
    if (alive && zygote->pid > 0) { /* without workers it would end at once, unless it is stopped */
        (void)pf__process_signal(zygote->watch, zygote->pid, SIGKILL);
        (void)pf__process_reap(zygote->watch, zygote->pid, 1);
    }
    for (struct pf__zygote **link = &pool->zygotes; *link != NULL; link = &(*link)->next)
        if (*link == zygote) {
            *link = zygote->next;
            break;
        }
    drop(zygote);
}

static int ended_within(const struct pf__zygote *zygote, int64_t ns)
{
    const struct timespec pause = {0, 1000000};
    int64_t until = pf__now() + ns;
    while (!pf__process_reap(zygote->watch, zygote->pid, 0)) {
        if (pf__now() > until)
            return 0;
        nanosleep(&pause, NULL);
    }
    return 1;
}

/* The end of the pool: each zygote sees its socket close, kills its workers and ends. One that is
 * just being born is seen to by who bears it. */
struct pf__zygote *pf__zygotes_release(pf_pool *pool)
{
    struct pf__zygote *zygotes = pool->zygotes;
    for (struct pf__zygote *zygote = zygotes; zygote != NULL; zygote = zygote->next)
        close_ends(pool, zygote);
    for (uint32_t i = 0; i < pool->sup.seat_count; i++)
        ((struct pf__child *)pool->seats[i])->zygote = NULL;
    pool->zygotes = pool->newborn = NULL;
    return zygotes;
}

/* It ends its workers and reaps them, which nobody else would in its place: so it is given time. */
static void end(const struct pf__zygote *zygote)
{
    (void)pf__process_signal(zygote->watch, zygote->pid, SIGCONT);
    if (ended_within(zygote, LAST_PATIENCE))
        return;
    (void)pf__process_signal(zygote->watch, zygote->pid, SIGKILL);
    (void)ended_within(zygote, LAST_PATIENCE);
}

void pf__zygotes_end(struct pf__zygote *zygotes)
{
    while (zygotes != NULL) {
        struct pf__zygote *zygote = zygotes;
        zygotes = zygote->next;
        if (zygote->role != PF_ZYGOTE_DEAD && zygote->pid > 0)
            end(zygote);
        drop(zygote);
    }
}
