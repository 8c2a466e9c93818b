/* The pool through prefork.h alone, with workers that do what the first byte of a task says. */
#define _GNU_SOURCE
#include "prefork.h"
#include "runner.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const int64_t ms = 1000000;
static const int64_t patience = (int64_t)15000 * 1000000;

static int64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* ---- the workers --------------------------------------------------------------------------- */

static pid_t plain_fork(void *context)
{
    (void)context;
    return fork();
}

/* A quarter of a result ring, with what stands before it there. */
static const unsigned char big[(1 << 14) - 32];

static uint32_t work(const unsigned char *body, size_t size, const void **result,
                     size_t *result_size)
{
    *result = body;
    *result_size = size;
    switch (size > 0 ? body[0] : 'e') {
    case 's': /* sleep for ever, or until a signal ends us */
        for (;;)
            pause();
    case 'm': /* for so many ms */
        usleep((unsigned)body[1] * 1000);
        return PF_OK;
    case 'x':
        _exit(body[1]);
    case 'b':
        *result = big;
        *result_size = sizeof big;
        return PF_OK;
    case 'r':
        return PF_ERROR;
    default:
        return PF_OK;
    }
}

static void serve(pf_worker *worker)
{
    pf_claim claim;
    for (;;) {
        int got = pf_worker_claim(worker, &claim);
        if (got < 0)
            _exit(errno == ESHUTDOWN ? 0 : 1);
        if (got == 0) {
            if (pf_worker_wait(worker) < 0 && errno != EINTR)
                _exit(1);
            continue;
        }
        const void *result;
        size_t size;
        uint32_t outcome = work(claim.body, claim.size, &result, &size);
        while ((got = pf_worker_deliver(worker, outcome, result, size)) > 0)
            if (pf_worker_wait_space(worker) < 0 && errno != EINTR)
                _exit(1);
        if (got < 0)
            _exit(1);
    }
}

static pf_pool *make_pool(uint32_t workers, uint32_t tasks_per_worker)
{
    pf_options options = {
        .workers = workers, .tasks_per_worker = tasks_per_worker, .term_grace = 5000 * ms};
    pf_pool *pool = pf_pool_new(&options);
    CHECK(pool != NULL);
    pid_t application = getpid();
    int fd = pf_pool_zygote_prepare(pool);
    CHECK(fd >= 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        pf_worker *worker;
        if (pf_zygote_run(fd, application, plain_fork, NULL, &worker) == 0)
            _exit(0);
        pf_worker_unblock(worker);
        if (pf_worker_ready(worker) < 0)
            _exit(1);
        serve(worker);
    }
    CHECK_EQ(pf_pool_zygote_started(pool, pid), 0);
    return pool;
}

/* ---- the application ----------------------------------------------------------------------- */

static uint64_t submit(pf_pool *pool, const char *text, uint32_t flags, int64_t limit)
{
    uint64_t id = pf_pool_submit(pool, text, strlen(text), flags, limit, 1);
    CHECK(id != 0);
    return id;
}

/* The next event of that type (and task, if not 0), all others dropped. */
static pf_event await(pf_pool *pool, pf_event_type type, uint64_t task)
{
    int64_t until = clock_ns() + patience;
    for (;;) {
        pf_event event;
        int got = pf_pool_poll(pool, &event, 1, until - clock_ns(), pf_pool_rouses(pool));
        CHECK(got >= 0);
        CHECK(clock_ns() < until);
        if (got == 0)
            continue;
        if (event.type == type && (task == 0 || event.task == task))
            return event;
        pf_event_clear(&event);
    }
}

static void expect(pf_pool *pool, uint64_t task, pf_outcome outcome)
{
    pf_event event = await(pool, PF_EVENT_DONE, task);
    CHECK_EQ(event.outcome, outcome);
    pf_event_clear(&event);
}

/* Until the only worker holds that task, without taking anything from it. */
static pid_t await_claim(pf_pool *pool, uint64_t task)
{
    for (int64_t until = clock_ns() + patience;;) {
        pf_worker_info worker = {0};
        CHECK(pf_pool_list_workers(pool, &worker, 1) >= 0);
        if (worker.task == task)
            return worker.pid;
        CHECK(clock_ns() < until);
    }
}

static void await_sleep(pid_t pid)
{
    char path[64], state = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    for (int64_t until = clock_ns() + patience; state != 'S';) {
        FILE *stat = fopen(path, "re");
        CHECK(stat != NULL);
        if (fscanf(stat, "%*d %*[^)]) %c", &state) != 1)
            state = 0;
        fclose(stat);
        CHECK(clock_ns() < until);
    }
}

static void await_alive(pf_pool *pool, uint32_t count)
{
    int64_t until = clock_ns() + patience;
    for (;;) {
        pf_event event;
        pf_pool_info info;
        if (pf_pool_poll(pool, &event, 1, 5 * ms, pf_pool_rouses(pool)) > 0)
            pf_event_clear(&event);
        CHECK_EQ(pf_pool_describe(pool, &info), 0);
        if (info.alive == count)
            return;
        CHECK(clock_ns() < until);
    }
}

TEST(bytes_come_back)
{
    pf_pool *pool = make_pool(2, 0);
    uint64_t id = submit(pool, "echo this", 0, 0);
    pf_event event = await(pool, PF_EVENT_DONE, id);
    CHECK_EQ(event.outcome, PF_OK);
    CHECK(event.size == 9 && memcmp(event.data, "echo this", 9) == 0);
    CHECK(event.at > 0 && event.pid > 0);
    pf_event_clear(&event);
    expect(pool, submit(pool, "raise", 0, 0), PF_ERROR);
    expect(pool, submit(pool, "", 0, 0), PF_OK);
    pf_pool_free(pool);
}

TEST(many_tasks_each_settled_once)
{
    enum { COUNT = 20000 };
    static unsigned char settled[COUNT];
    static uint64_t ids[COUNT];
    pf_pool *pool = make_pool(3, 0);
    for (int i = 0; i < COUNT; i++) {
        int body[2] = {'e', i}; /* little-endian: the first byte is the command */
        ids[i] = pf_pool_submit(pool, body, sizeof body, 0, 0, 1);
        CHECK(ids[i] != 0);
    }
    for (int left = COUNT; left > 0;) {
        pf_event events[64];
        int got = pf_pool_poll(pool, events, 64, patience, pf_pool_rouses(pool));
        CHECK(got > 0);
        for (int i = 0; i < got; i++) {
            if (events[i].type == PF_EVENT_DONE) {
                int body[2];
                CHECK(events[i].outcome == PF_OK && events[i].size == sizeof body);
                memcpy(body, events[i].data, sizeof body);
                CHECK_EQ(ids[body[1]], events[i].task);
                CHECK_EQ(settled[body[1]]++, 0);
                left--;
            }
            pf_event_clear(&events[i]);
        }
    }
    pf_pool_free(pool);
}

TEST(large_bodies_both_ways)
{
    enum { SIZE = 4 << 20 };
    pf_pool *pool = make_pool(2, 0);
    unsigned char *large = malloc(SIZE);
    for (int i = 0; i < SIZE; i++)
        large[i] = (unsigned char)(i * 31 + (i >> 8));
    large[0] = 'e';
    uint64_t ids[4];
    for (int i = 0; i < 4; i++)
        ids[i] = pf_pool_submit(pool, large, SIZE, 0, 0, 1);
    for (int i = 0; i < 4; i++) {
        pf_event event = await(pool, PF_EVENT_DONE, 0);
        int known = 0;
        for (int j = 0; j < 4; j++)
            known += ids[j] == event.task;
        CHECK_EQ(known, 1);
        CHECK_EQ(event.outcome, PF_OK);
        CHECK_EQ(event.size, SIZE);
        CHECK(memcmp(event.data, large, SIZE) == 0);
        pf_event_clear(&event);
    }
    free(large);
    pf_pool_free(pool);
}

TEST(accepted_comes_before_done)
{
    pf_pool *pool = make_pool(1, 0);
    for (int i = 0; i < 200; i++) {
        uint64_t id = submit(pool, "e", PF_TELL, 0);
        pf_event events[8];
        int told = 0, done = 0;
        while (!done) {
            int got = pf_pool_poll(pool, events, 8, patience, pf_pool_rouses(pool));
            CHECK(got > 0);
            for (int j = 0; j < got; j++) {
                if (events[j].task == id && events[j].type == PF_EVENT_ACCEPTED) {
                    CHECK(!done && events[j].pid > 0 && events[j].at > 0);
                    told++;
                }
                done += events[j].task == id && events[j].type == PF_EVENT_DONE;
                pf_event_clear(&events[j]);
            }
        }
        CHECK_EQ(told, 1);
    }
    pf_pool_free(pool);
}

TEST(cancel_before_and_after_the_beginning)
{
    pf_pool *pool = make_pool(1, 0);
    uint64_t first = submit(pool, "sleep", PF_TELL, 0), second = submit(pool, "e", 0, 0);
    pf_event event = await(pool, PF_EVENT_ACCEPTED, first);
    CHECK_EQ(pf_pool_find_task(pool, first), event.pid);
    CHECK_EQ(pf_pool_cancel(pool, first), 0);
    CHECK_EQ(pf_pool_cancel(pool, second), 1);
    expect(pool, second, PF_CANCELLED);
    CHECK_EQ(pf_pool_cancel(pool, second), 0);
    CHECK_EQ(pf_pool_kill_task(pool, second, SIGKILL), 0);
    CHECK_EQ(pf_pool_kill_task(pool, first, SIGUSR1), -1);
    CHECK_EQ(errno, EINVAL);
    CHECK_EQ(pf_pool_kill_task(pool, first, SIGTERM), 1);
    expect(pool, first, PF_TERMINATED);
    event = await(pool, PF_EVENT_WORKER_EXITED, 0);
    CHECK_EQ(event.outcome, PF_EXIT_KILLED);
    CHECK_EQ(event.status, SIGTERM);
    expect(pool, submit(pool, "e", 0, 0), PF_OK);
    pf_pool_free(pool);
}

/* A body that comes by pipe can be revoked while it is on its way; its worker must go on. */
TEST(cancel_while_a_large_body_is_on_its_way)
{
    enum { SIZE = 1 << 20 };
    pf_pool *pool = make_pool(1, 0);
    char *large = calloc(1, SIZE);
    await_alive(pool, 1);
    for (int i = 0; i < 300; i++) {
        uint64_t id = pf_pool_submit(pool, large, SIZE, 0, 0, 1);
        struct timespec spin = {0, i * 1000};
        nanosleep(&spin, NULL);
        int done = pf_pool_cancel(pool, id);
        expect(pool, id, done ? PF_CANCELLED : PF_OK);
        expect(pool, submit(pool, "e", 0, 0), PF_OK); /* the worker is alive and claims */
    }
    free(large);
    pf_pool_free(pool);
}

/* Claimed, but its call has not begun: it waits for a body that nobody sends, for nobody polls. */
TEST(cancel_after_the_claim_and_before_the_call)
{
    enum { SIZE = 1 << 20 };
    pf_pool *pool = make_pool(1, 0);
    char *large = calloc(1, SIZE);
    await_alive(pool, 1);
    expect(pool, submit(pool, "e", 0, 0), PF_OK);
    for (int i = 0; i < 20; i++) {
        uint64_t id = pf_pool_submit(pool, large, SIZE, 0, 0, 1);
        await_sleep(await_claim(pool, id));
        CHECK_EQ(pf_pool_cancel(pool, id), 1);
        expect(pool, id, PF_CANCELLED);
        expect(pool, submit(pool, "e", 0, 0), PF_OK);
    }
    free(large);
    pf_pool_free(pool);
}

TEST(a_worker_whose_results_find_no_room_goes_on_when_there_is_some)
{
    enum { COUNT = 12 };
    uint64_t ids[COUNT];
    pf_pool *pool = make_pool(1, 0);
    expect(pool, submit(pool, "e", 0, 0), PF_OK);
    for (int i = 0; i < COUNT; i++)
        ids[i] = submit(pool, "big", 0, 0);
    await_sleep(await_claim(pool, ids[4])); /* the ring holds four */
    for (int i = 0; i < COUNT; i++) {
        pf_event event = await(pool, PF_EVENT_DONE, 0);
        CHECK(event.task == ids[i] && event.outcome == PF_OK && event.size == sizeof big);
        pf_event_clear(&event);
    }
    pf_pool_free(pool);
}

TEST(a_limit_ends_the_task_and_no_other)
{
    pf_pool *pool = make_pool(1, 0);
    uint64_t first = submit(pool, "sleep", 0, 100 * ms), second = submit(pool, "e", 0, 100 * ms);
    pf_event event = await(pool, PF_EVENT_DONE, 0);
    CHECK_EQ(event.task, first);
    CHECK_EQ(event.outcome, PF_TIMED_OUT);
    CHECK(clock_ns() - event.at >= 100 * ms);
    expect(pool, second, PF_OK);
    pf_pool_free(pool);
}

TEST(a_worker_killed_while_running_loses_its_task_only)
{
    pf_pool *pool = make_pool(2, 0);
    for (int i = 0; i < 5; i++) {
        uint64_t id = submit(pool, "sleep", PF_TELL, 0);
        pf_event event = await(pool, PF_EVENT_ACCEPTED, id);
        CHECK_EQ(kill(event.pid, SIGKILL), 0);
        event = await(pool, PF_EVENT_DONE, id);
        CHECK_EQ(event.outcome, PF_LOST);
        CHECK(WIFSIGNALED(event.status) && WTERMSIG(event.status) == SIGKILL);
        expect(pool, submit(pool, "e", 0, 0), PF_OK);
    }
    uint64_t id = submit(pool, "x\x2a", 0, 0);
    pf_event event = await(pool, PF_EVENT_DONE, id);
    CHECK_EQ(event.outcome, PF_LOST);
    CHECK_EQ(WEXITSTATUS(event.status), 42);
    pf_pool_free(pool);
}

TEST(workers_killed_while_idle_are_replaced)
{
    pf_pool *pool = make_pool(2, 0);
    await_alive(pool, 2);
    expect(pool, submit(pool, "e", 0, 0), PF_OK);
    for (int i = 0; i < 10; i++) {
        pf_worker_info workers[4];
        int count = pf_pool_list_workers(pool, workers, 4);
        for (int j = 0; j < count && j < 4; j++)
            if (workers[j].pid > 0)
                CHECK_EQ(kill(workers[j].pid, SIGKILL), 0);
        expect(pool, submit(pool, "e", 0, 0), PF_OK);
    }
    await_alive(pool, 2);
    pf_pool_free(pool);
}

TEST(workers_end_after_their_number_of_tasks)
{
    pf_pool *pool = make_pool(2, 5);
    for (int i = 0; i < 100; i++)
        expect(pool, submit(pool, "e", 0, 0), PF_OK);
    pf_pool_info info;
    CHECK_EQ(pf_pool_describe(pool, &info), 0);
    CHECK(info.succeeded == 100 && info.lost == 0);
    CHECK(info.spawned >= 18);
    pf_pool_free(pool);
}

TEST(the_standby_takes_over)
{
    pf_pool *pool = make_pool(2, 0);
    for (int i = 0; i < 3; i++) {
        pf_pool_info info;
        do { /* a standby is forked first of all, but reports in its own time */
            await_alive(pool, 2);
            CHECK_EQ(pf_pool_describe(pool, &info), 0);
        } while (info.standby == 0);
        pid_t standby = info.standby;
        uint64_t id = submit(pool, "sleep", PF_TELL, 0);
        pf_event event = await(pool, PF_EVENT_ACCEPTED, id);
        CHECK_EQ(kill(info.zygote, SIGKILL), 0);
        event = await(pool, PF_EVENT_ZYGOTE_LOST, 0);
        CHECK_EQ(event.status, standby);
        event = await(pool, PF_EVENT_DONE, id);
        CHECK_EQ(event.outcome, PF_LOST);
        CHECK_EQ(event.zygote_lost, 1);
        expect(pool, submit(pool, "e", 0, 0), PF_OK);
    }
    pf_pool_free(pool);
}

TEST(resize_both_ways)
{
    pf_pool *pool = make_pool(1, 0);
    static const uint32_t sizes[] = {4, 2, 6, 0, 3};
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(pf_pool_resize(pool, sizes[i]), 0);
        await_alive(pool, sizes[i]);
        if (sizes[i] > 0)
            expect(pool, submit(pool, "e", 0, 0), PF_OK);
    }
    CHECK_EQ(pf_pool_resize(pool, 4096), -1);
    pf_pool_free(pool);
}

TEST(retire_finishes_what_was_submitted)
{
    pf_pool *pool = make_pool(2, 0);
    for (int i = 0; i < 50; i++)
        submit(pool, "m\x02", 0, 0);
    CHECK_EQ(pf_pool_retire(pool, 0), 0);
    CHECK_EQ(pf_pool_submit(pool, "e", 1, 0, 0, 1), 0);
    CHECK_EQ(errno, ESHUTDOWN);
    for (int i = 0; i < 50; i++)
        expect(pool, 0, PF_OK);
    await_alive(pool, 0);
    pf_pool_free(pool);
}

TEST(terminate_settles_everything_as_terminated)
{
    pf_pool *pool = make_pool(2, 0);
    uint64_t running = submit(pool, "sleep", PF_TELL, 0);
    (void)await(pool, PF_EVENT_ACCEPTED, running);
    running = submit(pool, "sleep", PF_TELL, 0);
    (void)await(pool, PF_EVENT_ACCEPTED, running);
    for (int i = 0; i < 20; i++)
        submit(pool, "e", 0, 0);
    CHECK_EQ(pf_pool_terminate(pool, SIGTERM, 3000 * ms), 0);
    for (int i = 0; i < 22; i++)
        expect(pool, 0, PF_TERMINATED);
    await_alive(pool, 0);
    pf_pool_free(pool);
}

TEST(a_guest_is_readable_when_there_is_something)
{
    pf_pool *pool = make_pool(2, 0);
    struct pollfd fd = {.fd = pf_pool_fd(pool), .events = POLLIN};
    CHECK(fd.fd >= 0);
    for (int i = 0; i < 500; i++) {
        uint64_t id = submit(pool, "e", 0, 0);
        for (int done = 0; !done;) {
            pf_event event;
            CHECK(poll(&fd, 1, (int)(patience / ms)) == 1);
            int got = pf_pool_poll(pool, &event, 1, 0, pf_pool_rouses(pool));
            CHECK(got >= 0);
            if (got > 0) {
                done = event.type == PF_EVENT_DONE && event.task == id;
                pf_event_clear(&event);
            }
        }
    }
    pf_pool_free(pool);
}

/* Whoever falls asleep while the other publishes, worker or guest, must see or hear it. A task that
 * is delayed has been rescued by something else that happened. */
TEST_SLOW(a_guest_and_its_workers_miss_no_call, 60)
{
    pf_pool *pool = make_pool(2, 0);
    struct pollfd fd = {.fd = pf_pool_fd(pool), .events = POLLIN};
    const int64_t end = clock_ns() + 8000 * ms;
    pf_pool_info info;
    long rounds = 0;
    do { /* nothing but tasks shall wake us from now on */
        await_alive(pool, 2);
        CHECK_EQ(pf_pool_describe(pool, &info), 0);
    } while (info.standby == 0);
    for (int64_t begun; (begun = clock_ns()) < end; rounds++) {
        uint64_t id = submit(pool, "e", 0, 0);
        for (int done = 0; !done;) {
            pf_event event;
            CHECK(poll(&fd, 1, (int)(patience / ms)) == 1);
            int got = pf_pool_poll(pool, &event, 1, 0, 0);
            CHECK(got >= 0);
            if (got > 0) {
                done = event.type == PF_EVENT_DONE && event.task == id;
                pf_event_clear(&event);
            }
        }
    }
    printf("%ld rounds\n", rounds);
    fflush(stdout);
    pf_pool_free(pool);
}

TEST(a_forked_copy_of_the_application_is_dead)
{
    pf_pool *pool = make_pool(1, 0);
    expect(pool, submit(pool, "e", 0, 0), PF_OK);
    pid_t pid = fork();
    if (pid == 0) {
        pf_event event;
        pf_pool_info info;
        CHECK(pf_pool_submit(pool, "e", 1, 0, 0, 1) == 0 && errno == ECHILD);
        CHECK(pf_pool_poll(pool, &event, 1, 0, 0) == -1 && errno == ECHILD);
        CHECK(pf_pool_describe(pool, &info) == -1 && errno == ECHILD);
        CHECK(pf_pool_fd(pool) == -1 && errno == ECHILD);
        pf_pool_free(pool);
        _exit(0);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    expect(pool, submit(pool, "e", 0, 0), PF_OK);
    pf_pool_free(pool);
}

TEST(a_pool_without_zygote_says_so)
{
    pf_options options = {.workers = 1};
    pf_pool *pool = pf_pool_new(&options);
    CHECK(pf_pool_submit(pool, "e", 1, 0, 0, 1) == 0 && errno == ENOTCONN);
    CHECK(pf_pool_zygote_prepare(pool) >= 0);
    CHECK_EQ(pf_pool_zygote_started(pool, -1), 0);
    CHECK(pf_pool_submit(pool, "e", 1, 0, 0, 1) == 0 && errno == ENOTCONN);
    pf_pool_free(pool);
}
