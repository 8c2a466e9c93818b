/* A worker's tasks: it claims one, holds it through its page, delivers the result, and sleeps when
 * there is none.
 * The order of the stores is the protocol (docs/design.md, "The protocol"): at any instruction this
 * process may be killed, and the words must then say how far the task had come. */
#define _GNU_SOURCE
#include "worker.h"

#include "platform.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { NEAR = 2 }; /* sequences that are looked at one by one */

static void store_page(pf_worker *worker, uint64_t seq, uint32_t state)
{
    atomic_store_explicit(&worker->board.segment->page, pf__word(seq, 0, state),
                          memory_order_release);
}

static int swap_page(pf_worker *worker, uint32_t from, uint32_t to)
{
    uint64_t expected = pf__word(worker->seq, 0, from);
    return atomic_compare_exchange_strong(&worker->board.segment->page, &expected,
                                          pf__word(worker->seq, 0, to));
}

/* That there is something to see in our segment. The pool takes the bit away before it looks, so
 * one that still stands says it, too: under load the line is not pulled from one to the other. */
static void show_news(pf_worker *worker)
{
    _Atomic uint64_t *news = &worker->ring.words->news[worker->slot / 64];
    uint64_t bit = (uint64_t)1 << worker->slot % 64;
    atomic_thread_fence(memory_order_seq_cst);
    if (!(atomic_load_explicit(news, memory_order_relaxed) & bit)) {
        atomic_fetch_or_explicit(news, bit, memory_order_relaxed);
        atomic_thread_fence(memory_order_seq_cst);
    }
}

/* After the news. Rings at most once per arming, so that a full pipe can never hold us up; and a
 * bell that does not fit beside queued bytes is not needed, for those bytes will wake the pool. */
static void ring_if_armed(pf_worker *worker)
{
    struct pf__segment *segment = worker->board.segment;
    if (atomic_load_explicit(&worker->ring.pool->armed, memory_order_relaxed) &&
        !atomic_load_explicit(&segment->rung, memory_order_relaxed)) {
        atomic_store_explicit(&segment->rung, 1, memory_order_relaxed);
        (void)pf__worker_send(worker, PF_FRAME_BELL, NULL, 0); /* EPIPE shows at the next wait */
    }
}

int pf_worker_ready(pf_worker *worker)
{
    if (pf__worker_refuses() < 0)
        return -1;
    store_page(worker, 0, PF_IDLE);
    pf__history_note(worker->history, PF_NOTE_READY, 0);
    return pf__worker_send(worker, PF_FRAME_UP, NULL, 0);
}

/* ---- claiming ------------------------------------------------------------------------------ */

static int is_claimed(const struct pf__ring *ring, uint64_t seq, uint64_t tail)
{
    if (seq >= tail)
        return 0;
    uint64_t word = atomic_load_explicit(pf__ring_word(ring, seq), memory_order_acquire);
    uint32_t state = pf__word_state(word);
    return pf__word_seq(word) == seq && (state == PF_CLAIMED || state == PF_TAKEN);
}

/* Tasks are claimed in their order, so nothing before a claimed one is READY. As many as there are
 * workers may have been claimed since we were here, each word a line of another processor's: so
 * beyond the next few it is by leaps, twice as far each time, and then half as far. */
static uint64_t leap(const struct pf__ring *ring, uint64_t cursor, uint64_t tail)
{
    uint64_t step = 0;
    for (; is_claimed(ring, cursor + step, tail); step = step * 2 + 1)
        cursor += step + 1;
    for (; step > 0; step /= 2)
        if (is_claimed(ring, cursor + step / 2, tail))
            cursor += step / 2 + 1;
    return cursor;
}

static int take_before(pf_worker *worker, uint64_t end)
{
    const struct pf__ring *ring = &worker->ring;
    for (; worker->cursor < end; worker->cursor++) {
        _Atomic uint64_t *word = pf__ring_word(ring, worker->cursor);
        uint64_t ready = pf__word(worker->cursor, PF_NO_WORKER, PF_READY);
        /* Looked at first: a compare-and-swap would pull the line away from its present holder. */
        if (atomic_load_explicit(word, memory_order_acquire) != ready)
            continue;
        if (atomic_compare_exchange_strong_explicit(
                word, &ready, pf__word(worker->cursor, worker->slot, PF_CLAIMED),
                memory_order_acq_rel, memory_order_acquire)) {
            worker->seq = worker->cursor++;
            return 1;
        }
    }
    return 0;
}

int pf__worker_take_ready(pf_worker *worker)
{
    const struct pf__ring *ring = &worker->ring;
    uint64_t tail = atomic_load_explicit(&ring->pool->tail, memory_order_acquire);
    uint64_t head = atomic_load_explicit(&ring->pool->head, memory_order_relaxed);
    uint64_t oldest = tail > ring->slots ? tail - ring->slots : 1;
    if (head < oldest)
        head = oldest;
    if (worker->cursor < head)
        worker->cursor = head;
    if (take_before(worker, worker->cursor + NEAR < tail ? worker->cursor + NEAR : tail))
        return 1;
    worker->cursor = leap(ring, worker->cursor, tail);
    if (take_before(worker, tail))
        return 1;
    /* A wild write may have made us leap over READY ones. The pool's head comes no further than
     * the first of them, and the pool calls for it again. */
    worker->cursor = head;
    if (head < tail && take_before(worker, head + 1))
        return 1;
    worker->cursor = tail;
    return 0;
}

static int make_room(pf_worker *worker, size_t size)
{
    if (size <= worker->body_room)
        return 0;
    unsigned char *larger = realloc(worker->body, size);
    if (larger == NULL)
        return -1;
    worker->body = larger;
    worker->body_room = size;
    return 0;
}

static void leave_slot(pf_worker *worker)
{
    atomic_store_explicit(pf__ring_word(&worker->ring, worker->seq),
                          pf__word(worker->seq, worker->slot, PF_TAKEN), memory_order_release);
}

/* 1: the body is here; 0: it comes by pipe. */
static int load_body(pf_worker *worker, pf_claim *claim)
{
    store_page(worker, worker->seq, PF_LOADING);
    const struct pf__body *body = pf__ring_body(&worker->ring, worker->seq);
    worker->id = body->id;
    worker->flags = body->flags;
    pf__history_note(worker->history, PF_NOTE_CLAIMED, worker->id);
    claim->size = body->size;
    if (body->flags & PF_BODY_OUTSIDE) {
        leave_slot(worker);
        return pf__worker_send(worker, PF_FRAME_NEED, NULL, 0);
    }
    if (make_room(worker, claim->size) < 0)
        return -1;
    memcpy(worker->body, body->bytes, claim->size);
    leave_slot(worker);
    return 1;
}

/* Reads what the pool sent: bells, which have done their work by waking us, and the body of the
 * claim. 1 if the body has come. */
static int read_frames(pf_worker *worker, pf_claim *claim)
{
    struct pf__frame frame;
    unsigned char *body;
    size_t budget = SIZE_MAX;
    int got, found = 0;
    while (!found && (got = pf__channel_receive(&worker->channel, &frame, &body, &budget)) > 0) {
        if (frame.type == PF_FRAME_BODY && frame.seq == worker->seq && claim != NULL) {
            free(worker->body);
            worker->body = body;
            claim->size = (size_t)frame.size;
            worker->body_room = body != NULL ? claim->size : 0;
            found = 1;
        } else {
            free(body);
        }
    }
    return found ? 1 : got;
}

/* Its last one is news, too: there is a successor to be forked. By the clock of now, when the page
 * says RUNNING and the news is out: the pool, which looks later, will see it. */
static void tell_start(pf_worker *worker)
{
    int last = atomic_load_explicit(&worker->board.segment->claims_left, memory_order_relaxed) == 0;
    if (!last && !(worker->flags & PF_BODY_TELL))
        return;
    show_news(worker);
    if (last ||
        pf__now() >= atomic_load_explicit(&worker->ring.pool->looks_at, memory_order_acquire))
        ring_if_armed(worker);
}

/* 1: the call may begin; 0: it was cancelled while its body was being fetched. */
static int begin(pf_worker *worker)
{
    pf__output_begin(&worker->output);
    worker->started = pf__now();
    atomic_store_explicit(&worker->board.segment->extended, 0, memory_order_relaxed);
    atomic_store_explicit(&worker->board.segment->started_at, worker->started,
                          memory_order_relaxed);
    if (!swap_page(worker, PF_LOADING, PF_RUNNING)) {
        worker->seq = 0;
        store_page(worker, 0, PF_IDLE);
        return 0;
    }
    tell_start(worker);
    return 1;
}

static int go_down(pf_worker *worker)
{
    if (!worker->down)
        (void)pf__worker_say(worker, PF_FRAME_DOWN, NULL, 0); /* EPIPE: so be it */
    worker->down = 1;
    errno = ESHUTDOWN;
    return -1;
}

static void set_bit(_Atomic uint64_t *word, uint32_t slot, int set)
{
    uint64_t bit = (uint64_t)1 << slot % 64;
    word += slot / 64;
    (void)(set ? atomic_fetch_or_explicit(word, bit, memory_order_relaxed)
               : atomic_fetch_and_explicit(word, ~bit, memory_order_relaxed));
}

/* Whoever waited for the last result may send the next task as soon as he has it. */
static int take_within_a_spin(pf_worker *worker)
{
    if (!worker->awaited || !pf__spin_pays(&worker->spin))
        return 0;
    const struct pf__ring *ring = &worker->ring;
    int64_t until = pf__now() + PF_SPIN;
    int taken = 0, late;
    set_bit(ring->words->spinners, worker->slot, 1);
    do {
        pf__spin_once(&worker->spin);
        late = pf__now() >= until; /* and then a look: it may have stood still, or shall end */
        if (atomic_load_explicit(&worker->board.segment->control, memory_order_acquire) != 0)
            break;
        taken = atomic_load_explicit(&ring->pool->tail, memory_order_acquire) != worker->cursor &&
                pf__worker_take_ready(worker);
    } while (!taken && !late);
    set_bit(ring->words->spinners, worker->slot, 0);
    pf__spin_ended(&worker->spin, taken);
    worker->awaited = taken;
    return taken;
}

int pf_worker_claim(pf_worker *worker, pf_claim *claim)
{
    struct pf__segment *segment = worker->board.segment;
    for (;;) {
        if (pf__worker_refuses() < 0)
            return -1;
        int loaded;
        if (worker->seq == 0) {
            uint32_t left = atomic_load_explicit(&segment->claims_left, memory_order_relaxed);
            uint32_t control = atomic_load_explicit(&segment->control, memory_order_acquire);
            if (left == 0 || control & PF_CTL_RETIRE)
                return go_down(worker);
            if (control & PF_CTL_HOLD)
                return 0;
            if (!pf__worker_take_ready(worker) && !take_within_a_spin(worker))
                return 0;
            if (left != UINT32_MAX)
                atomic_store_explicit(&segment->claims_left, left - 1, memory_order_relaxed);
            loaded = load_body(worker, claim);
        } else {
            loaded = read_frames(worker, claim);
        }
        if (loaded <= 0)
            return loaded;
        if (begin(worker)) {
            claim->id = worker->id;
            claim->body = worker->body;
            claim->lost = worker->flags / PF_BODY_LOST;
            claim->started = worker->started;
            return 1;
        }
    }
}

/* ---- sleeping ------------------------------------------------------------------------------ */

static int something_to_claim(const pf_worker *worker)
{
    const struct pf__ring *ring = &worker->ring;
    uint64_t tail = atomic_load_explicit(&ring->pool->tail, memory_order_acquire);
    for (uint64_t seq = worker->cursor; seq < tail; seq++)
        if (atomic_load_explicit(pf__ring_word(ring, seq), memory_order_acquire) ==
            pf__word(seq, PF_NO_WORKER, PF_READY))
            return 1;
    return 0;
}

static void set_sleeper(pf_worker *worker, int asleep)
{
    atomic_store_explicit(&worker->board.segment->asleep, asleep ? ++worker->sleeps : 0,
                          memory_order_relaxed);
    set_bit(worker->ring.words->sleepers, worker->slot, asleep);
}

int pf_worker_wait(pf_worker *worker)
{
    struct pf__segment *segment = worker->board.segment;
    int result = 0, error = 0;
    if (pf__worker_refuses() < 0)
        return -1;
    if (worker->seq != 0) /* the body of a claim is on its way */
        return pf__worker_wait_pipes(worker, 1);
    /* Announce, look again, sleep: with a full fence between, or a wake-up can be lost. */
    set_sleeper(worker, 1);
    atomic_thread_fence(memory_order_seq_cst);
    uint32_t control = atomic_load_explicit(&segment->control, memory_order_acquire);
    if (!(control & PF_CTL_RETIRE) && (control & PF_CTL_HOLD || !something_to_claim(worker))) {
        result = pf__worker_wait_pipes(worker, 1);
        error = errno;
    }
    set_sleeper(worker, 0);
    if (result == 0 && read_frames(worker, NULL) < 0) {
        result = -1;
        error = errno;
    }
    errno = error;
    return result;
}

/* ---- delivering ---------------------------------------------------------------------------- */

/* 1: out; 0: no room now. */
static int put_result(pf_worker *worker, uint32_t outcome, const void *data, size_t size)
{
    struct pf__record record = {
        .seq = worker->seq, .id = worker->id, .started = worker->started, .outcome = outcome};
    /* A quarter of the ring at most, so that one large result does not keep small ones waiting. */
    if (size <= ((size_t)worker->board.mask + 1) / 4) {
        record.size = (uint32_t)size;
        return pf__results_put(&worker->board, &record, data);
    }
    struct pf__frame frame;
    pf__frame_init(&frame, PF_FRAME_RESULT, worker->seq, size);
    frame.flags = (uint16_t)outcome;
    frame.id = worker->id;
    frame.started = worker->started;
    return pf__channel_send(&worker->channel, &frame, data, NULL, NULL) < 0 ? -1 : 1;
}

int pf_worker_deliver(pf_worker *worker, uint32_t outcome, const void *data, size_t size)
{
    if (pf__worker_refuses() < 0)
        return -1;
    if (!worker->delivering && !swap_page(worker, PF_RUNNING, PF_DONE)) {
        errno = ECANCELED;
        return -1;
    }
    worker->delivering = worker->delivering ? worker->delivering : 1;
    /* 2: a large result is queued, and must have left this process before it counts as out. */
    int out = worker->delivering == 2 ? 1 : put_result(worker, outcome, data, size);
    if (out < 0)
        return -1;
    worker->delivering = out ? 2 : 1;
    if (!out || pf__channel_wants_write(&worker->channel))
        return 1;
    pf__history_note(worker->history, outcome == PF_OK ? PF_NOTE_RETURNED : PF_NOTE_RAISED,
                     worker->id);
    worker->delivering = 0;
    worker->seq = 0;
    worker->awaited = atomic_load_explicit(&worker->ring.pool->awaited, memory_order_relaxed) != 0;
    store_page(worker, 0, PF_IDLE);
    show_news(worker);
    ring_if_armed(worker);
    return 0;
}

int pf_worker_wait_space(pf_worker *worker)
{
    struct pf__segment *segment = worker->board.segment;
    if (worker->delivering == 2)
        return pf__worker_wait_pipes(worker, 0);
    atomic_store_explicit(&segment->want_space, 1, memory_order_relaxed);
    show_news(worker);
    ring_if_armed(worker); /* the pool may sleep on a ring that is full */
    uint64_t head = atomic_load_explicit(&segment->results_head, memory_order_acquire);
    int result = 0;
    if (worker->board.cursor - head > ((uint64_t)worker->board.mask + 1) / 2)
        result = pf__worker_wait_pipes(worker, 1);
    int error = errno;
    atomic_store_explicit(&segment->want_space, 0, memory_order_relaxed);
    if (result == 0 && read_frames(worker, NULL) < 0)
        return -1;
    errno = error;
    return result;
}
