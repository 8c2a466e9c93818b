/* Tasks of a pool, submitted, cancelled, limited, and awaited by a host or as a guest. */
#define _GNU_SOURCE
#include "platform.h"
#include "pool.h"
#include "pooltest.h"
#include "prefork.h"
#include "runner.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

TEST(bytes_come_back)
{
    pf_pool *pool = make_pool(2, 0);
    uint64_t id = submit(pool, "echo this", 0, 0);
    pf_event event = await(pool, PF_EVENT_DONE, id);
    CHECK_EQ(event.outcome, PF_OK);
    CHECK(event.size == 9 && memcmp(event.data, "echo this", 9) == 0);
    CHECK(event.at > 0 && event.pid > 0);
    expect(pool, submit(pool, "raise", 0, 0), PF_ERROR);
    expect(pool, submit(pool, "", 0, 0), PF_OK);
    pf_pool_free(pool);
}

TEST(a_task_hears_the_pool_whatever_the_one_before_has_blocked)
{
    pf_pool *pool = make_pool(1, 0);
    expect(pool, submit(pool, "hear", 0, 0), PF_ERROR); /* nothing is blocked yet */
    expect(pool, submit(pool, "keep", 0, 0), PF_OK);
    expect(pool, submit(pool, "hear", 0, 0), PF_OK);
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
        ids[i] = pf_pool_submit(pool, body, sizeof body, NULL, 1);
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
        ids[i] = pf_pool_submit(pool, large, SIZE, NULL, 1);
    for (int i = 0; i < 4; i++) {
        pf_event event = await(pool, PF_EVENT_DONE, 0);
        int known = 0;
        for (int j = 0; j < 4; j++)
            known += ids[j] == event.task;
        CHECK_EQ(known, 1);
        CHECK_EQ(event.outcome, PF_OK);
        CHECK_EQ(event.size, SIZE);
        CHECK(memcmp(event.data, large, SIZE) == 0);
    }
    free(large);
    pf_pool_free(pool);
}

TEST(accepted_comes_before_done_if_at_all)
{
    pf_pool *pool = make_pool(1, 0);
    for (int i = 0; i < 200; i++) {
        uint64_t id = submit(pool, "e", TELL, 0);
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
                if (events[j].task == id && events[j].type == PF_EVENT_DONE) {
                    CHECK(events[j].pid > 0 && events[j].at > 0);
                    done++;
                }
                pf_event_clear(&events[j]);
            }
        }
        CHECK(told <= 1 && done == 1);
    }
    pf_pool_free(pool);
}

TEST(cancel_before_and_after_the_beginning)
{
    pf_pool *pool = make_pool(1, 0);
    uint64_t first = submit(pool, "sleep", TELL, 0), second = submit(pool, "e", 0, 0);
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
TEST(interrupt_tells_the_running_task_and_no_other)
{
    pf_pool *pool = make_pool(1, 0);
    uint64_t running = submit(pool, "sleep", TELL, 0), waiting = submit(pool, "e", 0, 0);
    pid_t pid = await(pool, PF_EVENT_ACCEPTED, running).pid;
    CHECK_EQ(pf_pool_interrupt_task(pool, waiting), 0);
    CHECK_EQ(pf_pool_interrupt_task(pool, running), 1);
    pf_event event = await(pool, PF_EVENT_DONE, running); /* these workers have no handler */
    CHECK_EQ(event.outcome, PF_LOST);
    CHECK(event.pid == pid && WIFSIGNALED(event.status));
    CHECK_EQ(WTERMSIG(event.status), PF_SOFT_SIGNAL);
    CHECK_EQ(pf_pool_interrupt_task(pool, running), 0);
    expect(pool, waiting, PF_OK);
    pf_pool_free(pool);
}

TEST(cancel_while_a_large_body_is_on_its_way)
{
    enum { SIZE = 1 << 20 };
    pf_pool *pool = make_pool(1, 0);
    char *large = calloc(1, SIZE);
    await_alive(pool, 1);
    for (int i = 0; i < 300; i++) {
        uint64_t id = pf_pool_submit(pool, large, SIZE, NULL, 1);
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
        uint64_t id = pf_pool_submit(pool, large, SIZE, NULL, 1);
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
    await_alive(pool, 1);
    expect(pool, submit(pool, "e", 0, 0), PF_OK);
    for (int i = 0; i < COUNT; i++)
        ids[i] = submit(pool, "big", 0, 0);
    await_sleep(await_claim(pool, ids[4])); /* the ring holds four */
    for (int i = 0; i < COUNT; i++) {
        pf_event event = await(pool, PF_EVENT_DONE, 0);
        CHECK(event.task == ids[i] && event.outcome == PF_OK && event.size == sizeof big);
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
    const char *longer = getenv("PF_WAKEUPS_MS");
    const int64_t end = clock_ns() + (longer != NULL ? atol(longer) : 2000) * ms;
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

/* However much it delivers: else its pipe would fill with bells, and hold it up. */
TEST(a_worker_rings_once_for_all_that_it_delivers_while_nobody_looks)
{
    enum { COUNT = 300 };
    pf_pool *pool = make_pool(1, 0);
    await_alive(pool, 1);
    expect(pool, submit(pool, "e", 0, 0), PF_OK);
    CHECK(pf_pool_fd(pool) >= 0); /* armed, from now on */
    uint64_t id = 0;
    for (int i = 0; i < COUNT; i++)
        id = submit(pool, "e", 0, 0);
    await_sleep(await_claim(pool, id));
    const struct pf__child *child = (const struct pf__child *)pool->seats[0];
    CHECK(pf__channel_pending(&child->channel) <= sizeof(struct pf__frame));
    for (int i = 0; i < COUNT; i++) {
        pf_event event = await(pool, PF_EVENT_DONE, 0);
        CHECK_EQ(event.outcome, PF_OK);
    }
    pf_pool_free(pool);
}

TEST(a_dead_workers_pipe_is_not_read_for_ever)
{
    pf_pool *pool = make_pool(1, 0);
    for (int i = 0; i < 5; i++) /* a grandchild keeps its pipe, and writes sound frames into it */
        expect(pool, submit(pool, "f", 0, 0), PF_LOST);
    expect(pool, submit(pool, "e", 0, 0), PF_OK);
    pf_pool_free(pool);
}

/* Two threads that wait in the pool, of which the second rouses the first as it falls asleep, and
 * goes to sleep itself: while the driver, who has the role, is about to give it up to them. */
struct waiters {
    pf_pool *pool;
    pthread_barrier_t both;
    int over;
};

static void wait_until_roused(const struct waiters *waiters, uint64_t rouses)
{
    int64_t began = pf__now();
    while (pf_pool_rouses(waiters->pool) == rouses) {
        pf_event event;
        if (pf_pool_poll(waiters->pool, &event, 1, patience, rouses) > 0)
            pf_event_clear(&event);
        CHECK(pf__now() - began < patience / 2);
    }
}

static void *second(void *argument)
{
    struct waiters *waiters = argument;
    for (;;) {
        pthread_barrier_wait(&waiters->both);
        if (waiters->over)
            return NULL;
        uint64_t rouses = pf_pool_rouses(waiters->pool) + 1;
        for (volatile long spin = random() % 4000; spin > 0; spin--)
            ;
        pf_pool_rouse(waiters->pool);
        wait_until_roused(waiters, rouses);
    }
}

TEST_SLOW(a_rouse_reaches_who_was_there_before_it, 60)
{
    struct waiters waiters = {.pool = make_pool(1, 0)};
    pthread_t other;
    CHECK_EQ(pf_pool_drive_in_background(waiters.pool), 0);
    CHECK_EQ(pthread_barrier_init(&waiters.both, NULL, 2), 0);
    CHECK_EQ(pthread_create(&other, NULL, second, &waiters), 0);
    for (int64_t until = pf__now() + 2000000000; pf__now() < until;) {
        nanosleep(&(struct timespec){0, 1300000}, NULL); /* so that the driver has the role */
        uint64_t rouses = pf_pool_rouses(waiters.pool);
        pthread_barrier_wait(&waiters.both);
        wait_until_roused(&waiters, rouses);
        pf_pool_rouse(waiters.pool);
    }
    waiters.over = 1;
    pthread_barrier_wait(&waiters.both);
    CHECK_EQ(pthread_join(other, NULL), 0);
    pf_pool_free(waiters.pool);
}
