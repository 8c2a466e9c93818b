/* A worker that does what the input says: sometimes what a worker does, so that it gets deep into
 * the protocol, and sometimes whatever can be written where a worker can write. */
#define _GNU_SOURCE
#include "fuzz.h"

#include <string.h>

static uint64_t hostile[PROCESSES]; /* their generations, by their places in the table */
static uint64_t last_seq;           /* of its last claim */

void hostile_forget(void)
{
    memset(hostile, 0, sizeof hostile);
}

bool is_hostile(const struct process *process)
{
    return process->role == WORKER && hostile[process - processes] == process->generation;
}

bool hostile_is_at_it(void)
{
    for (struct process *process = processes; process < processes + PROCESSES; process++)
        if (is_hostile(process) && !process->dead && !process->doomed && !process->over &&
            !(process->waits && process->until == PF_NEVER))
            return true;
    return false;
}

/* ---- values -------------------------------------------------------------------------------- */

static uint64_t raw(int bytes)
{
    uint64_t value = 0;
    while (bytes-- > 0)
        value = value << 8 | hostile_byte();
    return value;
}

static uint64_t some_number(void)
{
    switch (hostile_byte() % 9) {
    case 0:
        return 0;
    case 1:
        return UINT64_MAX;
    case 2:
        return INT64_MAX;
    case 3:
        return (uint64_t)INT64_MIN;
    case 4:
        return (uint64_t)now;
    case 5:
        return (uint64_t)1 << hostile_byte() % 64;
    case 6:
        return raw(8);
    default:
        return hostile_byte();
    }
}

static uint64_t some_seq(void)
{
    uint64_t tail = atomic_load(&pool->ring.pool->tail);
    uint8_t byte = hostile_byte();
    if (byte % 4 == 0)
        return last_seq;
    if (byte % 4 == 1)
        return some_number();
    return tail + 2 - byte / 4 % 20; /* of those in the ring, or just not */
}

static uint64_t some_word(void)
{
    uint8_t byte = hostile_byte();
    if (byte == 0)
        return some_number();
    static const uint32_t owners[] = {0, 0, 0, 1, 2, PF_NO_WORKER, PF_MOST_WORKERS - 1, SEATS};
    return pf__word(some_seq(), owners[byte % 8], byte / 8 % 8);
}

static uint64_t some_id(void)
{
    uint8_t byte = hostile_byte();
    if (byte % 4 == 0)
        return some_number();
    return pf__ring_body(&pool->ring, some_seq())->id;
}

/* ---- claims -------------------------------------------------------------------------------- */

/* Before each of its steps: what it has claimed by the last one, or says that it has. */
void hostile_observe(void)
{
    for (uint64_t i = 0; i < SLOTS; i++) {
        uint64_t word = pool->ring.words->slot[i].word, seq = pf__word_seq(word);
        uint32_t state = pf__word_state(word);
        if (pf__word_worker(word) != 0 || (state != PF_CLAIMED && state != PF_TAKEN))
            continue;
        struct truth *truth = truth_of(pf__ring_body(&pool->ring, seq)->id);
        if (truth != NULL)
            truth->seized = true;
    }
}

static void claim(pf_worker *worker)
{
    pf_claim claimed;
    if (worker->channel.in < 0 || worker->channel.out < 0)
        return;
    (void)pf_worker_claim(worker, &claimed);
    last_seq = worker->seq;
}

/* Whoever has claimed may claim more, and forget what it had. */
static void grab(pf_worker *worker)
{
    (void)pf__worker_take_ready(worker);
    last_seq = worker->seq;
}

/* ---- what it writes ------------------------------------------------------------------------ */

static void write_bytes(pf_worker *worker, const void *bytes, size_t size)
{
    if (worker->channel.out >= 0)
        (void)pf__pipe_write(worker->channel.out, bytes, size);
}

static void write_frame(pf_worker *worker)
{
    unsigned char bytes[sizeof(struct pf__frame) + 64] = {0};
    struct pf__frame frame;
    uint8_t shape = hostile_byte();
    pf__frame_init(&frame, shape % (PF_FRAME_TYPES + 1), some_seq(), 0);
    if (shape & 64)
        frame.size = shape & 128 ? some_number() : hostile_byte() % 64;
    if (frame.type == PF_FRAME_RESULT) {
        frame.flags = hostile_byte() % 4;
        frame.id = some_id();
        frame.started = (int64_t)some_number();
    }
    memcpy(bytes, &frame, sizeof frame);
    size_t more = frame.size < 64 ? (size_t)frame.size : 64;
    for (size_t i = 0; i < more; i++)
        bytes[sizeof frame + i] = (unsigned char)i;
    write_bytes(worker, bytes, sizeof frame + more);
}

static void write_garbage(pf_worker *worker)
{
    unsigned char bytes[32];
    size_t size = 1 + hostile_byte() % sizeof bytes;
    for (size_t i = 0; i < size; i++)
        bytes[i] = hostile_byte();
    write_bytes(worker, bytes, size);
}

/* The same frame again and again, as fast as the pool can read. */
static void flood(pf_worker *worker)
{
    struct pf__frame frame;
    pf__frame_init(&frame, 1 + hostile_byte() % (PF_FRAME_TYPES - 1), some_seq(), 0);
    for (int i = hostile_byte(); i > 0 && !tamed; i--)
        write_bytes(worker, &frame, sizeof frame);
}

static void write_record(pf_worker *worker)
{
    struct pf__record record = {.seq = some_seq(),
                                .id = some_id(),
                                .started = (int64_t)some_number(),
                                .outcome = hostile_byte() % 4};
    uint8_t shape = hostile_byte();
    record.size = shape % 64;
    unsigned char data[64] = {0};
    if (shape < 128) {
        (void)pf__results_put(&worker->board, &record, data);
        return;
    }
    record.size = (uint32_t)some_number();
    for (size_t i = 0; i < sizeof record; i++)
        worker->board.segment->results[(worker->board.cursor + i) & worker->board.mask] =
            ((const unsigned char *)&record)[i];
    atomic_store(&worker->board.segment->results_tail, worker->board.cursor += some_number() % 300);
}

static void deliver(pf_worker *worker)
{
    unsigned char result[64] = {0};
    if (worker->seq != 0 && worker->channel.out >= 0)
        (void)pf_worker_deliver(worker, hostile_byte() % 3, result, hostile_byte() % 64);
}

static void write_segment(pf_worker *worker)
{
    struct pf__segment *segment = worker->board.segment;
    switch (hostile_byte() % 16) {
    case 0:
        atomic_store(&segment->results_tail, some_number());
        break;
    case 1:
        atomic_store(&segment->results_tail, worker->board.cursor + hostile_byte());
        break;
    case 2:
        atomic_store(&segment->asleep, some_number());
        break;
    case 3:
        atomic_store(&segment->started_at, (int64_t)some_number());
        break;
    case 4:
        atomic_store(&segment->extended, (int64_t)some_number());
        break;
    case 5:
        atomic_store(&segment->answered, some_seq());
        break;
    case 6:
        atomic_store(&segment->rung, (uint32_t)some_number());
        break;
    case 7:
        atomic_store(&segment->want_space, (uint32_t)some_number());
        break;
    case 8:
        atomic_store(&segment->claims_left, (uint32_t)some_number());
        break;
    case 9:
        atomic_store(&segment->pid, (int32_t)some_number());
        break;
    case 10:
        atomic_store(&segment->control, (uint32_t)some_number());
        break;
    case 11:
        atomic_store(&segment->softened, some_seq());
        break;
    case 12:
        atomic_store(&segment->results_head, some_number());
        break;
    case 13:
        segment->results_size = (uint32_t)some_number();
        break;
    default:
        for (int i = hostile_byte() % 16; i > 0; i--)
            segment->results[hostile_byte()] = hostile_byte();
        break;
    }
}

/* The words that all workers share; of those that are its own it may say that it sleeps, or that
 * there is something to see. */
static void write_words(pf_worker *worker)
{
    struct pf__ring_words *words = worker->ring.words;
    uint8_t byte = hostile_byte();
    if (!wild) {
        atomic_fetch_or_explicit(byte % 2 ? &words->news[0] : &words->sleepers[0], 1,
                                 memory_order_relaxed);
        return;
    }
    if (byte % 8 == 0) {
        atomic_store(&(byte < 128 ? words->sleepers : words->news)[byte / 8 % 4], some_number());
        return;
    }
    atomic_store(&words->slot[byte / 8 % SLOTS].word, some_word());
}

/* ---- what it does -------------------------------------------------------------------------- */

static void hang_up(pf_worker *worker)
{
    int *fd = hostile_byte() % 2 ? &worker->channel.in : &worker->channel.out;
    if (*fd >= 0)
        sim_close(*fd);
    *fd = -1;
}

static void act(pf_worker *worker)
{
    switch (hostile_byte() % 18) {
    case 0:
    case 1:
    case 2:
        claim(worker);
        break;
    case 3:
        deliver(worker);
        break;
    case 4:
        grab(worker);
        break;
    case 5:
        write_garbage(worker);
        break;
    case 6:
    case 7:
        write_frame(worker);
        break;
    case 8:
        write_record(worker);
        break;
    case 9:
    case 10:
        write_segment(worker);
        break;
    case 11:
    case 12:
        atomic_store(&worker->board.segment->page, some_word());
        break;
    case 13:
        write_words(worker);
        break;
    case 14:
        flood(worker);
        break;
    case 15:
        hang_up(worker);
        break;
    case 16:
        sim_wait(NULL, now + hostile_byte() * 30000);
        break;
    default:
        if (hostile_byte() < 64) {
            current->status = hostile_byte() << 8;
            current->over = true;
        }
        break;
    }
    sim_step();
}

/* The pool's area it can only read, and its crash log it has no mapping of. */
_Noreturn void be_hostile(pf_worker *worker)
{
    bool early = hostile_byte() % 4 == 0;
    last_seq = 0;
    hostile[current - processes] = current->generation;
    if (!early)
        (void)pf_worker_ready(worker);
    while (hostile_has_more() && !current->over)
        act(worker);
    for (;;)
        sim_wait(NULL, PF_NEVER);
}
