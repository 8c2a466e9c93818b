/* A worker killed after every single instruction of its way from claim to sleep, and what the
 * supervisor then makes of its words. */
#define _GNU_SOURCE
#include "side.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

enum { BUDGET_S = 40 };

static struct pf__task tasks[2];
static int settled[2];
static _Atomic uint64_t *began; /* shared with the child: 1 + how often user code ran */

static void on_settled(struct pf__task *task)
{
    settled[task - tasks]++;
}

static struct pf__task *find(uint64_t id)
{
    return id >= 1 && id <= 2 ? &tasks[id - 1] : NULL;
}

static void work(pf_worker *worker)
{
    pf_claim claim;
    raise(SIGSTOP); /* the window opens */
    if (pf_worker_claim(worker, &claim) == 1) {
        atomic_store_explicit(began, claim.id, memory_order_relaxed); /* user code */
        while (pf_worker_deliver(worker, PF_OK, claim.body, claim.size) > 0)
            pf_worker_wait_space(worker);
    }
    pf_worker_wait(worker); /* the second task is READY, so it will not stay */
    _exit(0);
}

enum verdict { UNTOUCHED, PUT_BACK, LOST, RESULT, VERDICTS };

/* One life of `k` instructions. -1: it ended by itself before. */
static int life(long k)
{
    static struct side side;
    int status;
    memset(tasks, 0, sizeof tasks);
    memset(settled, 0, sizeof settled);
    atomic_store(began, 0);
    side_open(&side, 1, 4096);
    side.settled = on_settled;
    for (int i = 0; i < 2; i++) {
        tasks[i].id = (uint64_t)i + 1;
        pf__supervisor_submit(&side.sup, &tasks[i]);
    }
    side_obey(&side);
    atomic_store(&side.ring.pool->armed, 1); /* the longest way: it rings, too */
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        pf_worker *worker = side_worker_in_child(&side, 0);
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        work(worker);
    }
    CHECK(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
    long i = 0;
    for (; i < k && !WIFEXITED(status); i++) {
        CHECK_EQ(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
        CHECK(waitpid(pid, &status, 0) == pid);
    }
    int ended = WIFEXITED(status);
    if (!ended) {
        kill(pid, SIGKILL);
        CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
    }
    int has_begun = atomic_load(began) == 1;
    uint64_t ready = pf__word(1, PF_NO_WORKER, PF_READY);
    int touched = atomic_load(pf__ring_word(&side.ring, 1)) != ready;

    /* As bury() of pool_children.c. */
    struct side_worker *worker = &side.workers[0];
    side.sup.can_spawn = false;
    side_drain(&side, worker, find);
    side_note_claims(&side);
    for (struct pf__task *task = worker->seat.held.first; task != NULL; task = task->next)
        pf__ring_release(&side.ring, task->seq, 0);
    uint64_t page = atomic_load(&worker->board.segment->page);
    pf__supervisor_page_seen(&side.sup, &worker->seat, page, 0);
    pf__supervisor_exited(&side.sup, &worker->seat, page);
    side_obey(&side);

    CHECK(settled[0] <= 1 && settled[1] == 0 && tasks[1].state == PF_TASK_PUBLISHED);
    int verdict;
    if (settled[0]) {
        verdict = tasks[0].verdict == PF_VERDICT_OK ? RESULT : LOST;
        CHECK(verdict == LOST ? tasks[0].verdict == PF_VERDICT_LOST : has_begun);
        CHECK_EQ(tasks[0].put_back, 0);
        CHECK_EQ(pf__word_state(page) == PF_STARTING || touched, 1);
    } else if (tasks[0].put_back == 1) { /* published again, in a slot of its own */
        verdict = PUT_BACK;
        CHECK(!has_begun && touched && tasks[0].state == PF_TASK_PUBLISHED && tasks[0].seq == 3);
    } else {
        verdict = UNTOUCHED;
        CHECK(!has_begun && !touched && tasks[0].seq == 1);
    }
    close(worker->ends[0]);
    close(worker->ends[1]);
    side_close(&side);
    return ended ? -1 : verdict;
}

TEST_SLOW(killed_after_every_instruction, 60)
{
    long counts[VERDICTS] = {0}, k = 0, lives = 0;
    int before = UNTOUCHED, got;
    long length = 0;
    began = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(began != MAP_FAILED);
    int64_t start = pf__now();
    for (long low = 0, high = 1 << 20; low < high;) { /* where it ends, by halving */
        long middle = (low + high) / 2;
        if (life(middle) < 0)
            high = middle;
        else
            low = middle + 1;
        length = low;
    }
    /* One life costs what its steps cost: how many fit is known from the last one. */
    int64_t one = pf__now();
    life(length);
    one = pf__now() - one;
    long stride = (long)(one / 2 * length / ((int64_t)BUDGET_S * 1000000000)) + 1;
    srandom((unsigned)start);
    for (k = 0; k < length; k += stride == 1 ? 1 : 1 + random() % (2 * stride - 1)) {
        got = life(k);
        if (got < 0)
            continue;         /* a signal mask call more or less */
        CHECK(got >= before); /* later never means less far */
        before = got;
        counts[got]++;
        lives++;
    }
    printf("%ld instructions, %ld lives: untouched %ld, put back %ld, lost %ld, result %ld\n",
           length, lives, counts[UNTOUCHED], counts[PUT_BACK], counts[LOST], counts[RESULT]);
    fflush(stdout);
    CHECK(counts[UNTOUCHED] > 0 && counts[RESULT] > 0);
    CHECK(stride > 20 || (counts[PUT_BACK] > 0 && counts[LOST] > 0));
    _exit(0); /* no leak check here: it wants to ptrace, too */
}
