/* The application, the honest workers, and what must be true of every event:
 *
 *   every task is settled exactly once
 *   a result of the hostile worker counts only for a task that it claimed
 *   while that worker writes only what is its own, every task that it did not claim ends by what an
 *   honest worker made of it, and no honest worker is signalled but for a task of its own
 *   whatever a worker says of itself, the application is never signalled
 *   one turn of the pool takes a bounded number of steps, and what it holds is bounded
 *   at the end nothing is left: no descriptor, no mapping, no memory, no process */
#define _GNU_SOURCE
#include "fuzz.h"

#include <errno.h>
#include <string.h>

enum { BODY_ROOM = 256, BODY_MOST = 2000, MOST_STEPS = 200000, MOST_MEMORY = 1 << 18 };

pf_pool *pool;
bool calm, terminated, guest, perilous, wild, tamed;
uint64_t large;
struct truth truths[MOST_TASKS];
uint64_t truth_count;
static uint64_t steps_of_call; /* that the application has taken in its present call */

/* ---- bytes that can be told from others ---------------------------------------------------- */

unsigned char pattern_at(uint64_t number, size_t at)
{
    return (unsigned char)(number * 31 + at * 7);
}

static void fill(unsigned char *bytes, size_t size, uint64_t number)
{
    memcpy(bytes, &number, sizeof number);
    for (size_t i = sizeof number; i < size; i++)
        bytes[i] = pattern_at(number, i);
}

static bool is_filled(const unsigned char *bytes, size_t size, uint64_t number)
{
    bool same = size >= sizeof number && memcmp(bytes, &number, sizeof number) == 0;
    for (size_t i = sizeof number; i < size; i++)
        same = same && bytes[i] == pattern_at(number, i);
    return same;
}

/* By the pool's own table: a task is published before its id has been returned. */
struct truth *truth_of(uint64_t id)
{
    uint64_t number = 0;
    const struct pf__job *job = pf__handles_find(&pool->jobs, id);
    if (job == NULL)
        return NULL;
    memcpy(&number, job->body, sizeof number);
    return &truths[number];
}

/* ---- the honest workers -------------------------------------------------------------------- */

static _Noreturn void leave(void)
{
    current->over = true;
    for (;;)
        fiber_yield();
}

static void serve(pf_worker *worker, const pf_claim *claim)
{
    unsigned char result[BODY_MOST];
    uint64_t number = 0;
    size_t size = 8 + draw(once_in(8) ? BODY_MOST - 8 : 50);
    int got;
    memcpy(&number, claim->body, claim->size < sizeof number ? claim->size : sizeof number);
    if (!wild) {
        MUST(number > 0 && number <= truth_count && !truths[number].called);
        MUST(claim->size == truths[number].size && is_filled(claim->body, claim->size, number));
        truths[number].called = true;
    }
    if (once_in(3))
        sim_wait(NULL, now + (int64_t)draw(6) * ms);
    fill(result, size, number);
    while ((got = pf_worker_deliver(worker, number % 5 == 0 ? PF_ERROR : PF_OK, result, size)) > 0)
        if (pf_worker_wait_space(worker) < 0)
            leave();
    if (got < 0)
        leave();
}

void run_worker(void)
{
    pf_worker *worker = pf__worker_open(current->slot, current->generation, current->fds_given,
                                        current->parent->pid);
    if (worker == NULL)
        leave();
    if (current->slot == 0 && !tamed)
        be_hostile(worker);
    int got = pf_worker_ready(worker);
    while (got >= 0) {
        pf_claim claim;
        got = pf_worker_claim(worker, &claim);
        if (got > 0)
            serve(worker, &claim);
        else if (got == 0)
            got = pf_worker_wait(worker);
    }
    leave();
}

/* ---- what the simulated machine tells ------------------------------------------------------- */

void oracle_observe(struct process *who)
{
    steps_of_call += who == application;
    if (is_hostile(who))
        hostile_observe();
}

void oracle_signal(struct process *process)
{
    MUST(process != application);
    if (process->role != WORKER || is_hostile(process) || wild || terminated)
        return;
    MUST(process->segment != NULL && pf__word_state(process->segment->page) == PF_CONDEMNED);
}

/* ---- what the application is told ---------------------------------------------------------- */

static void task_ended(const pf_event *event)
{
    struct truth *truth = truths + 1;
    while (truth <= truths + truth_count && truth->id != event->task)
        truth++;
    MUST(truth <= truths + truth_count && !truth->settled);
    truth->settled = true;
    MUST(!truth->cancelled || event->outcome == PF_CANCELLED);
    bool is_result = event->outcome == PF_OK || event->outcome == PF_ERROR;
    uint64_t number = (uint64_t)(truth - truths);
    MUST(!is_result || event->slot != 0 || truth->seized || truth->called || (wild && tamed));
    if (wild || truth->seized || terminated)
        return;
    if (is_result) {
        MUST(truth->called && event->outcome == (number % 5 == 0 ? PF_ERROR : PF_OK));
        MUST(is_filled(event->data, event->size, number));
    }
    MUST(event->outcome != PF_LOST);
    MUST(event->outcome != PF_TIMED_OUT || truth->options.limit > 0);
    MUST(event->outcome != PF_EXPIRED || truth->options.queue_limit > 0);
}

static void take(const pf_event *event)
{
    if (event->type == PF_EVENT_DONE)
        task_ended(event);
    MUST(event->type != PF_EVENT_OUTSIDER || event->slot == 0 || wild);
    MUST(event->type != PF_EVENT_SOFT_LIMIT || event->task != 0);
}

/* Of one call: what others do meanwhile is theirs. */
static void call_begins(void)
{
    steps_of_call = 0;
}

static void call_ends(void)
{
    MUST(steps_of_call < MOST_STEPS && memory_held(application) < MOST_MEMORY);
}

static void poll_pool(int64_t timeout)
{
    pf_event events[8];
    if (guest) {
        sim_wait(poll_is_ready, timeout < 0 ? PF_NEVER : now + timeout);
        timeout = 0;
    }
    call_begins();
    int count = pf_pool_poll(pool, events, 8, timeout, pf_pool_rouses(pool));
    call_ends();
    MUST(count >= 0);
    for (int i = 0; i < count; i++) {
        take(&events[i]);
        pf_event_clear(&events[i]);
    }
}

/* ---- what it does -------------------------------------------------------------------------- */

static void submit(void)
{
    unsigned char body[BODY_MOST];
    uint8_t byte = application_byte(), extras = application_byte();
    if (truth_count + 1 == MOST_TASKS)
        return;
    uint64_t number = ++truth_count;
    struct truth *truth = &truths[number];
    *truth = (struct truth){.size = byte < 192 ? 8 + byte : BODY_MOST};
    truth->options = (pf_task_options){.tell = extras & 1,
                                       .retries = extras & 2 ? 1 : 0,
                                       .soft_limit = extras & 4 ? 2 * ms : 0,
                                       .limit = extras & 8 ? 3 * ms : 0,
                                       .queue_limit = extras & 16 ? 4 * ms : 0};
    fill(body, truth->size, number);
    call_begins();
    truth->id = pf_pool_submit(pool, body, truth->size, &truth->options, 1);
    call_ends();
    MUST(truth->id != 0);
}

static uint64_t some_task(void)
{
    uint8_t byte = application_byte();
    return truth_count == 0 ? 0 : truths[truth_count - byte % truth_count].id;
}

static void cancel(void)
{
    uint64_t id = some_task();
    struct truth *truth = truth_of(id);
    call_begins();
    int done = pf_pool_cancel(pool, id);
    call_ends();
    if (done == 1 && truth != NULL)
        truth->cancelled = true;
}

static void look(void)
{
    pf_worker_info workers[SEATS];
    pf_pool_info info;
    MUST(pf_pool_describe(pool, &info) == 0 && info.unfinished <= truth_count);
    MUST(pf_pool_list_workers(pool, workers, SEATS) <= (int)pool->sup.seat_count);
    (void)pf_pool_find_task(pool, some_task());
}

static pid_t some_pid(void)
{
    const struct pf__child *child = (struct pf__child *)pool->seats[0];
    return application_byte() % 2 ? child->pid : 101 + application_byte() % 8;
}

static void act(void)
{
    static const int signals[] = {SIGTERM, SIGKILL};
    uint8_t what = application_byte() % 20;
    call_begins();
    if (what < 7)
        submit();
    else if (what == 7)
        cancel();
    else if (what == 8)
        (void)pf_pool_kill_task(pool, some_task(), signals[application_byte() % 2]);
    else if (what == 9)
        (void)pf_pool_kill_job(pool, some_pid(), signals[application_byte() % 2]);
    else if (what == 10)
        look();
    else if (what == 11) /* at least one of them is honest */
        MUST(pf_pool_resize(pool, 2 + application_byte() % (SEATS - 1)) == 0);
    else if (what < 15)
        poll_pool(application_byte() * 30000);
    else if (what == 15)
        sim_wait(NULL, now + application_byte() * 30000);
    else
        poll_pool(0);
    MUST(steps_of_call < MOST_STEPS);
}

/* Wild writes can make the pool believe that a worker has a task that it has not, and then only
 * the end of that worker says otherwise. */
static bool all_settled(bool but_seized)
{
    for (uint64_t number = 1; number <= truth_count; number++)
        if (!truths[number].settled && !(but_seized && truths[number].seized))
            return false;
    return true;
}

static void come_to_an_end(void)
{
    tamed = true; /* what it has done stays, and it does to the end what it has begun */
    while (hostile_is_at_it())
        sim_wait(NULL, now + ms);
    for (int i = 0; i < 40 && wild; i++)
        poll_pool(5 * ms);
    while (!wild && !all_settled(true))
        poll_pool(PF_FOREVER);
    for (struct process *process = processes; process < processes + PROCESSES; process++)
        if (is_hostile(process) && !process->dead)
            process->doomed = true;
    for (int i = 0; i < 40 && wild; i++)
        poll_pool(5 * ms);
    while (!wild && !all_settled(false))
        poll_pool(PF_FOREVER);
    terminated = wild;
    if (wild)
        MUST(pf_pool_terminate(pool, SIGKILL, 0) == 0);
    MUST(pf_pool_retire(pool, 1) == 0);
    while (pool->sup.live > 0 || pool->event_count > 0 || !all_settled(false))
        poll_pool(PF_FOREVER);
}

/* A pool as any other, but for its ring: so small that it is full, and goes round. */
static void set_up(void)
{
    pf_options options = {.workers = 2 + application_byte() % 3, .term_grace = 20 * ms};
    if (application_byte() % 4 == 0)
        options.tasks_per_worker = 3;
    pool = pf_pool_new(&options);
    MUST(pool != NULL);
    const struct pf__recycling recycling = pool->sup.recycling;
    const uint32_t seats = pool->sup.seat_count;
    pf__ring_close(&pool->ring);
    MUST(pf__ring_create(&pool->ring, SLOTS, BODY_ROOM) == 0);
    pf__supervisor_init(&pool->sup, pool->slots, SLOTS, options.term_grace);
    pf__supervisor_seats(&pool->sup, pool->seats, seats);
    pool->sup.recycling = recycling;
    pool->sup.target = options.workers;
    pool->sup.now = now;
    if (guest)
        (void)pf_pool_fd(pool);
    int fd = pf_pool_zygote_prepare(pool);
    MUST(fd >= 0);
    MUST(pf_pool_zygote_started(pool, zygote_new(NULL, fd)->pid) == 0);
}

void run_application(void)
{
    memset(truths, 0, sizeof truths);
    truth_count = 0;
    hostile_forget();
    terminated = tamed = false;
    set_up();
    while (application_has_more())
        act();
    come_to_an_end();
    pf_pool_free(pool);
    pool = NULL;
    kernel_check_empty();
}
