/* A worker's side of limits: which call it is in, whether its time is up, how much more it wants.
 */
#define _GNU_SOURCE
#include "platform.h"
#include "worker.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>

static struct pf__segment *answering; /* of this process, for a signal handler */

void pf__worker_answers(const pf_worker *worker)
{
    answering = worker->board.segment;
}

void pf__worker_answered(void)
{
    if (answering == NULL || pf__worker_is_copy())
        return;
    uint64_t page = atomic_load_explicit(&answering->page, memory_order_relaxed);
    atomic_store_explicit(&answering->answered, pf__word_seq(page), memory_order_release);
}

/* An earlier task may have blocked them in this thread, with others that are its own business. One
 * that comes out of that wait is late: it finds no soft limit of the call that begins. */
static void hear_the_pool(void)
{
    sigset_t ours;
    sigemptyset(&ours);
    sigaddset(&ours, PF_SOFT_SIGNAL);
    sigaddset(&ours, PF_STACKS_SIGNAL);
    pthread_sigmask(SIG_UNBLOCK, &ours, NULL);
}

int64_t pf_worker_clock(void)
{
    return pf__now_coarse();
}

int pf_worker_call_begins(pf_worker *worker)
{
    hear_the_pool();
    worker->in_call = worker->seq;
    /* The signal that came since the claim has told nobody. */
    int up = atomic_load_explicit(&worker->board.segment->softened, memory_order_acquire) ==
             worker->in_call;
    if (up)
        (void)raise(PF_SOFT_SIGNAL);
    return up;
}

void pf_worker_call_ends(pf_worker *worker)
{
    worker->in_call = 0;
}

int64_t pf_worker_take_soft_limit(pf_worker *worker)
{
    struct pf__segment *segment = worker->board.segment;
    uint64_t expected = worker->in_call;
    if (pf__worker_is_copy() || worker->in_call == 0 ||
        !atomic_compare_exchange_strong(&segment->softened, &expected, 0))
        return 0;
    return atomic_load_explicit(&segment->soft_limit, memory_order_relaxed);
}

int pf_worker_extend(pf_worker *worker, int64_t ns)
{
    if (pf__worker_is_copy() || worker->in_call == 0) {
        errno = ESRCH;
        return -1;
    }
    _Atomic int64_t *extended = &worker->board.segment->extended;
    int64_t before = atomic_load(extended);
    while (!atomic_compare_exchange_weak(
        extended, &before, ns < PF_MOST_EXTENDED - before ? before + ns : PF_MOST_EXTENDED))
        ;
    return 0;
}
