/* The zygotes of a pool: how one is born, and what goes to and fro. */
#define _GNU_SOURCE
#include "control.h"
#include "platform.h"
#include "pool.h"
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct pf__zygote *pf__zygote_with_role(const pf_pool *pool, enum pf__zygote_role role)
{
    for (struct pf__zygote *zygote = pool->zygotes; zygote != NULL; zygote = zygote->next)
        if (zygote->role == role)
            return zygote;
    return NULL;
}

struct pf__zygote *pf__zygote_active(const pf_pool *pool)
{
    return pf__zygote_with_role(pool, PF_ZYGOTE_ACTIVE);
}

static struct pf__zygote *add(pf_pool *pool, enum pf__zygote_role role, int control)
{
    struct pf__zygote *zygote = calloc(1, sizeof *zygote);
    if (zygote == NULL)
        return NULL;
    zygote->role = role;
    zygote->serial = ++pool->serial;
    zygote->control = control;
    zygote->watch = -1;
    if (fcntl(control, F_SETFL, O_NONBLOCK) < 0 ||
        pf__poll_add(pool->poll, control, PF_POLL_READ, pf__key(PF_KEY_ZYGOTE, 0, zygote->serial)) <
            0) {
        int error = errno;
        free(zygote);
        errno = error;
        return NULL;
    }
    zygote->next = pool->zygotes;
    pool->zygotes = zygote;
    return zygote;
}

static void watch(pf_pool *pool, struct pf__zygote *zygote, pid_t pid)
{
    zygote->pid = pid;
    zygote->watch = pf__process_watch(pid);
    if (zygote->watch >= 0)
        (void)pf__poll_add(pool->poll, zygote->watch, PF_POLL_READ,
                           pf__key(PF_KEY_ZYGOTE_EXIT, 0, zygote->serial));
}

/* ---- birth --------------------------------------------------------------------------------- */

/* A zygote forks its standby before its first worker, so that no worker's memory is in it and no
 * zygote is ever forked from the application again. */
static int ask_standby(pf_pool *pool, struct pf__zygote *zygote)
{
    int ends[2];
    struct pf__message request = {.type = PF_MESSAGE_STANDBY, .slot = UINT32_MAX};
    if (pf__socketpair(ends) < 0)
        return -1;
    if (pf__control_send(zygote->control, &request, &ends[1], 1) < 0 ||
        add(pool, PF_ZYGOTE_STANDBY, ends[0]) == NULL) {
        int error = errno;
        close(ends[0]);
        close(ends[1]);
        errno = error;
        return -1;
    }
    close(ends[1]);
    return 0;
}

int pf_pool_zygote_prepare(pf_pool *pool)
{
    int ends[2];
    if (pool->dead) {
        errno = ECHILD;
        return -1;
    }
    if (pf__socketpair(ends) < 0)
        return -1;
    /* When the application dies: before the standby, and before what all workers have of it. */
    ends[0] = pf__descriptor_up(ends[0]);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_mutex_lock(&pool->lock);
    struct pf__zygote *zygote = NULL;
    if (pool->ending || pool->newborn != NULL)
        errno = pool->ending ? ESHUTDOWN : EBUSY;
    else
        zygote = add(pool, PF_ZYGOTE_DEAD, ends[0]); /* not alive yet */
    int error = errno;
    if (zygote != NULL) {
        zygote->children = 1; /* the birth itself holds it */
        pool->newborn = zygote;
        pool->fork_end = ends[1];
        pool->mask = before;
    }
    pthread_mutex_unlock(&pool->lock);
    if (zygote == NULL) {
        close(ends[0]);
        close(ends[1]);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        errno = error;
        return -1;
    }
    return ends[1];
}

void pf__zygote_activate(pf_pool *pool, struct pf__zygote *zygote)
{
    zygote->role = PF_ZYGOTE_ACTIVE;
    pool->sup.can_spawn = true;
    pool->counts.zygote = zygote->pid;
    pool->counts.standby = 0;
    pf__zygote_want_standby(pool);
}

/* Whatever kept the last one from being forked may last: asked again by the second. */
void pf__zygote_want_standby(pf_pool *pool)
{
    struct pf__zygote *active = pf__zygote_active(pool);
    if (active != NULL && pf__zygote_with_role(pool, PF_ZYGOTE_STANDBY) == NULL &&
        ask_standby(pool, active) < 0)
        pf__timer_set(&pool->timers, &pool->standby_timer, pool->sup.now + PF_STANDBY_INTERVAL);
}

/* The newborn is the pool's. */
static void started(pf_pool *pool, struct pf__zygote *newborn, pid_t pid)
{
    newborn->children--;
    if (pid < 0) {
        pf__zygote_let_go(pool, newborn);
        return;
    }
    struct pf__zygote *old;
    pool->counts.application_forks++;
    for (old = pool->zygotes; old != NULL; old = old->next)
        if (old->role == PF_ZYGOTE_ACTIVE || old->role == PF_ZYGOTE_STANDBY)
            old->role = PF_ZYGOTE_OLD;
    watch(pool, newborn, pid);
    pf__zygote_activate(pool, newborn);
    if (pool->started)
        pf__supervisor_renew(&pool->sup);
    pool->started = 1;
    for (struct pf__zygote *next = pool->zygotes; (old = next) != NULL;) {
        next = old->next;
        pf__zygote_let_go(pool, old);
    }
    pf__pool_advance(pool);
}

int pf_pool_zygote_started(pf_pool *pool, pid_t pid)
{
    pthread_mutex_lock(&pool->lock);
    pool->event_known = pool->event_count;
    struct pf__zygote *newborn = pool->newborn;
    sigset_t mask = pool->mask;
    close(pool->fork_end);
    pool->fork_end = -1;
    pool->newborn = NULL;
    if (newborn != NULL) {
        pf__pool_tell_time(pool);
        started(pool, newborn, pid);
        pf__pool_leave(pool);
    } else {
        pthread_mutex_unlock(&pool->lock);
    }
    if (newborn == NULL && pid > 0) { /* shut down meanwhile: nobody else knows of it */
        (void)kill(pid, SIGKILL);
        (void)pf__process_reap(-1, pid, 1);
    }
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    if (newborn != NULL)
        return 0;
    errno = ESHUTDOWN;
    return -1;
}

/* ---- words from it ------------------------------------------------------------------------- */

static struct pf__zygote *by_serial(const pf_pool *pool, uint64_t serial)
{
    struct pf__zygote *zygote = pool->zygotes;
    while (zygote != NULL && zygote->serial != serial)
        zygote = zygote->next;
    return zygote;
}

static void standby_reported(pf_pool *pool, const struct pf__message *message)
{
    struct pf__zygote *standby = pf__zygote_with_role(pool, PF_ZYGOTE_STANDBY);
    if (standby == NULL || standby->pid != 0 || message->type != PF_MESSAGE_SPAWNED)
        return; /* it could not be forked: its socket ends, and another is asked for */
    watch(pool, standby, message->pid);
    standby->up = true;
    pool->counts.standby = message->pid;
}

static void take_message(pf_pool *pool, struct pf__zygote *zygote,
                         const struct pf__message *message)
{
    if (message->slot == UINT32_MAX) {
        if (message->type == PF_MESSAGE_EXITED)
            pf__zygote_reap(zygote, message->pid);
        else if (zygote->role == PF_ZYGOTE_ACTIVE)
            standby_reported(pool, message);
        return;
    }
    struct pf__child *child = pf__child_at(pool, message->slot, message->generation);
    if (child == NULL || child->zygote != zygote) {
        if (message->type == PF_MESSAGE_EXITED)
            pf__zygote_reap(zygote, message->pid);
        return;
    }
    if (message->type == PF_MESSAGE_SPAWNED)
        pf__child_spawned(pool, child, message->pid);
    else if (message->type == PF_MESSAGE_FAILED)
        pf__child_not_spawned(pool, child, message->status);
    else if (message->type == PF_MESSAGE_EXITED && message->pid == child->pid)
        pf__child_exited(pool, child, message->status, message->peak_rss);
}

/* ---- words to it --------------------------------------------------------------------------- */

static void send_reaps(struct pf__zygote *zygote)
{
    while (zygote->unreaped_count > 0) {
        struct pf__message message = {.type = PF_MESSAGE_REAP,
                                      .pid = zygote->unreaped[zygote->unreaped_count - 1]};
        if (zygote->control >= 0 && pf__control_send(zygote->control, &message, NULL, 0) < 0 &&
            errno == EAGAIN)
            return;
        zygote->unreaped_count--; /* sent; or the zygote is gone, and init reaps */
    }
}

void pf__zygote_reap(struct pf__zygote *zygote, pid_t pid)
{
    if (zygote->unreaped_count == zygote->unreaped_room) {
        uint32_t room = zygote->unreaped_room * 2 + 16;
        pid_t *unreaped = realloc(zygote->unreaped, room * sizeof *unreaped);
        if (unreaped == NULL)
            return; /* a zombie until the zygote ends */
        zygote->unreaped = unreaped;
        zygote->unreaped_room = room;
    }
    zygote->unreaped[zygote->unreaped_count++] = pid;
    send_reaps(zygote);
}

void pf__zygotes_flush(pf_pool *pool)
{
    for (struct pf__zygote *zygote = pool->zygotes; zygote != NULL; zygote = zygote->next)
        if (zygote->unreaped_count > 0)
            send_reaps(zygote);
}

void pf__zygote_ready(pf_pool *pool, uint64_t serial, int exit_watch)
{
    struct pf__zygote *zygote = by_serial(pool, serial);
    struct pf__message message;
    int fds[PF_CONTROL_FDS], count;
    if (zygote == NULL || zygote->control < 0)
        return;
    zygote->children++; /* what it says may end its last worker */
    while ((count = pf__control_receive(zygote->control, &message, fds)) >= 0) {
        while (count > 0)
            close(fds[--count]);
        zygote->up = true;
        zygote->silence = 0;
        take_message(pool, zygote, &message);
        if (zygote->control < 0)
            break;
    }
    if (zygote->control >= 0 && (exit_watch || errno != EAGAIN)) {
        /* The socket can end before the process does; a zygote that speaks no more is of no use. */
        if (zygote->pid > 0)
            (void)pf__process_signal(zygote->watch, zygote->pid, SIGKILL);
        pf__zygote_died(pool, zygote);
    }
    zygote->children--;
    pf__zygote_let_go(pool, zygote);
}
