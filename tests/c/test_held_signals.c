/* A signal that comes when a worker has looked for the last time before it waits, and does not wait
 * yet: it ends the wait at once, not at the next task. */
#define _GNU_SOURCE
#include "side.h"

#include <errno.h>
#include <signal.h>

static struct side side;
static volatile sig_atomic_t heard;

static void on_signal(int number)
{
    (void)number;
    heard++;
}

static pf_worker *open_idle_worker(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &action, NULL);
    side_open(&side, 1, 4096);
    side_obey(&side);
    return side_worker_in_thread(&side, 0);
}

static void close_worker(pf_worker *worker)
{
    pf__channel_close(&worker->channel);
    free(worker->body);
    free(worker);
    side_close(&side);
}

static int is_held(int number)
{
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    return sigismember(&mask, number);
}

/* Without a wait that lets it in this never returns: there is nothing else to end it. */
static void expect_its_end(pf_worker *worker, int (*wait)(pf_worker *))
{
    pf_worker_hold_signals(worker);
    CHECK_EQ(raise(SIGUSR1), 0);
    CHECK_EQ(heard, 0); /* what has been looked at stays as it was seen */
    CHECK(wait(worker) == -1 && errno == EINTR);
    CHECK_EQ(heard, 1);
    CHECK(is_held(SIGUSR1));
    pf_worker_release_signals(worker);
    CHECK(!is_held(SIGUSR1));
    heard = 0;
}

TEST(a_held_signal_ends_the_wait_for_a_task)
{
    pf_worker *worker = open_idle_worker();
    expect_its_end(worker, pf_worker_wait);
    CHECK_EQ(side_nap(&side.workers[0]), 0); /* and nobody calls a worker that is awake */
    expect_its_end(worker, pf_worker_wait);
    close_worker(worker);
}

TEST(a_held_signal_ends_the_wait_for_the_rest_of_a_task)
{
    pf_worker *worker = open_idle_worker();
    worker->seq = 1; /* claimed, and its body is on its way */
    expect_its_end(worker, pf_worker_wait);
    worker->seq = 0;
    close_worker(worker);
}

TEST(a_held_signal_ends_the_wait_for_space)
{
    static const unsigned char large[900];
    pf_worker *worker = open_idle_worker();
    struct pf__record record = {.seq = 1, .id = 1, .size = sizeof large};
    while (pf__results_put(&worker->board, &record, large))
        ;
    expect_its_end(worker, pf_worker_wait_space);
    close_worker(worker);
}

TEST(a_signal_that_the_worker_had_blocked_ends_no_wait)
{
    pf_worker *worker = open_idle_worker();
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &blocked, NULL);
    pf_worker_hold_signals(worker);
    raise(SIGUSR1);
    side_bell(&side.workers[0]);
    CHECK_EQ(pf_worker_wait(worker), 0);
    pf_worker_release_signals(worker);
    CHECK_EQ(heard, 0);
    CHECK(is_held(SIGUSR1));
    close_worker(worker);
}
