/* What the tests of a whole pool share: a pool through prefork.h alone, with workers that do what
 * the first byte of a task says, and an application that waits for what it is told. */
#ifndef PF_POOLTEST_H
#define PF_POOLTEST_H

#include "prefork.h"
#include "runner.h"
#include "worker.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const int64_t ms = 1000000;
static const int64_t patience = (int64_t)15000 * 1000000;

static inline int64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* ---- the workers --------------------------------------------------------------------------- */

static inline pid_t plain_fork(void *context)
{
    (void)context;
    return fork();
}

/* A quarter of a result ring, with what stands before it there. */
static const unsigned char big[(1 << 14) - 32];

static inline uint32_t work(const unsigned char *body, size_t size, const void **result,
                            size_t *result_size)
{
    sigset_t set;
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
    case 'k': /* careless: what it blocks stays blocked */
        return sigfillset(&set) < 0 || sigprocmask(SIG_SETMASK, &set, NULL) < 0 ? PF_ERROR : PF_OK;
    case 'h': /* whether it hears the pool, and nothing else */
        sigprocmask(SIG_SETMASK, NULL, &set);
        return !sigismember(&set, PF_SOFT_SIGNAL) && !sigismember(&set, PF_STACKS_SIGNAL) &&
                       sigismember(&set, SIGTERM) && sigismember(&set, SIGUSR1)
                   ? PF_OK
                   : PF_ERROR;
    default:
        return PF_OK;
    }
}

/* The end of a worker whose pipe goes on: bells, until nobody has the other end any more. */
static inline void flood(pf_worker *worker)
{
    if (fork() > 0)
        _exit(0);
    struct pf__frame bell;
    pf__frame_init(&bell, PF_FRAME_BELL, 0, 0);
    signal(SIGPIPE, SIG_DFL);
    for (;;) {
        struct pollfd out = {.fd = worker->channel.out, .events = POLLOUT};
        (void)poll(&out, 1, -1);
        (void)!write(out.fd, &bell, sizeof bell);
    }
}

static inline void serve(pf_worker *worker)
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
        if (claim.size > 0 && *(const char *)claim.body == 'f')
            flood(worker);
        const void *result;
        size_t size;
        pf_worker_call_begins(worker);
        uint32_t outcome = work(claim.body, claim.size, &result, &size);
        pf_worker_call_ends(worker);
        while ((got = pf_worker_deliver(worker, outcome, result, size)) > 0)
            if (pf_worker_wait_space(worker) < 0 && errno != EINTR)
                _exit(1);
        if (got < 0)
            _exit(1);
    }
}

/* The first, or one in place of the one it has. */
static inline void give_zygote(pf_pool *pool)
{
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
}

static inline pf_pool *make_pool_of(const pf_options *options)
{
    pf_pool *pool = pf_pool_new(options);
    CHECK(pool != NULL);
    give_zygote(pool);
    return pool;
}

static inline pf_pool *make_pool(uint32_t workers, uint32_t tasks_per_worker)
{
    return make_pool_of(&(pf_options){
        .workers = workers, .tasks_per_worker = tasks_per_worker, .term_grace = 5000 * ms});
}

/* ---- the application ----------------------------------------------------------------------- */

enum { TELL = 1 };

static inline uint64_t submit(pf_pool *pool, const char *text, uint32_t flags, int64_t limit)
{
    pf_task_options options = {.tell = flags & TELL, .limit = limit};
    uint64_t id = pf_pool_submit(pool, text, strlen(text), &options, 1);
    CHECK(id != 0);
    return id;
}

/* The next event of that type (and task, if not 0), all others dropped. What it owns is there until
 * the next one is awaited. */
static inline pf_event await(pf_pool *pool, pf_event_type type, uint64_t task)
{
    static pf_event event;
    int64_t until = clock_ns() + patience;
    for (;;) {
        pf_event_clear(&event);
        int got = pf_pool_poll(pool, &event, 1, until - clock_ns(), pf_pool_rouses(pool));
        CHECK(got >= 0);
        CHECK(clock_ns() < until);
        if (got == 0)
            continue;
        if (event.type == type && (task == 0 || event.task == task))
            return event;
    }
}

static inline void expect(pf_pool *pool, uint64_t task, pf_outcome outcome)
{
    pf_event event = await(pool, PF_EVENT_DONE, task);
    CHECK_EQ(event.outcome, outcome);
}

/* Until the only worker holds that task, without taking anything from it. Nothing else drives the
 * pool meanwhile, so it must know its worker before (await_alive): a worker can be at work before
 * the zygote's word of its birth has been read, and is not called until then. */
static inline pid_t await_claim(pf_pool *pool, uint64_t task)
{
    for (int64_t until = clock_ns() + patience;;) {
        pf_worker_info worker = {0};
        CHECK(pf_pool_list_workers(pool, &worker, 1) >= 0);
        if (worker.task == task)
            return worker.pid;
        CHECK(clock_ns() < until);
    }
}

static inline void await_sleep(pid_t pid)
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

static inline void await_alive(pf_pool *pool, uint32_t count)
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

#endif
