/* Lost wake-ups between processes: one task at a time, workers that fall asleep in between, and a
 * pool that does the same. Two seconds in which nobody does it, and nobody is about to, are one. */
#define _GNU_SOURCE
#include "side.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

enum { WORKERS = 2, RUN_MS = 2000 };
static const int64_t stall = 2000000000;

static struct pf__task task;
static int done;

static void on_settled(struct pf__task *it)
{
    CHECK(it == &task && it->verdict == PF_VERDICT_OK);
    done = 1;
}

static struct pf__task *find(uint64_t id)
{
    return id == task.id ? &task : NULL;
}

static void serve(pf_worker *worker)
{
    pf_claim claim;
    for (;;) {
        int got = pf_worker_claim(worker, &claim);
        if (got < 0)
            _exit(3);
        if (got == 0) {
            if (pf_worker_wait(worker) < 0 && errno != EINTR)
                _exit(errno == EPIPE ? 0 : 4);
            continue;
        }
        while ((got = pf_worker_deliver(worker, PF_OK, claim.body, claim.size)) > 0)
            pf_worker_wait_space(worker);
        if (got < 0)
            _exit(5);
    }
}

static void drain_all(struct side *side)
{
    for (uint32_t i = 0; i < side->count; i++) {
        struct pf__frame frame;
        unsigned char *body;
        size_t budget = SIZE_MAX;
        side_drain(side, &side->workers[i], find);
        while (pf__channel_receive(&side->workers[i].channel, &frame, &body, &budget) > 0)
            free(body);
    }
}

/* Arm, look again, sleep: as pf__pool_wait does. */
static void sleep_on_bells(struct side *side)
{
    struct pollfd fds[WORKERS];
    int pending = 0;
    atomic_store_explicit(&side->ring.pool->armed, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    for (uint32_t i = 0; i < side->count; i++) {
        pending |= pf__results_pending(&side->workers[i].board);
        fds[i] = (struct pollfd){.fd = side->workers[i].channel.in, .events = POLLIN};
    }
    if (!pending)
        CHECK(poll(fds, side->count, 3000) >= 0 || errno == EINTR);
    atomic_store_explicit(&side->ring.pool->armed, 0, memory_order_relaxed);
}

/* Of a process that has work and no processor. */
static int is_runnable(pid_t pid)
{
    char path[64], state = '?';
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    CHECK(file != NULL && fscanf(file, "%*d (%*[^)]) %c", &state) == 1);
    fclose(file);
    return state == 'R';
}

static void stress(int armed)
{
    static struct side side;
    pid_t pids[WORKERS];
    side_open(&side, WORKERS, 4096);
    side.settled = on_settled;
    side_obey(&side);
    for (uint32_t i = 0; i < WORKERS; i++) {
        pids[i] = fork();
        CHECK(pids[i] >= 0);
        if (pids[i] == 0)
            serve(side_worker_in_child(&side, i));
    }
    for (uint32_t i = 0; i < WORKERS; i++) {
        close(side.workers[i].ends[0]);
        close(side.workers[i].ends[1]);
    }
    const char *longer = getenv("PF_WAKEUPS_MS");
    int64_t run = (longer != NULL ? atol(longer) : RUN_MS) * (int64_t)1000000;
    int64_t start = pf__now(), now = start, slowest = 0;
    long rounds = 0, overdue = 0;
    srandom(5);
    while (now - start < run) {
        /* Now and then before they sleep, now and then while they are about to. */
        for (volatile long spin = random() % 400; spin > 0; spin--)
            ;
        memset(&task, 0, sizeof task);
        task.id = (uint64_t)++rounds;
        done = 0;
        side.sup.now = now;
        pf__supervisor_submit(&side.sup, &task);
        side_obey(&side);
        side_call_sleepers(&side);
        int64_t since = pf__now();
        for (int tries = 0; !done; tries++) {
            drain_all(&side);
            side_obey(&side);
            if (done)
                break;
            /* No second chance by time: it is just what must not be needed. */
            if (armed)
                sleep_on_bells(&side);
            else if (tries % 64 == 63)
                sched_yield();
            now = pf__now();
            CHECK(now - since < stall || is_runnable(pids[0]) || is_runnable(pids[1]));
        }
        now = pf__now();
        slowest = now - since > slowest ? now - since : slowest;
        overdue += now - since > 1900000 && armed;
    }
    uint64_t sleeps = 0;
    for (uint32_t i = 0; i < WORKERS; i++)
        sleeps += side.workers[i].board.segment->asleep; /* of those who sleep now */
    printf("%ld rounds, %llu sleeps, slowest %lld us, %ld over 1.9 ms\n", rounds,
           (unsigned long long)sleeps, (long long)slowest / 1000, overdue);
    fflush(stdout);
    for (uint32_t i = 0; i < WORKERS; i++) {
        kill(pids[i], SIGKILL);
        CHECK(waitpid(pids[i], NULL, 0) == pids[i]);
    }
    side_close(&side);
}

TEST_SLOW(a_pool_that_spins, 30)
{
    stress(0);
}

TEST_SLOW(a_pool_that_sleeps_too, 30)
{
    stress(1);
}
