/* Who calls prefork.h: the application, which does whatever an application may, and the workers,
 * which do what a binding makes them do. */
#define _GNU_SOURCE
#include "world.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { BODY_ROOM = 256, BODY_MOST = 3000, RESULT_MOST = 2500, ACTIONS = 400 };

pf_pool *pool;
bool calm, terminated, guest, perilous;
uint64_t large, spawns_wanted, spawns_permitted;

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

/* ---- a worker ------------------------------------------------------------------------------ */

static _Noreturn void leave(int code)
{
    oracle_observe(current);
    current->status = code << 8;
    current->over = true;
    for (;;)
        fiber_yield();
}

static void be_busy(void)
{
    if (once_in(4))
        sim_wait(NULL, now + (int64_t)draw(20) * ms);
    for (uint64_t i = draw(8); i > 0; i--)
        sim_step();
}

static uint64_t call(const pf_worker *worker, const pf_claim *claim)
{
    const unsigned char *body = claim->body;
    uint64_t number;
    MUST(claim->size >= sizeof number);
    memcpy(&number, body, sizeof number);
    for (size_t i = sizeof number; i < claim->size; i++)
        MUST(body[i] == pattern_at(number, i));
    int64_t limit = oracle_called(number, claim->id);
    current->calling = true;
    if (pf_worker_captures(worker) && once_in(2)) {
        output_write(&worker->output, number);
        oracle_wrote(number);
    }
    if (limit > 0 && once_in(3)) /* it ends in the moment in which it may no longer */
        sim_wait(NULL, now + limit);
    else
        be_busy();
    if (!calm && once_in(60))
        leave(3);
    current->calling = false;
    return number;
}

static void serve(pf_worker *worker, const pf_claim *claim)
{
    unsigned char result[RESULT_MOST];
    uint64_t number = call(worker, claim);
    size_t size = 8 + draw(once_in(8) ? RESULT_MOST - 8 : 60); /* most fit into the ring */
    int got;
    fill(result, size, number);
    while ((got = pf_worker_deliver(worker, number % 5 == 0 ? PF_ERROR : PF_OK, result, size)) >
           0) {
        if (worker->delivering == 1)
            oracle_waited_for_space();
        current->wants_room = true;
        if (pf_worker_wait_space(worker) < 0 && errno != EINTR)
            leave(0);
        current->wants_room = false;
    }
    if (got < 0) {
        MUST(errno == ECANCELED || errno == EPIPE);
        leave(0);
    }
    MUST(worker->seq == 0 && worker->delivering == 0);
}

void run_worker(void)
{
    pf_worker *worker = pf__worker_open(current->slot, current->generation, current->fds_given,
                                        current->parent->pid);
    if (worker == NULL)
        leave(71);
    be_busy(); /* the initializer */
    if (!calm && once_in(15)) {
        (void)pf_worker_failed(worker, "why", 3);
        leave(1);
    }
    int got = pf_worker_ready(worker);
    while (got >= 0) {
        pf_claim claim;
        current->up = true;
        got = pf_worker_claim(worker, &claim);
        if (got > 0)
            serve(worker, &claim);
        else if (got == 0 && (got = pf_worker_wait(worker)) < 0 && errno == EINTR)
            got = 0;
    }
    MUST(errno == ESHUTDOWN || errno == EPIPE);
    current->down = errno == ESHUTDOWN;
    current->down_since = now;
    if (once_in(10)) /* the destructor */
        sim_wait(NULL, now + (int64_t)draw(40000) * ms);
    leave(0);
}

/* ---- the application ----------------------------------------------------------------------- */

static bool renew(void)
{
    int fd = pf_pool_zygote_prepare(pool);
    MUST(fd >= 0);
    bool fails = !calm && once_in(4);
    pf_pool_zygote_started(pool, fails ? -1 : zygote_new(NULL, fd)->pid);
    return !fails;
}

/* A pool as any other, but for its ring: so small that it is full, and goes round. */
static void set_up(void)
{
    pf_options options = {.workers = 1 + (uint32_t)draw(SEATS),
                          .tasks_per_worker = once_in(3) ? 1 + (uint32_t)draw(5) : 0,
                          .age_per_worker = once_in(6) ? (int64_t)(5 + draw(200)) * ms : 0,
                          .memory_per_worker = once_in(4) ? MEMORY_MOST : 0,
                          .memory_limit = once_in(3) ? MEMORY_LIMIT : 0,
                          .jitter = (uint32_t)draw(500),
                          .term_grace = 20 * ms};
    options.capture_output = options.jitter % 4 == 0; /* drawn already: recorded seeds stay */
    options.ask_to_spawn = options.jitter % 8 == 1;
    spawns_wanted = spawns_permitted = 0;
    calm = true;
    pool = pf_pool_new(&options);
    const struct pf__recycling recycling = pool->sup.recycling;
    const uint32_t seats = pool->sup.seat_count;
    pf__ring_close(&pool->ring);
    MUST(pf__ring_create(&pool->ring, SLOTS, BODY_ROOM) == 0);
    pf__supervisor_init(&pool->sup, pool->slots, SLOTS, options.term_grace);
    pf__supervisor_seats(&pool->sup, pool->seats, seats);
    pool->sup.recycling = recycling;
    pool->sup.captures = options.capture_output != 0;
    pool->sup.asks = options.ask_to_spawn != 0;
    pool->sup.target = options.workers;
    pool->sup.now = now;
    guest = once_in(4);
    if (guest)
        (void)pf_pool_fd(pool);
    oracle_watch();
    calm = false;
    while (!renew())
        ;
}

static void submit(void)
{
    unsigned char body[BODY_MOST];
    size_t size =
        8 + draw(once_in(large) ? BODY_MOST - 8 : BODY_ROOM - sizeof(struct pf__body) - 7);
    pf_task_options options = {.tell = once_in(3),
                               .retries = once_in(4) ? (uint32_t)draw(3) : 0,
                               .soft_limit = once_in(4) ? (int64_t)(1 + draw(15)) * ms : 0,
                               .limit = once_in(3) ? (int64_t)(1 + draw(20)) * ms : 0,
                               .queue_limit = once_in(5) ? (int64_t)(1 + draw(20)) * ms : 0};
    uint64_t number = oracle_submit(&options);
    if (number == 0)
        return;
    fill(body, size, number);
    uint64_t id = pf_pool_submit(pool, body, size, &options, 1);
    MUST(id != 0);
    oracle_submitted(number, id);
    oracle_returned(0);
}

/* It takes its time for that, but for an end of all things. */
static void permit_spawn(bool must)
{
    if (spawns_wanted == 0 || !(must || once_in(2)))
        return;
    spawns_wanted--;
    spawns_permitted++;
    MUST(pf_pool_permit_spawn(pool) == 0);
    oracle_returned(0);
}

static void poll_pool(int64_t timeout)
{
    permit_spawn(calm || timeout < 0);
    pf_event events[8];
    int max = 1 + (int)draw(8);
    if (guest) { /* waits in a loop of its own, for the descriptor */
        sim_wait(poll_is_ready, timeout < 0 ? PF_NEVER : now + timeout);
        timeout = 0;
    }
    int count = pf_pool_poll(pool, events, max, timeout, pf_pool_rouses(pool));
    MUST(count >= 0 || errno == EINTR);
    for (int i = 0; i < count; i++) {
        oracle_event(&events[i]);
        spawns_wanted += events[i].type == PF_EVENT_SPAWN_WANTED;
        pf_event_clear(&events[i]);
    }
    if (count >= 0) {
        oracle_returned(count);
        oracle_polled();
    }
}

/* Without a zygote or workers it may take for ever. */
static bool can_go_on(void)
{
    return pool->sup.unfinished > 0 && pool->sup.can_spawn && pool->sup.target > 0;
}

static void seldom(void)
{
    pf_worker_info workers[SEATS * 2];
    pf_pool_info info;
    switch (draw(5)) {
    case 0:
    case 1:
        MUST(pf_pool_resize(pool, (uint32_t)draw(SEATS + 1)) == 0);
        oracle_returned(0);
        break;
    case 2:
        if (renew())
            oracle_returned(0);
        break;
    case 3:
        MUST(pf_pool_describe(pool, &info) == 0);
        break;
    default:
        MUST(pf_pool_list_workers(pool, workers, SEATS * 2) <= SEATS * 2);
        break;
    }
}

static void end_some_task(void)
{
    static const int signals[] = {SIGTERM, SIGKILL, SIGQUIT};
    uint64_t id = oracle_some_task();
    int signal = signals[draw(3)];
    if (once_in(2)) {
        (void)pf_pool_kill_task(pool, id, signal);
    } else {
        pid_t pid = pf_pool_find_task(pool, id);
        if (pid != 0)
            (void)pf_pool_kill_job(pool, pid, signal);
    }
}

static void cancel_some_task(void)
{
    uint64_t id = oracle_some_task();
    if (pf_pool_cancel(pool, id) == 1)
        oracle_cancelled(id);
}

static void act(void)
{
    switch (draw(16)) {
    case 0:
    case 1:
    case 2:
    case 3: /* more than the ring takes, now and then */
        for (uint64_t i = 1 + draw(once_in(4) ? 24 : 2); i > 0 && pool->sup.unfinished < 40; i--)
            submit();
        return;
    case 4:
    case 5:
        cancel_some_task();
        break;
    case 6:
        end_some_task();
        return; /* perhaps it did nothing but note claims, which the next poll is to act on */
    case 7:
        if (once_in(4))
            seldom();
        return;
    case 8:
    case 9:
    case 10:
        poll_pool(can_go_on() ? PF_FOREVER : 5 * ms);
        return;
    case 11:
    case 12:
        poll_pool((int64_t)draw(5000000));
        return;
    case 13: /* it has other things to do */
        sim_wait(NULL, now + (int64_t)draw(20) * ms);
        return;
    default:
        poll_pool(0);
        return;
    }
    oracle_returned(0);
}

/* In the midst of everything. */
static void terminate(void)
{
    for (uint64_t i = draw(8); i > 0; i--)
        submit();
    if (once_in(2))
        poll_pool((int64_t)draw(2000000));
    for (uint64_t i = draw(200); i > 0; i--)
        sim_step();
    terminated = true;
    MUST(pf_pool_terminate(pool, once_in(2) ? SIGKILL : SIGTERM, 20 * ms) == 0);
}

/* No accidents from then on, so that everything must come to an end. */
static void come_to_an_end(void)
{
    bool leave_tasks = once_in(3);
    if (leave_tasks && !once_in(3))
        terminate();
    calm = true;
    if (!leave_tasks && pool->sup.target == 0)
        MUST(pf_pool_resize(pool, 1) == 0);
    (void)pf_pool_retire(pool, leave_tasks);
    while (pool->sup.live > 0 || (pool->sup.unfinished > 0 && !leave_tasks)) {
        if (!pool->sup.can_spawn)
            (void)renew();
        poll_pool(PF_FOREVER);
    }
    terminated = true; /* of what nobody will do any more */
    (void)pf_pool_terminate(pool, SIGKILL, 0);
    while (pool->event_count > 0 || pool->sup.unfinished > 0)
        poll_pool(0);
}

void run_application(void)
{
    set_up();
    for (uint64_t i = draw(ACTIONS); i > 0; i--)
        act();
    come_to_an_end();
    oracle_end();
    pf_pool_free(pool);
    pool = NULL;
    kernel_check_empty();
}

/* Its memory is the application's, and goes with that; what it registered it registered here. */
void abandon_pool(void)
{
    if (pool != NULL)
        pf__pools_remove(pool);
    pool = NULL;
}
