/* Worker processes as the application sees them: ordered, and buried when confirmed dead. */
#define _GNU_SOURCE
#include "control.h"
#include "platform.h"
#include "pool.h"
#include "process.h"
#include "worker.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RESULTS_SIZE = 1 << 16, READ_AT_ONCE = 1 << 20 };
enum { STATUS_PATIENCE = 1000000000, WATCH_INTERVAL = 10000000 }; /* ns */

struct pf__child *pf__child_new(uint32_t index)
{
    struct pf__child *child = calloc(1, sizeof *child);
    if (child == NULL)
        return NULL;
    pf__seat_init(&child->seat, index);
    pf__timer_init(&child->timer, 0);
    child->watch = child->board.fd = child->channel.in = child->channel.out = child->crash.fd = -1;
    child->output = child->output_left = -1;
    return child;
}

struct pf__child *pf__child_at(const pf_pool *pool, uint32_t slot, uint64_t generation)
{
    if (slot >= pool->sup.seat_count)
        return NULL;
    struct pf__child *child = (struct pf__child *)pool->seats[slot];
    if (child->seat.state == PF_SEAT_VACANT || child->generation != generation)
        return NULL;
    return child;
}

/* ---- birth --------------------------------------------------------------------------------- */

static void close_pair(int ends[2])
{
    for (int i = 0; i < 2; i++)
        if (ends[i] >= 0)
            close(ends[i]);
}

static int create_output(const pf_pool *pool, struct pf__child *child)
{
    if (pool->options.capture_output && (child->output = pf__output_create()) < 0)
        return -1;
    return 0;
}

static void close_output(struct pf__child *child)
{
    pf__output_close(child->output);
    child->output = -1;
}

/* Everything of a worker process is made here, anew, and its ends go to the zygote. */
int pf__child_spawn(pf_pool *pool, struct pf__child *child)
{
    struct pf__zygote *zygote = pf__zygote_active(pool);
    int to[2] = {-1, -1}, from[2] = {-1, -1};
    child->generation = ++pool->generations;
    child->since = pool->sup.now;
    child->pid = 0;
    child->watch = -1;
    child->status = -1;
    child->peak_rss = child->needed = 0;
    child->status_known = child->exit_seen = child->zygote_lost = 0;
    child->watching_out = child->reported = child->confirmed = 0;
    child->zygote = NULL;
    pool->counts.spawned++;
    if (zygote == NULL) {
        errno = ENETDOWN;
        return -1;
    }
    if (pf__scoreboard_create(&child->board, RESULTS_SIZE, child->seat.tasks_most) < 0 ||
        pf__crashlog_create(&child->crash) < 0 || create_output(pool, child) < 0 ||
        pf__pipe(to) < 0 || pf__pipe(from) < 0)
        goto fail;
    pf__history_spawned(pf__history_of(&pool->history, child->seat.index), child->generation);
    if (child->seat.spare)
        atomic_store(&child->board.segment->control, PF_CTL_HOLD);
    int fds[PF_WORKER_FDS] = {[PF_FD_TASKS] = pool->ring.pool_fd,
                              [PF_FD_WORDS] = pool->ring.words_fd,
                              [PF_FD_BOARD] = child->board.fd,
                              [PF_FD_HISTORY] = pool->history.fd,
                              [PF_FD_IN] = to[0],
                              [PF_FD_OUT] = from[1],
                              [PF_FD_CRASH] = child->crash.fd,
                              [PF_FD_OUTPUT] = child->output};
    int count = child->output >= 0 ? PF_WORKER_FDS : PF_FD_OUTPUT;
    struct pf__message request = {
        .type = PF_MESSAGE_SPAWN, .slot = child->seat.index, .generation = child->generation};
    if (pf__control_send(zygote->control, &request, fds, count) < 0)
        goto fail;
    close(child->board.fd);
    close(child->crash.fd);
    child->board.fd = child->crash.fd = -1;
    close(to[0]);
    close(from[1]);
    to[0] = from[1] = -1;
    if (pf__channel_open(&child->channel, from[0], to[1], UINT64_MAX) < 0 ||
        pf__poll_add(pool->poll, from[0], PF_POLL_READ,
                     pf__key(PF_KEY_PIPE, child->seat.index, child->generation)) < 0) {
        int error = errno;
        pf__channel_close(&child->channel);
        pf__scoreboard_close(&child->board);
        pf__crashlog_close(&child->crash);
        close_output(child);
        errno = error;
        return -1; /* the worker that may yet be born finds its pipes closed, and ends */
    }
    child->zygote = zygote;
    zygote->children++;
    pf__timer_set(&pool->timers, &child->timer, pool->sup.now + PF_BIRTH_LOOK);
    return 0;
fail:;
    int error = errno;
    close_pair(to);
    close_pair(from);
    pf__scoreboard_close(&child->board);
    pf__crashlog_close(&child->crash);
    close_output(child);
    child->channel.in = child->channel.out = -1;
    errno = error;
    return -1;
}

static void unwatch(pf_pool *pool, struct pf__child *child)
{
    if (child->watch >= 0) {
        (void)pf__poll_remove(pool->poll, child->watch);
        close(child->watch);
        child->watch = -1;
    }
}

static void watch(pf_pool *pool, struct pf__child *child, pid_t pid)
{
    if (child->pid != 0)
        return;
    child->pid = pid;
    child->watch = pf__process_watch(pid);
    if (child->watch >= 0)
        (void)pf__poll_add(pool->poll, child->watch, PF_POLL_READ,
                           pf__key(PF_KEY_EXIT, child->seat.index, child->generation));
}

/* A newborn claims and speaks before the zygote's word of it is read, or if that never comes. What
 * it says of itself is enough to watch it by; but none is signalled by that, for it may be wild,
 * and the pid anybody's: ours, too. */
void pf__child_learn_pid(pf_pool *pool, struct pf__child *child)
{
    if (child->pid != 0 || child->board.segment == NULL)
        return;
    pid_t pid = atomic_load(&child->board.segment->pid);
    if (pid > 0)
        watch(pool, child, pid);
}

void pf__child_spawned(pf_pool *pool, struct pf__child *child, pid_t pid)
{
    int lied = child->pid != 0 && child->pid != pid;
    if (lied) {
        unwatch(pool, child);
        pf__timer_stop(&pool->timers, &child->timer);
        child->pid = child->exit_seen = 0;
    }
    watch(pool, child, pid);
    child->confirmed = 1;                                  /* by its zygote, or the kernel */
    if (atomic_load(&child->board.segment->softened) != 0) /* it may have been told before */
        pf__child_signal(child, PF_SOFT_SIGNAL);
    if (!child->exit_seen)
        pf__timer_stop(&pool->timers, &child->timer);
    pf__supervisor_spawned(&pool->sup, &child->seat);
    if (lied) {
        pf__child_misbehaved(pool, child);
        pf__supervisor_kill(&pool->sup, &child->seat, SIGKILL); /* it may have hit another so far */
    }
}

void pf__child_not_spawned(pf_pool *pool, struct pf__child *child, int error)
{
    pf_event event = pf__child_event(child, PF_EVENT_SPAWN_FAILED);
    event.status = error;
    pool->counts.spawn_failures++;
    pf__child_close(pool, child);
    pf__supervisor_spawn_failed(&pool->sup, &child->seat);
    pf__pool_event(pool, &event);
}

/* Deregister, then close: a process forked in between holds a copy that would keep firing. */
void pf__child_close(pf_pool *pool, struct pf__child *child)
{
    if (child->channel.in >= 0)
        (void)pf__poll_remove(pool->poll, child->channel.in);
    if (child->watching_out && child->channel.out >= 0)
        (void)pf__poll_remove(pool->poll, child->channel.out);
    child->watching_out = 0;
    pf__channel_close(&child->channel);
    unwatch(pool, child);
    pf__scoreboard_close(&child->board);
    pf__crashlog_close(&child->crash);
    close_output(child);
    pf__timer_stop(&pool->timers, &child->timer);
    if (child->zygote != NULL) {
        struct pf__zygote *zygote = child->zygote;
        child->zygote = NULL;
        zygote->children--;
        pf__zygote_let_go(pool, zygote);
    }
}

/* Looked at when the output has been read: a worker that has gone on has emptied it. */
static int still_holds(const struct pf__child *child, uint64_t seq)
{
    const struct pf__segment *segment = child->board.segment;
    return segment == NULL || seq == 0 ||
           pf__word_seq(atomic_load_explicit(&segment->page, memory_order_acquire)) == seq;
}

void pf__child_show_output(const struct pf__child *child, uint64_t seq, pf_event *event)
{
    int fd = child->left != NULL ? child->output_left : child->output;
    void *text = fd >= 0 ? malloc(PF_OUTPUT_SHOWN) : NULL;
    if (text == NULL)
        return;
    size_t size = pf__output_read(fd, text);
    if (size > 0 && still_holds(child, seq)) {
        event->output = text;
        event->output_size = size;
    } else {
        free(text);
    }
}

/* ---- death --------------------------------------------------------------------------------- */

/* The order is the protocol's: what it delivered counts; then what it held is judged by its words;
 * only then are its index and its pid free for others. */
static void bury(pf_pool *pool, struct pf__child *child)
{
    struct pf__seat *seat = &child->seat;
    struct pf__zygote *zygote = child->zygote;
    pid_t pid = child->pid;
    pf__child_drain(pool, child);
    if (child->channel.in >= 0)
        pf__child_drain_pipe(pool, child, pf__channel_pending(&child->channel));
    pf__pool_note_claims(pool);
    /* Also what it claimed and was settled since, for whoever has this index next does not know. */
    pf__ring_release(&pool->ring, seat->index);
    pf__child_look(pool, child);
    uint64_t page = atomic_load_explicit(&child->board.segment->page, memory_order_acquire);
    uint64_t others = ~((uint64_t)1 << seat->index % 64);
    atomic_fetch_and(&pool->ring.words->sleepers[seat->index / 64], others);
    atomic_fetch_and(&pool->ring.words->spinners[seat->index / 64], others);
    child->zygote_lost = zygote != NULL && zygote->role == PF_ZYGOTE_DEAD;
    pf_event event = pf__child_event(child, PF_EVENT_WORKER_EXITED);
    int in_order = seat->down && child->status_known && child->status == 0; /* it said so before */
    event.outcome = seat->killed && seat->down ? PF_EXIT_OVERDUE
                    : seat->killed             ? PF_EXIT_KILLED
                    : in_order                 ? PF_EXIT_RETIRED
                                               : PF_EXIT_UNASKED;
    event.status = child->status_known ? child->status : -1;
    event.memory = seat->memory;
    event.at = seat->up_at;
    pf__child_note(pool, child, PF_NOTE_EXITED, (uint64_t)(int64_t)event.status);
    if (seat->state != PF_SEAT_UP && !seat->up_early)
        pf__child_show_output(child, 0, &event);
    pool->counts.exited++;
    if (!seat->retiring || seat->succeeded)
        pool->counts.replaced++;
    if (zygote != NULL)
        zygote->children++; /* held, so that it is there for the acknowledgement */
    if (child->zygote_lost)
        (void)pf__process_reap(child->watch, pid, 0);
    struct pf__crashlog crash = child->crash;
    child->crash = (struct pf__crashlog){.fd = -1};
    child->left = &crash;
    child->output_left = child->output;
    child->output = -1;
    pf__child_close(pool, child);
    pf__supervisor_exited(&pool->sup, seat, page);
    pf__pool_obey(pool); /* while the seat still shows whom it was */
    child->left = NULL;
    pf__crashlog_close(&crash);
    pf__output_close(child->output_left);
    pf__pool_event(pool, &event);
    if (zygote != NULL) {
        pf__zygote_reap(zygote, pid);
        zygote->children--;
        pf__zygote_let_go(pool, zygote);
    }
}

void pf__child_exited(pf_pool *pool, struct pf__child *child, int status, uint64_t peak_rss)
{
    child->status = status;
    child->peak_rss = peak_rss;
    child->status_known = 1;
    /* A fork takes a processor for a millisecond: not before who waits has been told of this. */
    pool->sup.forks_wait = !pool->by_driver;
    bury(pool, child);
}

/* The process is gone, and the zygote has not said how it ended. */
static void exit_seen(pf_pool *pool, struct pf__child *child)
{
    if (child->exit_seen)
        return;
    child->exit_seen = 1;
    if (child->watch >= 0)
        (void)pf__poll_remove(pool->poll, child->watch);
    if (child->zygote == NULL || child->zygote->role == PF_ZYGOTE_DEAD)
        bury(pool, child);
    else
        pf__timer_set(&pool->timers, &child->timer, pool->sup.now + STATUS_PATIENCE);
}

/* Reaped first, should it have become our child, for kill finds what nobody has reaped. */
static int is_gone(pid_t pid)
{
    (void)pf__process_reap(-1, pid, 0);
    return kill(pid, 0) < 0 && errno == ESRCH;
}

/* Nobody has said that it is born. */
static void is_overdue(pf_pool *pool, struct pf__child *child)
{
    if (!pf__zygote_is_mute(pool, child->zygote))
        pf__timer_set(&pool->timers, &child->timer, pool->sup.now + PF_BIRTH_LOOK);
}

void pf__child_timer(pf_pool *pool, struct pf__timer *timer)
{
    struct pf__child *child =
        (struct pf__child *)(void *)((char *)timer - offsetof(struct pf__child, timer));
    struct pf__zygote *zygote = child->zygote;
    if (child->exit_seen)
        bury(pool, child);
    else if (child->seat.state == PF_SEAT_SPAWNING && zygote->role != PF_ZYGOTE_DEAD)
        is_overdue(pool, child);
    else if (child->pid > 0 && is_gone(child->pid))
        exit_seen(pool, child);
    else /* its zygote is dead and there is no pidfd: nothing to do but ask */
        pf__timer_set(&pool->timers, timer, pool->sup.now + WATCH_INTERVAL);
}

void pf__child_ready(pf_pool *pool, struct pf__child *child, int kind)
{
    if (kind == PF_KEY_EXIT) {
        exit_seen(pool, child);
    } else if (kind == PF_KEY_ROOM) {
        pf__child_flush(pool, child);
    } else {
        pf__child_drain_pipe(pool, child,
                             READ_AT_ONCE); /* the others have their turn, and the lock's */
        pf__child_drain(pool, child);
    }
}
