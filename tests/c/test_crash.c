/* A worker killed at every instant of its way from claim to sleep that the pool could tell from
 * another, and what the supervisor then makes of its words.
 *
 * The worker is stepped by the instruction. Most instructions change nothing that it shares, and
 * one who dies after such a one leaves what he left before it: so he is killed after each that
 * does, and after some of the others, drawn at random, to see that they are indeed alike. */
#define _GNU_SOURCE
#include "side.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

enum { DRAWN = 60, SHARED_MAX = 1 << 14 };
static const int64_t PATIENCE = 120000000000; /* ns */

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

/* What the pool can see. The bytes of a result are not among it before the tail says so. */
static size_t look(const struct side *side, unsigned char *seen)
{
    const struct side_worker *worker = &side->workers[0];
    size_t size = offsetof(struct pf__segment, results);
    memcpy(seen, (const void *)worker->board.segment, size);
    memcpy(seen + size, (const void *)side->ring.words, side->ring.words_size);
    size += side->ring.words_size;
    memcpy(seen + size, (const void *)began, sizeof *began);
    size += sizeof *began;
    int in_pipe = 0;
    CHECK_EQ(ioctl(worker->channel.in, FIONREAD, &in_pipe), 0);
    memcpy(seen + size, &in_pipe, sizeof in_pipe);
    CHECK(size + sizeof in_pipe <= SHARED_MAX);
    return size + sizeof in_pipe;
}

enum verdict { UNTOUCHED, PUT_BACK, LOST, RESULT, VERDICTS };

struct life {
    long steps;   /* instructions until the end */
    long changes; /* how many of them changed what is shared */
    int verdict;  /* -1: it ended by itself before */
};

/* One life, until so many steps, or changes, are done. */
static struct life live(long steps, long changes)
{
    static struct side side;
    static unsigned char seen[2][SHARED_MAX];
    struct life life = {0};
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
    size_t size = look(&side, seen[0]);
    while (life.steps < steps && life.changes < changes) {
        CHECK_EQ(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
        CHECK(waitpid(pid, &status, 0) == pid);
        if (WIFEXITED(status))
            break;
        life.steps++;
        look(&side, seen[1]);
        if (memcmp(seen[0], seen[1], size) != 0) {
            life.changes++;
            memcpy(seen[0], seen[1], size);
        }
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
    pf__ring_release(&side.ring, 0);
    uint64_t page = atomic_load(&worker->board.segment->page);
    pf__supervisor_page_seen(&side.sup, &worker->seat, page, 0, 0);
    pf__supervisor_exited(&side.sup, &worker->seat, page);
    side_obey(&side);

    CHECK(settled[0] <= 1 && settled[1] == 0 && tasks[1].state == PF_TASK_PUBLISHED);
    if (settled[0]) {
        life.verdict = tasks[0].verdict == PF_VERDICT_OK ? RESULT : LOST;
        CHECK(life.verdict == LOST ? tasks[0].verdict == PF_VERDICT_LOST : has_begun);
        CHECK_EQ(tasks[0].put_back, 0);
        CHECK_EQ(pf__word_state(page) == PF_STARTING || touched, 1);
    } else if (tasks[0].put_back == 1) { /* published again, in a slot of its own */
        life.verdict = PUT_BACK;
        CHECK(!has_begun && touched && tasks[0].state == PF_TASK_PUBLISHED && tasks[0].seq == 3);
    } else {
        life.verdict = UNTOUCHED;
        CHECK(!has_begun && !touched && tasks[0].seq == 1);
    }
    close(worker->ends[0]);
    close(worker->ends[1]);
    side_close(&side);
    if (ended)
        life.verdict = -1;
    return life;
}

TEST_SLOW(killed_at_every_instant, 400)
{
    enum { MANY = 1 << 20, STATES = 256 };
    int verdicts[STATES];
    long counts[VERDICTS] = {0}, states = 0;
    struct life life;
    began = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(began != MAP_FAILED);
    for (; (life = live(MANY, states)).verdict >= 0; states++) {
        CHECK(states < STATES);
        CHECK(states == 0 || life.verdict >= verdicts[states - 1]); /* later is never less far */
        verdicts[states] = life.verdict;
        counts[life.verdict]++;
    }
    long length = life.steps;
    const char *drawn = getenv("PF_CRASH_DRAWN");
    srandom((unsigned)pf__now());
    const long wanted = drawn != NULL ? atol(drawn) : DRAWN;
    const int64_t until = pf__now() + PATIENCE; /* where to step is slow, fewer must do */
    long done = 0;
    for (; done < wanted && (done < DRAWN || pf__now() < until); done++) {
        life = live(random() % length, MANY);
        if (life.verdict >= 0) /* else it had a little less to do this time */
            CHECK(life.changes < states && life.verdict == verdicts[life.changes]);
    }
    printf("%ld of %ld drawn\n", done, wanted);
    printf("%ld instructions, %ld states: untouched %ld, put back %ld, lost %ld, result %ld\n",
           length, states, counts[UNTOUCHED], counts[PUT_BACK], counts[LOST], counts[RESULT]);
    fflush(stdout);
    for (int verdict = 0; verdict < VERDICTS; verdict++)
        CHECK(counts[verdict] > 0);
    _exit(0); /* no leak check here: it wants to ptrace, too */
}
