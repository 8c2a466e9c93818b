/* The pool's side in small, for tests that have a real ring and real workers but no zygote: carries
 * out orders as pool_orders.c does. */
#ifndef PF_SIDE_H
#define PF_SIDE_H

#include "channel.h"
#include "platform.h"
#include "ring.h"
#include "runner.h"
#include "scoreboard.h"
#include "supervisor.h"
#include "worker.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SIDE_SLOTS = 64, SIDE_WORKERS = 4 };

struct side_worker {
    struct pf__seat seat; /* first: orders name seats */
    struct pf__scoreboard board;
    struct pf__channel channel;
    int ends[2]; /* the worker's: in, out */
};

struct side {
    struct pf__supervisor sup;
    struct pf__ring ring;
    struct pf__task *slots[SIDE_SLOTS];
    struct pf__seat *seats[SIDE_WORKERS];
    struct side_worker workers[SIDE_WORKERS];
    uint32_t count;
    void (*settled)(struct pf__task *task);
    size_t body_size;
};

static inline void side_open(struct side *side, uint32_t count, uint32_t results_size)
{
    memset(side, 0, sizeof *side);
    side->count = count;
    side->body_size = 8;
    CHECK_EQ(pf__ring_create(&side->ring, SIDE_SLOTS, 128), 0);
    pf__supervisor_init(&side->sup, side->slots, SIDE_SLOTS, 1000000000);
    side->sup.now = pf__now();
    for (uint32_t i = 0; i < count; i++) {
        struct side_worker *worker = &side->workers[i];
        int to[2], from[2];
        pf__seat_init(&worker->seat, i);
        side->seats[i] = &worker->seat;
        CHECK(pf__pipe(to) == 0 && pf__pipe(from) == 0);
        CHECK_EQ(pf__scoreboard_create(&worker->board, results_size, UINT32_MAX), 0);
        CHECK_EQ(pf__channel_open(&worker->channel, from[0], to[1], 1 << 20), 0);
        worker->ends[0] = to[0];
        worker->ends[1] = from[1];
    }
    pf__supervisor_seats(&side->sup, side->seats, count);
    side->sup.can_spawn = true;
    pf__supervisor_resize(&side->sup, count);
}

static inline void side_close(struct side *side)
{
    for (uint32_t i = 0; i < side->count; i++) {
        pf__channel_close(&side->workers[i].channel);
        pf__scoreboard_close(&side->workers[i].board);
    }
    pf__ring_close(&side->ring);
}

static inline void side_obey(struct side *side)
{
    struct pf__order order;
    while (pf__supervisor_next(&side->sup, &order) != PF_ORDER_NONE) {
        struct side_worker *worker = (struct side_worker *)order.seat;
        uint64_t body[16] = {0};
        switch (order.type) {
        case PF_ORDER_SETTLED:
            side->settled(order.task);
            break;
        case PF_ORDER_LOOK_SLOT:
            pf__supervisor_slot_seen(
                &side->sup, order.seq,
                atomic_load_explicit(pf__ring_word(&side->ring, order.seq), memory_order_acquire));
            break;
        case PF_ORDER_PUBLISH:
            body[0] = order.task->id;
            pf__ring_publish(&side->ring, order.task->seq, order.task->id, body,
                             (uint32_t)side->body_size, 0);
            break;
        case PF_ORDER_SKIP:
            pf__ring_skip(&side->ring, order.seq);
            break;
        case PF_ORDER_SPAWN: /* the tests make their workers themselves */
            pf__supervisor_spawned(&side->sup, &worker->seat);
            pf__supervisor_up(&side->sup, &worker->seat);
            break;
        default:
            break;
        }
    }
}

static inline void side_note_claims(struct side *side)
{
    struct pf__supervisor *sup = &side->sup;
    while (sup->head < sup->tail &&
           pf__supervisor_slot_seen(
               sup, sup->head,
               atomic_load_explicit(pf__ring_word(&side->ring, sup->head), memory_order_acquire)))
        ;
    atomic_store_explicit(&side->ring.pool->head, sup->head, memory_order_relaxed);
}

static inline uint64_t side_nap(struct side_worker *worker)
{
    return atomic_load_explicit(&worker->board.segment->asleep, memory_order_relaxed);
}

static inline void side_bell(struct side_worker *worker)
{
    struct pf__frame frame;
    pf__frame_init(&frame, PF_FRAME_BELL, 0, 0);
    CHECK_EQ(pf__channel_send(&worker->channel, &frame, NULL, NULL, NULL), 0);
}

static inline void side_call_sleepers(struct side *side)
{
    struct pf__supervisor *sup = &side->sup;
    if (sup->ready == 0)
        return;
    atomic_thread_fence(memory_order_seq_cst);
    for (struct pf__seat *seat = sup->called, *next; seat != NULL; seat = next) {
        next = seat->next_called;
        pf__supervisor_nap_seen(sup, seat, side_nap((struct side_worker *)seat));
    }
    uint64_t bits = atomic_load_explicit(&side->ring.words->sleepers[0], memory_order_relaxed);
    for (uint32_t i = 0; i < side->count && pf__supervisor_wants_sleepers(sup); i++)
        if (bits >> i & 1 &&
            pf__supervisor_sleeper_seen(sup, &side->workers[i].seat, side_nap(&side->workers[i])))
            side_bell(&side->workers[i]);
}

/* Takes the results of one worker; each `find`s its task by id. Returns how many counted. */
static inline int side_drain(struct side *side, struct side_worker *worker,
                             struct pf__task *(*find)(uint64_t id))
{
    uint64_t tail = pf__results_tail(&worker->board);
    struct pf__record record;
    void *data;
    int got, count = 0;
    atomic_store_explicit(&worker->board.segment->rung, 0, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    if (tail == worker->board.cursor &&
        (tail = pf__results_tail(&worker->board)) == worker->board.cursor)
        return 0;
    side_note_claims(side);
    while ((got = pf__results_take(&worker->board, tail, &record, &data)) > 0) {
        free(data);
        CHECK(pf__supervisor_result(&side->sup, &worker->seat, find(record.id), record.seq,
                                    record.outcome, record.started));
        count++;
    }
    CHECK_EQ(got, 0);
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&worker->board.segment->want_space, memory_order_relaxed))
        side_bell(worker);
    return count;
}

/* In a forked child: what pf__worker_open does, but for the parts that want a zygote. */
static inline pf_worker *side_worker_in_child(struct side *side, uint32_t index)
{
    pf_worker *worker = calloc(1, sizeof *worker);
    CHECK(worker != NULL);
    worker->slot = index;
    worker->cursor = 1;
    worker->output.fd = -1;
    CHECK_EQ(pf__scoreboard_open(&worker->board, dup(side->workers[index].board.fd)), 0);
    CHECK_EQ(pf__ring_open(&worker->ring, dup(side->ring.pool_fd), dup(side->ring.words_fd)), 0);
    /* Else a pipe would outlive its pool in the other workers. */
    for (uint32_t i = 0; i < side->count; i++) {
        close(side->workers[i].channel.in);
        close(side->workers[i].channel.out);
    }
    CHECK_EQ(pf__channel_open(&worker->channel, side->workers[index].ends[0],
                              side->workers[index].ends[1], 1 << 20),
             0);
    return worker;
}

/* In a thread: over the very mapping of the pool, so that a thread sanitizer sees both sides. */
static inline pf_worker *side_worker_in_thread(struct side *side, uint32_t index)
{
    pf_worker *worker = calloc(1, sizeof *worker);
    CHECK(worker != NULL);
    worker->slot = index;
    worker->cursor = 1;
    worker->output.fd = -1;
    worker->ring = side->ring;
    worker->board = side->workers[index].board;
    CHECK_EQ(pf__channel_open(&worker->channel, side->workers[index].ends[0],
                              side->workers[index].ends[1], 1 << 20),
             0);
    return worker;
}

#endif
