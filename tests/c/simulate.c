/* The supervisor under random schedules: a model of the words, the workers and the zygote, in which
 * every step of every process can come at any time, or never.
 *
 *   simulate [--steps N] [--seed S] [--seeds FILE]
 *
 * Steps come in episodes, each with a seed of its own: S, S + 1, … A failure names the episode's
 * seed, and `simulate --seed THAT --steps 1` plays that one again.
 *
 * The model mirrors worker.c, pool_orders.c and pool_children.c; what they do wrong it cannot see.
 * Memory is sequentially consistent here: fences are test_wakeups.c's business. */
#define _GNU_SOURCE
#include "supervisor.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SLOTS = 16, SEATS = 8, TASKS = 64, TRUTHS = 1 << 13, EPISODE = 3000, RESULTS = 4 };
enum { TERM = 15, KILL = 9 };
static const int64_t ms = 1000000;

/* What really happened to a task, beside what the supervisor thinks of it. */
struct truth {
    uint64_t id;
    int64_t begun_at, limit;
    bool begun, delivered, settled, cancelled, told;
    int published; /* how often */
};

struct job {
    struct pf__task task;
    bool used, outside;
};

enum step {
    NOT_BORN,
    BORN,
    LOOK,
    TRY,
    CLAIMED,
    LOADING,
    AWAIT_BODY,
    BEGIN,
    RUN,
    DELIVER,
    REST,
    ANNOUNCE,
    SHOW,
    AGAIN,
    ASLEEP,
    AWAKE,
    DEAD
};

struct result {
    uint64_t id, seq;
    int64_t started;
};

struct worker { /* one process, and what the pool keeps of it */
    struct pf__seat seat;
    enum step step;
    bool ordered, spawn_seen; /* the zygote was asked; the pool read its answer */
    bool up_sent, up_seen, retire, killable, need, body_came, deaf_to_term;
    uint64_t page, cursor, seq, id, nap, sleeps;
    int64_t started_at;
    int bells, claims_left, result_count;
    struct result results[RESULTS];
};

static struct pf__supervisor sup;
static struct worker workers[SEATS];
static struct pf__seat *seats[SEATS];
static struct pf__task *slots[SLOTS];
static struct job jobs[TASKS];
static struct truth truths[TRUTHS];
static uint64_t words[SLOTS], ring_tail, ring_head, next_id, sleepers;
static struct job *bodies[SLOTS];
static uint64_t body_ids[SLOTS];
static int64_t now;
static bool calm, terminated; /* calm: no more accidents, the episode is to end */
static uint64_t steps_done, random_state, seed_now;
static jmp_buf failed;

static uint64_t draw(uint64_t below) /* splitmix64 */
{
    uint64_t z = random_state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (z ^ z >> 31) % below;
}

static void wrong(int line, const char *what)
{
    printf("seed %llu: line %d: %s\n", (unsigned long long)seed_now, line, what);
    longjmp(failed, 1);
}

#define MUST(expression)                                                                           \
    do {                                                                                           \
        if (!(expression))                                                                         \
            wrong(__LINE__, #expression);                                                          \
    } while (0)

static struct truth *truth_of(uint64_t id)
{
    struct truth *truth = &truths[id % TRUTHS];
    MUST(truth->id == id);
    return truth;
}

static uint64_t *word_of(uint64_t seq)
{
    return &words[seq % SLOTS];
}

static bool is_alive(const struct worker *worker)
{
    return worker->step != NOT_BORN && worker->step != DEAD;
}

/* ---- a worker's steps, as worker.c takes them ---------------------------------------------- */

static void look(struct worker *worker)
{
    if (worker->retire || worker->claims_left == 0) {
        worker->step = DEAD;
        return;
    }
    uint64_t oldest = ring_tail > SLOTS ? ring_tail - SLOTS : 1;
    if (worker->cursor < ring_head)
        worker->cursor = ring_head;
    if (worker->cursor < oldest)
        worker->cursor = oldest;
    if (worker->cursor >= ring_tail)
        worker->step = ANNOUNCE;
    else if (*word_of(worker->cursor) == pf__word(worker->cursor, PF_NO_WORKER, PF_READY))
        worker->step = TRY;
    else
        worker->cursor++;
}

static void try_claim(struct worker *worker)
{
    uint64_t *word = word_of(worker->cursor);
    worker->step = LOOK;
    if (*word == pf__word(worker->cursor, PF_NO_WORKER, PF_READY)) {
        *word = pf__word(worker->cursor, worker->seat.index, PF_CLAIMED);
        worker->seq = worker->cursor;
        worker->claims_left--;
        worker->step = CLAIMED;
    }
    worker->cursor++;
}

static void load(struct worker *worker)
{
    const struct job *body = bodies[worker->seq % SLOTS];
    worker->id = body_ids[worker->seq % SLOTS];
    MUST(*word_of(worker->seq) == pf__word(worker->seq, worker->seat.index, PF_CLAIMED));
    *word_of(worker->seq) = pf__word(worker->seq, worker->seat.index, PF_TAKEN);
    worker->need = body->outside;
    worker->body_came = false;
    worker->step = worker->need ? AWAIT_BODY : BEGIN;
}

static void begin(struct worker *worker)
{
    worker->started_at = now;
    if (worker->page != pf__word(worker->seq, 0, PF_LOADING)) {
        MUST(worker->page == pf__word(worker->seq, 0, PF_REVOKED));
        worker->page = pf__word(0, 0, PF_IDLE);
        worker->seq = 0;
        worker->step = LOOK;
        return;
    }
    struct truth *truth = truth_of(worker->id);
    MUST(!truth->begun && !truth->cancelled && (!truth->settled || terminated));
    truth->begun = true;
    truth->begun_at = now;
    worker->page = pf__word(worker->seq, 0, PF_RUNNING);
    worker->step = RUN;
}

static void end(struct worker *worker)
{
    if (worker->page != pf__word(worker->seq, 0, PF_RUNNING)) {
        MUST(worker->page == pf__word(worker->seq, 0, PF_CONDEMNED));
        worker->step = DEAD;
        return;
    }
    worker->page = pf__word(worker->seq, 0, PF_DONE);
    worker->step = DELIVER;
}

static void deliver(struct worker *worker)
{
    if (worker->result_count == RESULTS)
        return; /* no room until the pool takes some */
    worker->results[worker->result_count++] =
        (struct result){.id = worker->id, .seq = worker->seq, .started = worker->started_at};
    truth_of(worker->id)->delivered = true;
    worker->step = REST;
}

static bool sees_ready(const struct worker *worker)
{
    for (uint64_t seq = worker->cursor; seq < ring_tail; seq++)
        if (*word_of(seq) == pf__word(seq, PF_NO_WORKER, PF_READY))
            return true;
    return false;
}

static void worker_step(struct worker *worker)
{
    switch (worker->step) {
    case BORN:
        worker->page = pf__word(0, 0, PF_IDLE);
        worker->up_sent = true;
        worker->step = LOOK;
        break;
    case LOOK:
        look(worker);
        break;
    case TRY:
        try_claim(worker);
        break;
    case CLAIMED:
        worker->page = pf__word(worker->seq, 0, PF_LOADING);
        worker->step = LOADING;
        break;
    case LOADING:
        load(worker);
        break;
    case AWAIT_BODY: /* a revoked claim gets no body, and the revoker rings */
        if (worker->body_came || pf__word_state(worker->page) == PF_REVOKED)
            worker->step = BEGIN;
        break;
    case BEGIN:
        begin(worker);
        break;
    case RUN:
        end(worker);
        break;
    case DELIVER:
        deliver(worker);
        break;
    case REST:
        worker->page = pf__word(0, 0, PF_IDLE);
        worker->seq = 0;
        worker->step = LOOK;
        break;
    case ANNOUNCE:
        worker->nap = ++worker->sleeps;
        worker->step = SHOW;
        break;
    case SHOW:
        sleepers |= (uint64_t)1 << worker->seat.index;
        worker->step = AGAIN;
        break;
    case AGAIN:
        worker->step = sees_ready(worker) || worker->retire ? AWAKE : ASLEEP;
        break;
    case ASLEEP:
        if (worker->bells > 0)
            worker->step = AWAKE;
        break;
    case AWAKE:
        worker->nap = 0;
        sleepers &= ~((uint64_t)1 << worker->seat.index);
        worker->bells = 0;
        worker->step = LOOK;
        break;
    default:
        break;
    }
}

/* ---- the pool: obeys as pool_orders.c does ------------------------------------------------- */

static void check_verdict(const struct pf__task *task, const struct truth *truth)
{
    switch (task->verdict) {
    case PF_VERDICT_OK:
        MUST(truth->begun && truth->delivered);
        break;
    case PF_VERDICT_LOST:
        MUST(truth->begun || task->put_back == PF_MAX_PUT_BACK);
        break;
    case PF_VERDICT_TIMED_OUT:
        MUST(truth->begun && truth->limit > 0 && now - truth->begun_at >= truth->limit);
        break;
    case PF_VERDICT_CANCELLED:
        MUST(!truth->begun);
        break;
    default:
        MUST(task->verdict == PF_VERDICT_TERMINATED && (truth->begun || terminated));
        break;
    }
}

static void give_settled(struct pf__task *task)
{
    struct truth *truth = truth_of(task->id);
    MUST(!truth->settled);
    truth->settled = true;
    truth->cancelled = task->verdict == PF_VERDICT_CANCELLED;
    check_verdict(task, truth);
    MUST(task->timer.at == PF_NEVER);
    ((struct job *)task)->used = false;
}

static void give_accepted(const struct pf__task *task)
{
    struct truth *truth = truth_of(task->id);
    MUST(truth->begun && !truth->told && !truth->settled && task->started == truth->begun_at);
    truth->told = true;
}

static void publish(struct pf__task *task)
{
    struct truth *truth = truth_of(task->id);
    uint64_t *word = word_of(task->seq);
    MUST(!truth->begun && !truth->settled);
    MUST(++truth->published <= 1 + PF_MAX_PUT_BACK);
    MUST(task->seq == ring_tail && pf__word_state(*word) != PF_READY);
    MUST(pf__word_state(*word) != PF_CLAIMED || !is_alive(&workers[pf__word_worker(*word)]) ||
         workers[pf__word_worker(*word)].seq != pf__word_seq(*word));
    bodies[task->seq % SLOTS] = (struct job *)task;
    body_ids[task->seq % SLOTS] = task->id;
    *word = pf__word(task->seq, PF_NO_WORKER, PF_READY);
    ring_tail = task->seq + 1;
}

static void signal_worker(struct worker *worker, int number)
{
    MUST(worker->spawn_seen);
    MUST(worker->killable || pf__word_state(worker->page) == PF_CONDEMNED);
    if (number == KILL || (!worker->deaf_to_term && draw(2)))
        worker->step = DEAD;
}

static void spawn(struct worker *worker)
{
    struct pf__seat seat = worker->seat;
    MUST(!is_alive(worker) && sup.live <= sup.target);
    memset(worker, 0, sizeof *worker);
    worker->seat = seat;
    if (!calm && draw(10) == 0) {
        pf__supervisor_spawn_failed(&sup, &worker->seat);
        return;
    }
    worker->ordered = true;
}

static void condemn(struct worker *worker, uint64_t seq)
{
    bool done = worker->page == pf__word(seq, 0, PF_RUNNING);
    if (done)
        worker->page = pf__word(seq, 0, PF_CONDEMNED);
    pf__supervisor_condemned(&sup, &worker->seat, seq, done);
}

static void obey(void)
{
    struct pf__order order;
    for (int count = 0; pf__supervisor_next(&sup, &order) != PF_ORDER_NONE; count++) {
        struct worker *worker = (struct worker *)order.seat;
        MUST(count < 10000); /* orders come to an end */
        switch (order.type) {
        case PF_ORDER_SETTLED:
            give_settled(order.task);
            break;
        case PF_ORDER_ACCEPTED:
            give_accepted(order.task);
            break;
        case PF_ORDER_LOOK:
            pf__supervisor_page_seen(&sup, &worker->seat, worker->page, worker->started_at);
            break;
        case PF_ORDER_CONDEMN:
            condemn(worker, order.seq);
            break;
        case PF_ORDER_SIGNAL:
            signal_worker(worker, order.signal);
            break;
        case PF_ORDER_RETIRE:
            worker->retire = true;
            worker->bells++;
            break;
        case PF_ORDER_LOOK_SLOT:
            pf__supervisor_slot_seen(&sup, order.seq, *word_of(order.seq));
            break;
        case PF_ORDER_PUBLISH:
            publish(order.task);
            break;
        case PF_ORDER_SKIP:
            MUST(order.seq == ring_tail);
            ring_tail = order.seq + 1;
            break;
        case PF_ORDER_SPAWN:
            spawn(worker);
            break;
        default:
            MUST(false);
        }
    }
}

static void note_claims(void)
{
    while (sup.head < sup.tail && pf__supervisor_slot_seen(&sup, sup.head, *word_of(sup.head)))
        ;
    ring_head = sup.head;
}

static void call_sleepers(void)
{
    if (sup.ready == 0)
        return;
    for (struct pf__seat *seat = sup.called, *next; seat != NULL; seat = next) {
        next = seat->next_called;
        pf__supervisor_nap_seen(&sup, seat, ((struct worker *)seat)->nap);
    }
    for (uint32_t i = 0; i < sup.seat_count && pf__supervisor_wants_sleepers(&sup); i++)
        if (sleepers >> i & 1 &&
            pf__supervisor_sleeper_seen(&sup, &workers[i].seat, workers[i].nap))
            workers[i].bells++;
}

static void drain(struct worker *worker)
{
    if (worker->result_count > 0)
        note_claims();
    for (int i = 0; i < worker->result_count; i++) {
        const struct result *result = &worker->results[i];
        struct job *job = NULL;
        for (int j = 0; j < TASKS; j++)
            if (jobs[j].used && jobs[j].task.id == result->id)
                job = &jobs[j];
        bool counted = pf__supervisor_result(&sup, &worker->seat, job != NULL ? &job->task : NULL,
                                             result->seq, PF_VERDICT_OK, result->started);
        MUST(counted || terminated);
    }
    worker->result_count = 0;
    for (struct pf__task *task = worker->seat.held.first; task != NULL; task = task->next)
        if (task->tell && !task->told)
            pf__supervisor_page_seen(&sup, &worker->seat, worker->page, worker->started_at);
    /* NEED: the pool looks for claims before it looks for the task */
    if (worker->step == AWAIT_BODY && worker->need) {
        note_claims();
        worker->need = false;
        for (struct pf__task *task = worker->seat.held.first; task != NULL; task = task->next)
            worker->body_came = worker->body_came || task->seq == worker->seq;
    }
}

static void check_ready_beside_sleepers(void)
{
    uint64_t ready = 0;
    for (int i = 0; i < SLOTS; i++)
        ready += pf__word_state(words[i]) == PF_READY;
    for (uint32_t i = 0; i < sup.seat_count; i++) {
        const struct worker *worker = &workers[i];
        const struct pf__seat *seat = &worker->seat;
        if (worker->step != ASLEEP || worker->bells > 0 || !worker->up_seen ||
            !worker->spawn_seen || seat->retiring || seat->killed)
            continue;
        MUST(!seat->called || seat->called_nap != worker->nap); /* called, yet no bell */
        MUST(!seat->called || sup.ready == 0); /* it has slept anew since, and does not count */
        MUST(seat->called || ready <= sup.called_count);
    }
}

static void check_all(void)
{
    MUST(sup.queue.first == NULL || sup.tail - sup.head >= sup.slot_count);
    MUST(sup.spawn_timer.at != PF_NEVER || !sup.can_spawn || sup.live >= sup.target ||
         sup.spawning >= PF_MAX_SPAWNING);
    uint32_t live = 0, retiring = 0, spawning = 0, called = 0;
    for (uint32_t i = 0; i < sup.seat_count; i++) {
        const struct pf__seat *seat = &workers[i].seat;
        live += seat->state != PF_SEAT_VACANT;
        spawning += seat->state == PF_SEAT_SPAWNING;
        retiring += seat->state != PF_SEAT_VACANT && seat->retiring;
        called += seat->called;
        MUST(seat->state == PF_SEAT_UP || !workers[i].up_seen || !workers[i].spawn_seen);
    }
    MUST(live == sup.live && retiring == sup.retiring && spawning == sup.spawning);
    MUST(called == sup.called_count && sup.live - sup.retiring <= sup.target);
    uint64_t ready = 0, unfinished = 0;
    for (int i = 0; i < SLOTS; i++)
        ready += slots[i] != NULL;
    for (int i = 0; i < TASKS; i++)
        unfinished += jobs[i].used;
    MUST(ready == sup.ready && unfinished == sup.unfinished);
}

static void turn(void)
{
    pf__supervisor_time(&sup, now);
    note_claims();
    for (uint32_t i = 0; i < sup.seat_count; i++)
        if (workers[i].seat.state != PF_SEAT_VACANT)
            drain(&workers[i]);
    obey();
    call_sleepers();
    check_ready_beside_sleepers();
    check_all();
}

/* As bury() of pool_children.c: what it delivered counts, then its words are believed. */
static void see_exit(struct worker *worker)
{
    uint32_t index = worker->seat.index;
    pf__supervisor_time(&sup, now);
    drain(worker);
    note_claims();
    for (int i = 0; i < SLOTS; i++)
        if (pf__word_state(words[i]) == PF_CLAIMED && pf__word_worker(words[i]) == index)
            words[i] = pf__word(pf__word_seq(words[i]), index, PF_TAKEN);
    pf__supervisor_page_seen(&sup, &worker->seat, worker->page, worker->started_at);
    sleepers &= ~((uint64_t)1 << index);
    worker->ordered = worker->spawn_seen = worker->up_seen = false;
    worker->step = NOT_BORN;
    pf__supervisor_exited(&sup, &worker->seat, worker->page);
    obey();
}

/* ---- events -------------------------------------------------------------------------------- */

static void submit(void)
{
    for (int i = 0; i < TASKS; i++) {
        struct job *job = &jobs[i];
        if (job->used)
            continue;
        /* A slot's body may be read by a slow claimer until its word says TAKEN; `used` ends with
         * the task, and nobody reads the body of a settled one but for its flag. */
        memset(job, 0, sizeof *job);
        job->used = true;
        job->outside = draw(6) == 0;
        job->task.id = ++next_id;
        job->task.tell = draw(3) == 0;
        job->task.limit = draw(3) == 0 ? (int64_t)(1 + draw(30)) * ms : 0;
        truths[next_id % TRUTHS] = (struct truth){.id = next_id, .limit = job->task.limit};
        pf__supervisor_time(&sup, now);
        pf__supervisor_submit(&sup, &job->task);
        return;
    }
}

static struct job *some_job(void)
{
    uint64_t from = draw(TASKS);
    for (uint64_t i = 0; i < TASKS; i++)
        if (jobs[(from + i) % TASKS].used)
            return &jobs[(from + i) % TASKS];
    return NULL;
}

static void cancel(struct pf__task *task)
{
    enum pf__cancel next = pf__supervisor_cancel(&sup, task);
    bool done = false;
    if (next == PF_CANCEL_TRY_SLOT) {
        uint64_t *word = word_of(task->seq);
        done = *word == pf__word(task->seq, PF_NO_WORKER, PF_READY);
        if (done) {
            *word = pf__word(task->seq, PF_NO_WORKER, PF_WITHDRAWN);
        } else {
            note_claims();
            next = pf__supervisor_cancel(&sup, task);
        }
    }
    if (next == PF_CANCEL_TRY_PAGE) {
        struct worker *worker = &workers[task->seat];
        done = worker->page == pf__word(task->seq, 0, PF_LOADING);
        if (done)
            worker->page = pf__word(task->seq, 0, PF_REVOKED);
    }
    if (done)
        pf__supervisor_withdrawn(&sup, task);
}

static void kill_task(struct pf__task *task)
{
    note_claims();
    if (task->state != PF_TASK_HELD)
        return;
    struct worker *worker = &workers[task->seat];
    if (worker->page != pf__word(task->seq, 0, PF_RUNNING))
        return;
    worker->page = pf__word(task->seq, 0, PF_CONDEMNED);
    task->started = worker->started_at;
    pf__supervisor_end_task(&sup, task, PF_VERDICT_TERMINATED, draw(2) ? KILL : TERM);
}

static void resize(uint32_t target)
{
    uint32_t count = target > sup.seat_count ? target : sup.seat_count;
    pf__supervisor_seats(&sup, seats, count);
    pf__supervisor_resize(&sup, target);
}

static void terminate(void)
{
    terminated = true;
    note_claims();
    for (int i = 0; i < TASKS; i++) {
        struct pf__task *task = &jobs[i].task;
        if (!jobs[i].used || task->state == PF_TASK_SETTLED)
            continue;
        if (task->state == PF_TASK_PUBLISHED &&
            *word_of(task->seq) == pf__word(task->seq, PF_NO_WORKER, PF_READY))
            *word_of(task->seq) = pf__word(task->seq, PF_NO_WORKER, PF_WITHDRAWN);
        else
            note_claims(); /* never between withdrawing and settling: it would take it for lost */
        pf__supervisor_abandon(&sup, task);
    }
    pf__supervisor_resize(&sup, 0);
    for (uint32_t i = 0; i < sup.seat_count; i++) {
        workers[i].killable = true;
        pf__supervisor_kill(&sup, &workers[i].seat, draw(2) ? KILL : TERM);
    }
}

/* The zygote, and what the pool hears of it: each word late, but those of one source in order. */
static void hear(struct worker *worker)
{
    if (worker->ordered && worker->step == NOT_BORN && !worker->spawn_seen) {
        if (!calm && draw(12) == 0) {
            worker->ordered = false;
            pf__supervisor_spawn_failed(&sup, &worker->seat);
            return;
        }
        worker->step = BORN;
        worker->cursor = 1;
        worker->claims_left = draw(3) == 0 ? 1 + (int)draw(5) : 1 << 30;
        worker->deaf_to_term = draw(4) == 0;
        return;
    }
    /* The pipe and the zygote's socket are two sources: UP may be heard before SPAWNED. */
    if (worker->up_sent && !worker->up_seen && draw(2)) {
        worker->up_seen = true;
        pf__supervisor_up(&sup, &worker->seat);
        return;
    }
    if (worker->step != NOT_BORN && worker->ordered && !worker->spawn_seen) {
        worker->spawn_seen = true;
        pf__supervisor_spawned(&sup, &worker->seat);
        return;
    }
    if (worker->step == DEAD && worker->spawn_seen)
        see_exit(worker);
}

static void pass_time(void)
{
    int64_t deadline = pf__supervisor_deadline(&sup);
    switch (draw(4)) {
    case 0:
        now += (int64_t)draw(200000);
        break;
    case 1:
        now += (int64_t)draw(5000000);
        break;
    default:
        if (deadline != PF_NEVER && deadline > now && draw(2))
            now = deadline;
        break;
    }
    pf__supervisor_time(&sup, now);
}

static void accident(void)
{
    struct worker *worker = &workers[draw(sup.seat_count)];
    struct job *job = some_job();
    switch (draw(24)) {
    case 0:
        if (is_alive(worker))
            worker->step = DEAD;
        break;
    case 1: /* all who hold a claim that has not begun: else no task is put back three times */
        for (int i = 0; i < SEATS; i++)
            if (workers[i].step >= CLAIMED && workers[i].step <= BEGIN)
                workers[i].step = DEAD;
        break;
    case 2:
    case 3:
    case 4:
        if (job != NULL)
            cancel(&job->task);
        break;
    case 5:
        if (job != NULL)
            kill_task(&job->task);
        break;
    case 6:
        resize((uint32_t)draw(SEATS + 1));
        break;
    case 7:
        if (draw(4) == 0)
            pf__supervisor_renew(&sup);
        break;
    case 8:
        pf__supervisor_stalled(&sup, (int64_t)draw(20) * ms);
        break;
    case 9:
        if (worker->seat.state != PF_SEAT_VACANT && worker->ordered) {
            worker->killable = true;
            pf__supervisor_misbehaved(&sup, &worker->seat);
        }
        break;
    case 10:
        sup.can_spawn = !sup.can_spawn;
        break;
    default:
        submit();
        break;
    }
    obey();
    call_sleepers();
    check_all();
}

static void event(void)
{
    struct worker *worker = &workers[draw(SEATS)];
    steps_done++;
    switch (draw(16)) {
    case 0:
        if (!calm) {
            submit();
            obey();
            call_sleepers();
        }
        break;
    case 1:
        if (!calm && draw(4) == 0)
            accident();
        break;
    case 2:
        turn();
        break;
    case 3:
        pass_time();
        break;
    case 4:
    case 5:
        hear(worker);
        break;
    default:
        worker_step(worker);
        break;
    }
}

static void start(uint64_t seed)
{
    seed_now = random_state = seed;
    memset(workers, 0, sizeof workers);
    memset(slots, 0, sizeof slots);
    memset(jobs, 0, sizeof jobs);
    memset(truths, 0, sizeof truths);
    memset(words, 0, sizeof words);
    memset(bodies, 0, sizeof bodies);
    ring_tail = ring_head = 1;
    next_id = sleepers = 0;
    now = 1000 * ms;
    calm = terminated = false;
    for (uint32_t i = 0; i < SEATS; i++) {
        pf__seat_init(&workers[i].seat, i);
        seats[i] = &workers[i].seat;
    }
    pf__supervisor_init(&sup, slots, SLOTS, 20 * ms);
    pf__supervisor_time(&sup, now);
    sup.can_spawn = true;
    resize(1 + (uint32_t)draw(SEATS));
}

static bool episode(uint64_t seed)
{
    start(seed);
    if (setjmp(failed))
        return false;
    uint64_t length = draw(EPISODE);
    for (uint64_t i = 0; i < length; i++)
        event();
    /* The end: no accidents from now on, so everything must come to one. */
    calm = sup.can_spawn = true;
    if (draw(4) == 0) {
        terminate();
    } else {
        if (sup.target == 0)
            resize(1);
        sup.draining = true;
    }
    for (uint64_t i = 0; sup.unfinished > 0 || sup.live > 0; i++) {
        MUST(i < 200000);
        event();
    }
    turn();
    for (uint64_t id = 1; id <= next_id; id++)
        MUST(truths[id % TRUTHS].id != id || truths[id % TRUTHS].settled);
    MUST(sup.timers.first == NULL || sup.timers.first == &sup.spawn_timer);
    return true;
}

int main(int argc, char **argv)
{
    uint64_t steps = 2000000, seed = (uint64_t)time(NULL);
    const char *seeds = NULL;
    unsigned long passed = 0, bad = 0;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--steps") == 0)
            steps = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--seed") == 0)
            seed = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--seeds") == 0)
            seeds = argv[i + 1];
    }
    printf("seed %llu\n", (unsigned long long)seed);
    fflush(stdout);
    if (seeds != NULL) {
        FILE *file = fopen(seeds, "r");
        char line[128];
        if (file == NULL) {
            perror(seeds);
            return 1;
        }
        while (fgets(line, sizeof line, file) != NULL) {
            char *rest;
            uint64_t recorded = strtoull(line, &rest, 10);
            if (rest == line) /* a comment */
                continue;
            if (episode(recorded))
                passed++;
            else
                bad++;
        }
        fclose(file);
    }
    for (steps_done = 0; steps_done < steps && bad < 10; seed++) {
        if (episode(seed))
            passed++;
        else
            bad++;
    }
    printf("%llu steps\n%lu passed, %lu failed\n", (unsigned long long)steps_done, passed, bad);
    return bad > 0;
}
