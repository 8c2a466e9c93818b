/* The way of a task from submit to event, for callgrind to count: an application and its workers in
 * one process, one after the other.
 *
 *   harness WORKERS QUEUED BATCH ROUNDS busy|asleep|guest
 *   harness       says what it was built by
 *
 * In each round QUEUED tasks are submitted and then done, BATCH of them between two polls. What is
 * counted are the three functions of the first part. At the end it prints how many bytes of memory
 * a queued task has beyond its body. It is the real pool; but its zygote and its workers are played
 * by this process, each with mappings and pipes of its own.
 *
 *   busy     results have come before the application polls
 *   asleep   they come while it sleeps in its poll, and it is rung for
 *   guest    as busy, but it has a loop: it never sleeps in the poll, and is rung for all the same
 *
 * Time is told by this file, and the kernel's clock never gets there: what depends on time happens
 * at the same instruction in every run. */
#define _GNU_SOURCE
#include "control.h"
#include "prefork.h"
#include "worker.h"

#include <errno.h>
#include <fcntl.h>
#include <gnu/libc-version.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

enum { MOST_WORKERS = 256, EVENTS = 256, BODY = 64, RESULT = 16, TICK = 250 /* ns */ };

static pf_pool *pool;
static pf_worker *workers[MOST_WORKERS];
static unsigned worker_count, next_worker;
static unsigned long batch, done_in_sleep;
static int sleeps, is_guest;

#define MUST(held)                                                                                 \
    do {                                                                                           \
        if (!(held)) {                                                                             \
            fprintf(stderr, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__, #held, errno);           \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

/* ---- what is counted ----------------------------------------------------------------------- */

#define COUNTED __attribute__((noinline)) void
COUNTED application_submits(unsigned long count);
COUNTED workers_work(unsigned long count);
COUNTED application_polls(unsigned long count);

COUNTED application_submits(unsigned long count)
{
    static const unsigned char body[BODY] = "a call";
    for (unsigned long i = 0; i < count; i++)
        MUST(pf_pool_submit(pool, body, sizeof body, NULL, 1) != 0);
}

/* Each in its turn, as long as there are tasks. */
COUNTED workers_work(unsigned long count)
{
    static const unsigned char result[RESULT] = "its result";
    pf_claim claim;
    while (count-- > 0) {
        pf_worker *worker = workers[next_worker++ % worker_count];
        if (pf_worker_claim(worker, &claim) == 0)
            return;
        MUST(claim.size == BODY);
        pf_worker_call_begins(worker);
        pf_worker_call_ends(worker);
        MUST(pf_worker_deliver(worker, PF_OK, result, sizeof result) == 0);
    }
}

COUNTED application_polls(unsigned long count)
{
    static pf_event events[EVENTS];
    for (unsigned long taken = 0; taken < count;) {
        int got =
            pf_pool_poll(pool, events, EVENTS, is_guest ? 0 : PF_FOREVER, pf_pool_rouses(pool));
        MUST(got > 0);
        for (int i = 0; i < got; i++) {
            MUST(events[i].type == PF_EVENT_DONE && events[i].outcome == PF_OK);
            MUST(events[i].size == RESULT);
            pf_event_clear(&events[i]);
        }
        taken += (unsigned long)got;
    }
}

/* ---- what happens beside ------------------------------------------------------------------- */

int clock_gettime(clockid_t clock, struct timespec *time)
{
    static int64_t now = (int64_t)1 << 60;
    (void)clock;
    now += TICK;
    *time = (struct timespec){now / 1000000000, now % 1000000000};
    return 0;
}

/* The application sleeps, and so the workers have their turn. */
int epoll_wait(int epoll, struct epoll_event *events, int max, int timeout)
{
    if (sleeps && timeout != 0 && done_in_sleep > 0) {
        workers_work(done_in_sleep);
        done_in_sleep = 0;
    }
    return (int)syscall(SYS_epoll_pwait, epoll, events, max, 0, NULL, 8);
}

static void play_zygote(int control)
{
    struct pf__message request;
    int fds[PF_CONTROL_FDS], count;
    while ((count = pf__control_receive(control, &request, fds)) >= 0) {
        if (request.type != PF_MESSAGE_SPAWN)
            continue; /* the standby, which is never needed */
        MUST(count == PF_FD_OUTPUT && request.slot < worker_count);
        fds[PF_FD_OUTPUT] = -1;
        pf_worker *worker = pf__worker_open(request.slot, request.generation, fds, getppid());
        MUST(worker != NULL && pf_worker_ready(worker) == 0);
        workers[request.slot] = worker;
        struct pf__message answer = {.type = PF_MESSAGE_SPAWNED,
                                     .slot = request.slot,
                                     .generation = request.generation,
                                     .pid = getpid()};
        MUST(pf__control_send(control, &answer, NULL, 0) == 0);
    }
    MUST(errno == EAGAIN);
}

static void start(void)
{
    pool = pf_pool_new(&(pf_options){.workers = worker_count, .term_grace = 1000000000});
    MUST(pool != NULL);
    if (is_guest)
        MUST(pf_pool_fd(pool) >= 0);
    int control = dup(pf_pool_zygote_prepare(pool));
    MUST(control >= 0 && fcntl(control, F_SETFL, O_NONBLOCK) == 0);
    MUST(pf_pool_zygote_started(pool, getpid()) == 0);
    for (unsigned up = 0; up < worker_count;) {
        pf_event events[EVENTS];
        play_zygote(control);
        int got = pf_pool_poll(pool, events, EVENTS, 0, pf_pool_rouses(pool));
        MUST(got >= 0);
        for (int i = 0; i < got; i++)
            up += events[i].type == PF_EVENT_WORKER_UP;
    }
}

#ifdef __clang__
#define COMPILER "clang-" __clang_version__
#else
#define COMPILER "gcc-" __VERSION__
#endif

/* What else decides how many instructions there are; of the compiler the first number does. */
static int say_what_was_built(void)
{
    struct utsname system;
    MUST(uname(&system) == 0);
    printf("%.*s %s glibc-%s\n", (int)strcspn(COMPILER, "."), COMPILER, system.machine,
           gnu_get_libc_version());
    return 0;
}

static size_t in_use(void)
{
    struct mallinfo2 memory = mallinfo2();
    return memory.uordblks + memory.hblkhd;
}

int main(int argc, char **argv)
{
    if (argc == 1)
        return say_what_was_built();
    MUST(argc == 6);
    worker_count = (unsigned)atoi(argv[1]);
    unsigned long queued = strtoul(argv[2], NULL, 10), rounds = strtoul(argv[4], NULL, 10);
    batch = strtoul(argv[3], NULL, 10);
    sleeps = strcmp(argv[5], "asleep") == 0;
    is_guest = strcmp(argv[5], "guest") == 0;
    MUST(worker_count > 0 && worker_count <= MOST_WORKERS && batch > 0 && queued % batch == 0);
    start();
    size_t most = 0, before = in_use();
    for (; rounds > 0; rounds--) {
        application_submits(queued);
        most = in_use();
        for (unsigned long left = queued; left > 0; left -= batch) {
            if (sleeps)
                done_in_sleep = batch;
            else
                workers_work(batch);
            application_polls(batch);
        }
    }
    pf_pool_info info;
    MUST(pf_pool_describe(pool, &info) == 0);
    MUST(info.succeeded > 0 && info.succeeded == info.submitted);
    printf("%.1f\n", (double)(most - before) / (double)queued - BODY);
    fflush(stdout);
    _exit(0); /* who kills this pool's workers and zygote kills us */
}
