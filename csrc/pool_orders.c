/* What the supervisor orders, carried out; and the events that the caller is given. */
#define _GNU_SOURCE
#include "control.h"
#include "platform.h"
#include "pool.h"
#include "process.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* ---- events -------------------------------------------------------------------------------- */

/* For a first few, or for twice as many. */
static int make_room(pf_pool *pool)
{
    size_t room = pool->event_room != 0 ? pool->event_room * 2 : 64;
    pf_event *events = malloc(room * sizeof *events);
    if (events == NULL)
        return 0;
    for (size_t i = 0; i < pool->event_count; i++)
        events[i] = pool->events[(pool->event_first + i) & (pool->event_room - 1)];
    free(pool->events);
    pool->events = events;
    pool->event_first = 0;
    pool->event_room = room;
    return 1;
}

static inline int has_room(pf_pool *pool)
{
    return pool->event_count < pool->event_room || make_room(pool);
}

/* Without memory it is lost, and what it carries. No task's end is: obey sees to that. */
void pf__pool_event(pf_pool *pool, const pf_event *event)
{
    if (!has_room(pool)) {
        pf_event lost = *event;
        pf_event_clear(&lost);
        return;
    }
    pool->events[(pool->event_first + pool->event_count++) & (pool->event_room - 1)] = *event;
}

pf_event pf__child_event(const struct pf__child *child, pf_event_type type)
{
    return (pf_event){.type = type,
                      .slot = child->seat.index,
                      .pid = child->pid,
                      .status = -1,
                      .peak_rss = child->peak_rss,
                      .zygote_lost = child->zygote_lost};
}

void pf__child_note(pf_pool *pool, const struct pf__child *child, pf_note_type type, uint64_t value)
{
    pf__history_note(pf__history_of(&pool->history, child->seat.index), type, value);
}

static void give_accepted(pf_pool *pool, const struct pf__task *task)
{
    pf_event event =
        pf__child_event((struct pf__child *)pool->seats[task->seat], PF_EVENT_ACCEPTED);
    event.task = task->id;
    event.at = task->started;
    pf__pool_event(pool, &event);
}

static uint64_t *counter_of(pf_pool_info *counts, uint32_t verdict)
{
    switch (verdict) {
    case PF_OK:
        return &counts->succeeded;
    case PF_LOST:
    case PF_TERMINATED:
        return &counts->lost;
    case PF_TIMED_OUT:
        return &counts->timed_out;
    case PF_CANCELLED:
    case PF_EXPIRED:
        return &counts->cancelled;
    default:
        return &counts->failed;
    }
}

static void show_crash(pf_event *event, const struct pf__child *child)
{
    const struct pf__crashlog *crash = child->left != NULL ? child->left : &child->crash;
    size_t size = pf__crashlog_length(crash);
    event->data = size > 0 ? malloc(size) : NULL;
    if (event->data != NULL)
        memcpy(event->data, crash->text, event->size = size);
}

static void show_history(const pf_pool *pool, pf_event *event)
{
    event->history = malloc(sizeof *event->history);
    if (event->history != NULL)
        pf__history_copy(pf__history_of(&pool->history, event->slot), event->history);
}

/* What else is known of the worker that held the task. */
static void show_worker(pf_pool *pool, const struct pf__task *task, pf_event *event)
{
    struct pf__child *child = (struct pf__child *)pool->seats[task->seat];
    if (child->status_known)
        event->status = child->status;
    bool lost = task->verdict == PF_LOST, timed_out = task->verdict == PF_TIMED_OUT;
    if (lost && child->seat.oversized)
        event->memory = child->seat.memory;
    if (lost || timed_out)
        show_crash(event, child);
    if (lost || timed_out || task->verdict == PF_TERMINATED) {
        show_history(pool, event);
        if (task->started != 0) /* else what stands there is another task's */
            pf__child_show_output(child, task->seq, event);
    }
}

static void give_settled(pf_pool *pool, struct pf__task *task)
{
    struct pf__job *job = (struct pf__job *)task;
    pf_event event =
        task->seat != PF_NO_WORKER
            ? pf__child_event((struct pf__child *)pool->seats[task->seat], PF_EVENT_DONE)
            : (pf_event){.type = PF_EVENT_DONE, .status = -1};
    if (task->seat != PF_NO_WORKER)
        show_worker(pool, task, &event);
    event.outcome = task->verdict;
    event.task = task->id;
    event.at = task->started;
    event.softened = job->softened;
    if (event.data == NULL) {
        event.data = job->result;
        event.size = job->result_size;
    }
    ++*counter_of(&pool->counts, task->verdict);
    pf__handles_remove(&pool->jobs, task->id);
    pf__job_free(job);
    pf__pool_event(pool, &event);
}

/* ---- orders -------------------------------------------------------------------------------- */

/* To wake the loop of a guest for the start of a task that ends as soon costs more than the task.
 * So it looks by itself, once in a while, and workers ring for what begins after that. */
static void look_for_starts(pf_pool *pool)
{
    if (pool->start_timer.at != PF_NEVER)
        return;
    int64_t at = pf__now() + PF_START_LOOK; /* who submits does not always tell the time */
    pf__timer_set(&pool->timers, &pool->start_timer, at);
    atomic_store_explicit(&pool->ring.pool->looks_at, at, memory_order_release);
}

static void publish(pf_pool *pool, struct pf__task *task)
{
    const struct pf__job *job = (struct pf__job *)task;
    int fits = pf__ring_fits(&pool->ring, job->size);
    pf__ring_publish(&pool->ring, task->seq, task->id, fits ? job->body : NULL,
                     fits ? (uint32_t)job->size : 0,
                     (task->tell ? PF_BODY_TELL : 0) | task->attempts * PF_BODY_LOST);
    if (task->tell && pool->guest)
        look_for_starts(pool);
}

static void expire(pf_pool *pool, struct pf__task *task)
{
    if (pf__ring_cancel(&pool->ring, task->seq)) /* else it has just been claimed */
        pf__supervisor_withdrawn(&pool->sup, task, PF_EXPIRED);
}

/* Whose pid is not known is not signalled: 0 would be ourselves and our family, and what a worker
 * says of itself may be anybody's. An application that has given up the right to signal them, as
 * daemons do, has their zygote do it. */
void pf__child_signal(const struct pf__child *child, int signal)
{
    struct pf__message message = {.type = PF_MESSAGE_SIGNAL, .pid = child->pid, .status = signal};
    if (child->pid <= 0 || !child->confirmed ||
        pf__process_signal(child->watch, child->pid, signal) == 0 || errno != EPERM)
        return;
    if (child->zygote != NULL && child->zygote->control >= 0)
        (void)pf__control_send(child->zygote->control, &message, NULL, 0);
}

void pf__child_soften(const struct pf__child *child, uint64_t seq, int64_t why)
{
    atomic_store_explicit(&child->board.segment->soft_limit, why, memory_order_relaxed);
    atomic_store_explicit(&child->board.segment->softened, seq, memory_order_release);
    pf__child_signal(child, PF_SOFT_SIGNAL);
}

static void soften(pf_pool *pool, struct pf__child *child, struct pf__task *task)
{
    pf_event event = pf__child_event(child, PF_EVENT_SOFT_LIMIT);
    event.task = task->id;
    event.at = task->started;
    event.softened = ++((struct pf__job *)task)->softened;
    pf__child_note(pool, child, PF_NOTE_SOFT_LIMIT, task->id);
    pf__child_soften(child, task->seq, task->soft);
    pf__pool_event(pool, &event);
}

static void look_asked(pf_pool *pool, struct pf__child *child, uint64_t seq)
{
    if (atomic_load_explicit(&child->board.segment->answered, memory_order_acquire) == seq ||
        pf__process_is_deaf(child->pid, PF_STACKS_SIGNAL))
        pf__supervisor_answered(&pool->sup, &child->seat);
}

static void condemn(pf_pool *pool, struct pf__child *child, uint64_t seq)
{
    pf__child_look(pool, child); /* as it stands before the page is ours */
    uint64_t running = pf__word(seq, 0, PF_RUNNING);
    bool done = child->board.segment != NULL &&
                atomic_compare_exchange_strong(&child->board.segment->page, &running,
                                               pf__word(seq, 0, PF_CONDEMNED));
    const struct pf__task *task = child->seat.held.last;
    if (done && task != NULL)
        pf__child_note(pool, child, PF_NOTE_CONDEMNED, task->id);
    pf__supervisor_condemned(&pool->sup, &child->seat, seq, done);
}

static void retire(pf_pool *pool, struct pf__child *child)
{
    if (child->board.segment == NULL)
        return;
    pf__child_note(pool, child, PF_NOTE_RETIRED, 0);
    atomic_store(&child->board.segment->control, PF_CTL_RETIRE);
    pf__child_send(pool, child, PF_FRAME_BELL, 0);
}

/* If it sleeps it is called like any other that does. */
static void release(struct pf__child *child)
{
    if (child->board.segment != NULL)
        atomic_fetch_and(&child->board.segment->control, ~(uint32_t)PF_CTL_HOLD);
}

static void sample(pf_pool *pool, struct pf__child *child)
{
    const struct pf__recycling *recycling = &pool->sup.recycling;
    uint64_t limit = recycling->memory_limit, most = child->seat.memory_most;
    pf__output_trim(child->output);
    if ((limit == 0 && recycling->memory == 0) || child->seat.state != PF_SEAT_UP)
        return;
    pf__child_learn_pid(pool, child);
    if (child->pid > 0)
        pf__supervisor_memory(&pool->sup, &child->seat,
                              pf__process_memory(child->pid, most == 0 ? limit : most));
}

/* A worker leaves a slot before it claims another: one that has not would keep the ring for itself.
 */
static void check_claim(pf_pool *pool, uint64_t word)
{
    if (pf__word_state(word) != PF_CLAIMED || pf__word_worker(word) >= pool->sup.seat_count)
        return;
    struct pf__child *child = (struct pf__child *)pool->seats[pf__word_worker(word)];
    const struct pf__task *newest = child->seat.held.last;
    if (newest != NULL && newest->seq > pf__word_seq(word))
        pf__child_misbehaved(pool, child);
}

static void look_at_slot(pf_pool *pool, uint64_t seq)
{
    uint64_t word = atomic_load_explicit(pf__ring_word(&pool->ring, seq), memory_order_acquire);
    check_claim(pool, word);
    pf__supervisor_slot_seen(&pool->sup, seq, word);
}

void pf__pool_obey(pf_pool *pool)
{
    struct pf__order order;
    /* Without room for events what is settled stays so until some have been taken. */
    while (has_room(pool) && pf__supervisor_next(&pool->sup, &order) != PF_ORDER_NONE) {
        struct pf__child *child = (struct pf__child *)order.seat;
        switch (order.type) {
        case PF_ORDER_SETTLED:
            give_settled(pool, order.task);
            break;
        case PF_ORDER_ACCEPTED:
            give_accepted(pool, order.task);
            break;
        case PF_ORDER_LOOK:
            pf__child_look(pool, child);
            break;
        case PF_ORDER_EXPIRE:
            expire(pool, order.task);
            break;
        case PF_ORDER_SOFTEN:
            soften(pool, child, order.task);
            break;
        case PF_ORDER_ASK:
            pf__child_signal(child, PF_STACKS_SIGNAL);
            break;
        case PF_ORDER_LOOK_ASKED:
            look_asked(pool, child, order.seq);
            break;
        case PF_ORDER_CONDEMN:
            condemn(pool, child, order.seq);
            break;
        case PF_ORDER_SIGNAL:
            pf__child_note(pool, child, PF_NOTE_SIGNALLED, (uint64_t)order.signal);
            pf__child_signal(child, order.signal);
            break;
        case PF_ORDER_SAMPLE:
            sample(pool, child);
            break;
        case PF_ORDER_RELEASE:
            release(child);
            break;
        case PF_ORDER_RETIRE:
            retire(pool, child);
            break;
        case PF_ORDER_LOOK_SLOT:
            look_at_slot(pool, order.seq);
            break;
        case PF_ORDER_PUBLISH:
            publish(pool, order.task);
            break;
        case PF_ORDER_SKIP:
            pf__ring_skip(&pool->ring, order.seq);
            break;
        case PF_ORDER_ASK_SPAWN:
            pf__pool_event(pool, &(pf_event){.type = PF_EVENT_SPAWN_WANTED, .status = -1});
            break;
        case PF_ORDER_SPAWN:
            if (pf__child_spawn(pool, child) < 0)
                pf__child_not_spawned(pool, child, errno);
            break;
        default:
            break;
        }
    }
}
