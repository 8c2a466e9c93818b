/* What goes between the pool and a worker: frames both ways, results out of its ring. */
#define _GNU_SOURCE
#include "platform.h"
#include "pool.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static void watch_room(pf_pool *pool, struct pf__child *child)
{
    int wants = pf__channel_wants_write(&child->channel);
    if (wants == child->watching_out || child->channel.out < 0)
        return;
    uint64_t key = pf__key(PF_KEY_ROOM, child->seat.index, child->generation);
    int done = wants ? pf__poll_add(pool->poll, child->channel.out, PF_POLL_WRITE, key)
                     : pf__poll_remove(pool->poll, child->channel.out);
    if (done == 0)
        child->watching_out = wants;
}

/* EPIPE: it is dying, and its exit will tell the rest; or it lives on and has closed its end. A
 * pipe that nobody reads is always ready, and what is queued for it would keep us busy. */
static void hang_up(pf_pool *pool, struct pf__child *child)
{
    if (errno != EPIPE || child->channel.out < 0)
        return;
    if (child->watching_out)
        (void)pf__poll_remove(pool->poll, child->channel.out);
    child->watching_out = 0;
    close(child->channel.out);
    child->channel.out = -1;
}

int pf__child_send(pf_pool *pool, struct pf__child *child, uint16_t type, uint64_t seq)
{
    struct pf__frame frame;
    if (type == PF_FRAME_BELL && pf__channel_wants_write(&child->channel))
        return 0; /* what is queued will wake it as well */
    pf__frame_init(&frame, type, seq, 0);
    int sent = pf__channel_send(&child->channel, &frame, NULL, NULL, NULL);
    if (sent < 0)
        hang_up(pool, child);
    watch_room(pool, child);
    return sent;
}

void pf__job_free(struct pf__job *job)
{
    job->settled = true;
    if (job->lent == 0)
        pf__slabs_give(job);
}

static void give_back(void *owner)
{
    struct pf__job *job = owner;
    if (--job->lent == 0 && job->settled)
        pf__slabs_give(job);
}

static void send_job(pf_pool *pool, struct pf__child *child, struct pf__job *job)
{
    struct pf__frame frame;
    pf__frame_init(&frame, PF_FRAME_BODY, job->task.seq, job->size);
    job->lent++;
    /* Not for want of a few bytes shall it wait for ever: the next worker may be sent it. */
    if (pf__channel_send(&child->channel, &frame, job->body, give_back, job) < 0) {
        if (errno == ENOMEM)
            pf__supervisor_kill(&pool->sup, &child->seat, SIGKILL);
        hang_up(pool, child);
    }
    watch_room(pool, child);
}

void pf__child_flush(pf_pool *pool, struct pf__child *child)
{
    if (pf__channel_flush(&child->channel) < 0)
        hang_up(pool, child);
    watch_room(pool, child);
}

void pf__child_misbehaved(pf_pool *pool, struct pf__child *child)
{
    if (child->seat.killed)
        return;
    pf_event event = pf__child_event(child, PF_EVENT_OUTSIDER);
    pf__pool_event(pool, &event);
    pf__supervisor_misbehaved(&pool->sup, &child->seat);
}

/* `data` is malloc'd and becomes the task's; NULL for want of memory makes it an error. */
static void take_result(pf_pool *pool, struct pf__child *child, uint64_t id, uint64_t seq,
                        uint32_t outcome, int64_t started, void *data, size_t size)
{
    struct pf__job *job = pf__handles_find(&pool->jobs, id);
    if (job == NULL || job->result != NULL || outcome > PF_ERROR || job->task.seq != seq ||
        job->task.state != PF_TASK_HELD || job->task.seat != child->seat.index) {
        free(data);
        pf__child_misbehaved(pool, child);
        return;
    }
    job->result = data;
    job->result_size = size;
    if (data == NULL && size > 0)
        outcome = PF_ERROR;
    pf__supervisor_result(&pool->sup, &child->seat, &job->task, seq, outcome, started);
}

int pf__child_revoke(struct pf__child *child, uint64_t seq)
{
    uint64_t loading = pf__word(seq, 0, PF_LOADING);
    return atomic_compare_exchange_strong(&child->board.segment->page, &loading,
                                          pf__word(seq, 0, PF_REVOKED));
}

static void send_body(pf_pool *pool, struct pf__child *child, uint64_t seq)
{
    for (struct pf__task *task = child->seat.held.first; task != NULL; task = task->next) {
        struct pf__job *job = (struct pf__job *)task;
        if (task->seq == seq) {
            send_job(pool, child, job);
            return;
        }
    }
    /* Settled meanwhile. An empty body is as good as any: the worker finds its page revoked. */
    (void)pf__child_revoke(child, seq);
    pf__child_send(pool, child, PF_FRAME_BODY, seq);
}

/* It says once how its initializer ended, having said who it is, and asks once for each body: else
 * what it is answered, and what it makes us tell, would have no bound. */
static int is_in_order(const pf_pool *pool, struct pf__child *child, const struct pf__frame *frame)
{
    if (frame->type == PF_FRAME_UP || frame->type == PF_FRAME_FAILED)
        return child->pid != 0 && !child->reported++;
    if (frame->type != PF_FRAME_NEED)
        return 1;
    int newer = frame->seq > child->needed && frame->seq < pool->sup.tail;
    child->needed = newer ? frame->seq : child->needed;
    return newer;
}

static void take_frame(pf_pool *pool, struct pf__child *child, const struct pf__frame *frame,
                       unsigned char *body)
{
    pf_event event;
    pf__child_learn_pid(pool, child);
    if (!is_in_order(pool, child, frame)) {
        free(body);
        pf__child_misbehaved(pool, child);
        return;
    }
    switch (frame->type) {
    case PF_FRAME_UP:
        event = pf__child_event(child, PF_EVENT_WORKER_UP);
        pf__supervisor_up(&pool->sup, &child->seat);
        pf__pool_event(pool, &event);
        break;
    case PF_FRAME_FAILED:
        event = pf__child_event(child, PF_EVENT_WORKER_FAILED);
        event.data = body;
        event.size = (size_t)frame->size;
        body = NULL;
        pf__pool_event(pool, &event);
        break;
    case PF_FRAME_NEED:
        pf__pool_note_claims(pool);
        send_body(pool, child, frame->seq);
        break;
    case PF_FRAME_RESULT:
        pf__pool_note_claims(pool);
        take_result(pool, child, frame->id, frame->seq, frame->flags, frame->started, body,
                    (size_t)frame->size);
        body = NULL;
        break;
    case PF_FRAME_DOWN:
        pf__pool_note_claims(pool);
        pf__supervisor_down(&pool->sup, &child->seat);
        break;
    default: /* a bell: it has woken us */
        break;
    }
    free(body);
}

void pf__child_drain_pipe(pf_pool *pool, struct pf__child *child, size_t budget)
{
    struct pf__frame frame;
    unsigned char *body = NULL;
    size_t before = budget;
    int got;
    while ((got = pf__channel_receive(&child->channel, &frame, &body, &budget)) > 0)
        take_frame(pool, child, &frame, body);
    if (budget < before)
        pf__supervisor_heard(&child->seat);
    if (got == 0 || child->channel.in < 0)
        return;
    /* The end of a pipe is no death: that is for the exit to say. But listen no more. */
    if (errno != EPIPE)
        pf__child_misbehaved(pool, child);
    (void)pf__poll_remove(pool->poll, child->channel.in);
    close(child->channel.in);
    child->channel.in = -1;
}

static void drain_ring(pf_pool *pool, struct pf__child *child)
{
    uint64_t tail = pf__results_tail(&child->board);
    if (tail == child->board.cursor)
        return;
    pf__child_learn_pid(pool, child);
    /* A worker claims before it delivers, so after this every claim behind these results is known.
     */
    pf__pool_note_claims(pool);
    struct pf__record record;
    void *data;
    int got;
    while ((got = pf__results_take(&child->board, tail, &record, &data)) > 0)
        take_result(pool, child, record.id, record.seq, record.outcome, record.started, data,
                    record.size);
    if (got < 0)
        pf__child_misbehaved(pool, child);
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&child->board.segment->want_space, memory_order_relaxed)) {
        atomic_store_explicit(&child->board.segment->want_space, 0, memory_order_relaxed);
        pf__child_send(pool, child, PF_FRAME_BELL, 0);
    }
}

void pf__child_drain(pf_pool *pool, struct pf__child *child)
{
    struct pf__segment *segment = child->board.segment;
    if (segment == NULL)
        return;
    if (atomic_load_explicit(&segment->rung, memory_order_relaxed)) {
        atomic_store_explicit(&segment->rung, 0, memory_order_relaxed);
        atomic_thread_fence(memory_order_seq_cst);
    }
    if (!child->reported && child->channel.in >= 0) /* that it is up comes before what it does */
        pf__child_drain_pipe(pool, child, sizeof(struct pf__frame));
    drain_ring(pool, child);
    for (struct pf__task *task = child->seat.held.first; task != NULL; task = task->next)
        if (task->tell && !task->told) {
            pf__child_look(pool, child);
            break;
        }
}

/* ---- news of all of them ------------------------------------------------------------------- */

int pf__pool_has_news(const pf_pool *pool)
{
    return pf__ring_any(pool->ring.words->news, pool->sup.seat_count);
}

/* Whoever has any has said so; to look at all of them would cost each task more, the more workers
 * there are. */
void pf__pool_drain(pf_pool *pool)
{
    for (uint32_t i = 0; i * 64 < pool->sup.seat_count; i++) {
        _Atomic uint64_t *news = &pool->ring.words->news[i];
        if (atomic_load_explicit(news, memory_order_relaxed) == 0)
            continue;
        uint64_t bits = atomic_exchange(news, 0);
        atomic_thread_fence(memory_order_seq_cst); /* what comes from now on is said anew */
        for (; bits != 0; bits &= bits - 1) {
            uint32_t slot = i * 64 + (uint32_t)__builtin_ctzll(bits);
            if (slot < pool->sup.seat_count && pool->seats[slot]->state != PF_SEAT_VACANT)
                pf__child_drain(pool, (struct pf__child *)pool->seats[slot]);
        }
    }
}

/* ---- its page ------------------------------------------------------------------------------ */

/* A call that is going on has begun, and not in the future. */
static int is_sound(const pf_pool *pool, uint64_t page, int64_t started)
{
    return !pf__state_has_begun(pf__word_state(page)) ||
           (started > 0 && (started <= pool->sup.now || started <= pf__now()));
}

void pf__child_look(pf_pool *pool, struct pf__child *child)
{
    struct pf__segment *segment = child->board.segment;
    if (segment == NULL)
        return;
    pf__child_learn_pid(pool, child);
    uint64_t page, again = atomic_load_explicit(&segment->page, memory_order_acquire);
    int64_t started, extended;
    int tries = 8; /* what a worker writes wildly shall not hold us up */
    do {           /* or the time might be that of its next task already */
        page = again;
        started = atomic_load_explicit(&segment->started_at, memory_order_acquire);
        extended = atomic_load_explicit(&segment->extended, memory_order_acquire);
        again = atomic_load_explicit(&segment->page, memory_order_acquire);
    } while (page != again && --tries > 0);
    if (!is_sound(pool, page, started)) {
        pf__child_misbehaved(pool, child);
        return;
    }
    extended = extended < 0 ? 0 : extended; /* what a worker says may be wild */
    extended = extended > PF_MOST_EXTENDED ? PF_MOST_EXTENDED : extended;
    pf__supervisor_page_seen(&pool->sup, &child->seat, page, started, extended);
}
