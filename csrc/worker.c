/* A worker's life and its pipes. What it does in between is in worker_tasks.c. */
#define _GNU_SOURCE
#include "worker.h"

#include "platform.h"
#include "process.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Set in a process that a task forked off a worker: it must not speak for the worker. */
static int forked_copy;
static int watching_forks;

static void mark_copy(void)
{
    forked_copy = 1;
}

int pf__worker_is_copy(void)
{
    return forked_copy;
}

int pf__worker_refuses(void)
{
    if (!forked_copy)
        return 0;
    errno = ECHILD;
    return -1;
}

/* The application may have none at 1 or 2, and then what it sent may be there. */
static int capture_output(pf_worker *worker, int fds[PF_WORKER_FDS])
{
    worker->output.fd = -1;
    if (fds[PF_FD_OUTPUT] < 0)
        return 0;
    if (pf__output_make_way(fds, PF_WORKER_FDS) < 0)
        return -1;
    return pf__output_open(&worker->output, fds[PF_FD_OUTPUT]);
}

pf_worker *pf__worker_open(uint32_t slot, uint64_t generation, const int given[PF_WORKER_FDS],
                           pid_t zygote)
{
    int fds[PF_WORKER_FDS];
    pf_worker *worker = calloc(1, sizeof *worker);
    memcpy(fds, given, sizeof fds);
    if (worker == NULL || pf__process_die_with(zygote) < 0 || capture_output(worker, fds) < 0)
        goto fail;
    worker->slot = slot;
    worker->generation = generation;
    worker->cursor = 1;
    worker->crash_log = fds[PF_FD_CRASH];
    worker->board.fd = worker->ring.pool_fd = worker->ring.words_fd = -1;
    if (pf__scoreboard_open(&worker->board, fds[PF_FD_BOARD]) < 0)
        goto fail;
    worker->history = pf__history_open(fds[PF_FD_HISTORY], slot);
    close(fds[PF_FD_HISTORY]);
    atomic_store(&worker->board.segment->pid, getpid());
    pf__history_born(worker->history, getpid());
    if (pf__ring_open(&worker->ring, fds[PF_FD_TASKS], fds[PF_FD_WORDS]) < 0 ||
        pf__channel_open(&worker->channel, fds[PF_FD_IN], fds[PF_FD_OUT], UINT64_MAX) < 0)
        goto fail;
    if (!watching_forks && pthread_atfork(NULL, NULL, mark_copy) != 0)
        goto fail;
    watching_forks = 1;
    forked_copy = 0; /* a task of a worker may start a pool: this one is nobody's copy */
    pf__process_name("prefork-worker");
    pf__process_prefer_oom();
    pf__worker_answers(worker);
    return worker;
fail:
    free(worker); /* the process ends now, and everything it has open with it */
    return NULL;
}

void pf__worker_close(pf_worker *worker)
{
    pf__channel_close(&worker->channel);
    pf__scoreboard_close(&worker->board);
    pf__history_leave(worker->history);
    pf__ring_close(&worker->ring);
    if (worker->crash_log >= 0)
        close(worker->crash_log);
    if (worker->output.fd >= 0)
        close(worker->output.fd);
    free(worker->body);
    free(worker);
}

uint32_t pf_worker_slot(const pf_worker *worker)
{
    return worker->slot;
}

int pf_worker_crash_log(const pf_worker *worker)
{
    return worker->crash_log;
}

int pf_worker_captures(const pf_worker *worker)
{
    return worker->output.fd >= 0;
}

uint64_t pf_worker_generation(const pf_worker *worker)
{
    return worker->generation;
}

int pf__worker_send(pf_worker *worker, uint16_t type, const void *data, size_t size)
{
    struct pf__frame frame;
    pf__frame_init(&frame, type, worker->seq, size);
    return pf__channel_send(&worker->channel, &frame, data, NULL, NULL);
}

int pf__worker_wait_pipes(pf_worker *worker, int for_reading)
{
    struct pollfd fds[2] = {{.fd = worker->channel.in, .events = for_reading ? POLLIN : 0},
                            {.fd = worker->channel.out}};
    if (pf__channel_wants_write(&worker->channel))
        fds[1].events = POLLOUT;
    if ((worker->holds_signals ? pf__poll_unmasked(fds, 2, -1, &worker->unheld)
                               : poll(fds, 2, -1)) < 0)
        return -1;
    if (fds[1].revents & (POLLERR | POLLHUP | POLLNVAL) || fds[0].revents & POLLNVAL) {
        errno = EPIPE;
        return -1;
    }
    return pf__channel_flush(&worker->channel) < 0 ? -1 : 0;
}

void pf_worker_hold_signals(pf_worker *worker)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &worker->unheld);
    worker->holds_signals = 1;
}

void pf_worker_release_signals(pf_worker *worker)
{
    worker->holds_signals = 0;
    pthread_sigmask(SIG_SETMASK, &worker->unheld, NULL);
}

int pf__worker_say(pf_worker *worker, uint16_t type, const void *data, size_t size)
{
    if (pf__worker_send(worker, type, data, size) < 0)
        return -1;
    while (pf__channel_wants_write(&worker->channel))
        if (pf__worker_wait_pipes(worker, 0) < 0 && errno != EINTR)
            return -1;
    return 0;
}

int pf_worker_failed(pf_worker *worker, const void *data, size_t size)
{
    if (pf__worker_refuses() < 0)
        return -1;
    pf__history_note(worker->history, PF_NOTE_FAILED, 0);
    return pf__worker_say(worker, PF_FRAME_FAILED, data, size);
}
