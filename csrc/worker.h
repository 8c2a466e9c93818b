/* A worker's side: what pf_worker_* of prefork.h works on, and how the zygote makes one. */
#ifndef PF_WORKER_H
#define PF_WORKER_H

#include "channel.h"
#include "history.h"
#include "output.h"
#include "prefork.h"
#include "scoreboard.h"
#include "spin.h"

#include <signal.h>

struct pf_worker {
    struct pf__ring ring;
    struct pf__scoreboard board;
    struct pf__channel channel;
    struct pf__slot_history *history;
    uint32_t slot;
    uint64_t generation;
    uint64_t cursor; /* nothing before it will ever be READY again */
    uint64_t sleeps;
    struct pf__spin spin;
    int awaited;  /* somebody waited for the last result, and may now send another task */
    uint64_t seq; /* of the claim, 0 for none */
    uint64_t id;
    uint32_t flags;
    int64_t started;
    unsigned char *body; /* copy of the present claim's body */
    size_t body_room;
    int crash_log; /* a descriptor for the fault handler */
    struct pf__output output;
    int delivering;   /* the page is DONE, the result not yet out */
    int down;         /* it has said that it is about to end */
    uint64_t in_call; /* the sequence of the call we are in, 0 outside */
    int holds_signals;
    sigset_t unheld; /* the mask while we wait, and after */
};

/* What the application sends for every worker; the descriptors come beside it, in this order. The
 * last one only if output is captured: else there are PF_FD_OUTPUT of them. */
enum {
    PF_FD_TASKS,
    PF_FD_WORDS,
    PF_FD_BOARD,
    PF_FD_HISTORY,
    PF_FD_IN,
    PF_FD_OUT,
    PF_FD_CRASH,
    PF_FD_OUTPUT,
    PF_WORKER_FDS
};

/* In the newborn, signals blocked: dies with `zygote`, stores its pid, maps and closes. Takes over
 * the descriptors; that of the output may be -1. NULL with errno; the child must then `_exit`. */
pf_worker *pf__worker_open(uint32_t slot, uint64_t generation, const int fds[PF_WORKER_FDS],
                           pid_t zygote);
void pf__worker_close(pf_worker *worker);

/* In a newborn zygote, every signal blocked: ignores all that can be ignored, and keeps in
 * `ignored` what the application had ignored itself. */
void pf__signals_deafen(sigset_t *ignored);
/* In a newborn worker: what the application ignored is ignored, all else at its default. */
void pf__signals_restore(const sigset_t *ignored);

/* In a process that a task forked off a worker: it must not speak for the worker. */
int pf__worker_is_copy(void);
int pf__worker_refuses(void); /* -1 with errno ECHILD there, else 0 */

/* This process answers for its stacks with that page; and the answer, for a signal handler. */
void pf__worker_answers(const pf_worker *worker);
void pf__worker_answered(void);

int pf__worker_send(pf_worker *worker, uint16_t type, const void *data, size_t size);
/* The same, and it has left this process when that returns. */
int pf__worker_say(pf_worker *worker, uint16_t type, const void *data, size_t size);
/* Until a pipe is ready, or, `for_reading`, a frame is there. 0, or -1 with errno: EINTR, EPIPE. */
int pf__worker_wait_pipes(pf_worker *worker, int for_reading);

/* CAS READY to CLAIMED on the oldest task: 1, or 0 if there is none. */
int pf__worker_take_ready(pf_worker *worker);

#endif
