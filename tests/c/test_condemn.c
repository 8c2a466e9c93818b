/* Pool and worker decide by compare-and-swap who comes first: a call begins or is revoked, a result
 * is delivered or its task condemned. Tried between any two instructions around that point. */
#define _GNU_SOURCE
#include "side.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

enum { AROUND = 200 }; /* so many instructions before and after the one that decides */
enum { BEGAN = 10, NOT_BEGUN, DELIVERED, REFUSED };

static void on_settled(struct pf__task *task)
{
    (void)task;
}

static void work(pf_worker *worker, int deliver)
{
    pf_claim claim;
    int got;
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    if (!deliver)
        raise(SIGSTOP); /* from here on it is stepped */
    got = pf_worker_claim(worker, &claim);
    if (!deliver)
        _exit(got == 1 ? BEGAN : NOT_BEGUN);
    raise(SIGSTOP);
    got = pf_worker_deliver(worker, PF_OK, claim.body, claim.size);
    _exit(got == 0 ? DELIVERED : got < 0 && errno == ECANCELED ? REFUSED : 1);
}

/* As pf_pool_cancel does. */
static int revoke_claim(struct side *side)
{
    uint64_t loading = pf__word(1, 0, PF_LOADING);
    return pf__ring_cancel(&side->ring, 1) ||
           atomic_compare_exchange_strong(&side->workers[0].board.segment->page, &loading,
                                          pf__word(1, 0, PF_REVOKED));
}

/* As a limit and pf_pool_kill_task do. */
static int condemn(struct side *side)
{
    uint64_t running = pf__word(1, 0, PF_RUNNING);
    return atomic_compare_exchange_strong(&side->workers[0].board.segment->page, &running,
                                          pf__word(1, 0, PF_CONDEMNED));
}

/* One life, with the deed done after `k` steps: whether it succeeded, or -1 if it came too late. */
static int life(long k, int deliver)
{
    static struct side side;
    struct pf__task task = {.id = 1};
    int status;
    side_open(&side, 1, 4096);
    side.settled = on_settled;
    pf__supervisor_submit(&side.sup, &task);
    side_obey(&side);
    atomic_store(&side.ring.pool->armed, 1);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0)
        work(side_worker_in_child(&side, 0), deliver);
    CHECK(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
    for (long i = 0; i < k && WIFSTOPPED(status); i++) {
        CHECK_EQ(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
        CHECK(waitpid(pid, &status, 0) == pid);
    }
    int done = WIFSTOPPED(status) ? deliver ? condemn(&side) : revoke_claim(&side) : -1;
    if (done >= 0) {
        CHECK_EQ(ptrace(PTRACE_CONT, pid, NULL, NULL), 0);
        CHECK(waitpid(pid, &status, 0) == pid);
    }
    CHECK(WIFEXITED(status));
    if (deliver)
        CHECK_EQ(WEXITSTATUS(status), done == 1 ? REFUSED : DELIVERED);
    else
        CHECK_EQ(WEXITSTATUS(status), done == 1 ? NOT_BEGUN : BEGAN);
    CHECK_EQ(pf__results_pending(&side.workers[0].board), deliver && done != 1);
    close(side.workers[0].ends[0]);
    close(side.workers[0].ends[1]);
    side_close(&side);
    return done;
}

static void try_everywhere(int deliver)
{
    long last = 0, high = 1 << 16, counts[2] = {0};
    while (last < high) { /* where "in time" becomes "too late", by halving */
        long middle = (last + high) / 2;
        if (life(middle, deliver) == 1)
            last = middle + 1;
        else
            high = middle;
    }
    for (long k = last > AROUND ? last - AROUND : 0; k < last + AROUND; k++) {
        int done = life(k, deliver);
        if (done >= 0)
            counts[done]++;
    }
    printf("in time up to step %ld; tried %ld before and %ld after\n", last, counts[1], counts[0]);
    fflush(stdout);
    CHECK(counts[0] > 0 && counts[1] > 0);
}

TEST_SLOW(a_call_begins_or_is_revoked, 60)
{
    try_everywhere(0);
    _exit(0); /* no leak check here: it wants to ptrace, too */
}

TEST_SLOW(a_result_is_delivered_or_its_task_condemned, 60)
{
    try_everywhere(1);
    _exit(0);
}
