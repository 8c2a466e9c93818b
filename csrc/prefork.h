/* prefork: a pool of forked worker processes. Calls in, events out, never callbacks.
 *
 * Three kinds of process. The application holds a pf_pool and submits tasks to it; a zygote, a
 * small process forked once, forks every worker and reaps it; a worker claims tasks out of shared
 * memory, one at a time. The core knows neither Python nor what a task means: a task is bytes, and
 * so is its result.
 *
 * Conventions. Functions return 0, a count or a descriptor, or -1 with errno; those that return a
 * pointer return NULL with errno. Times are CLOCK_MONOTONIC nanoseconds. A pf_pool may be used
 * from any thread; no call holds its lock while it waits. No signal handler is installed in the
 * application, and no child is waited for but the zygotes (and what PID 1 inherits of dead ones).
 * In any other child that the application forks every pool is dead: calls fail with ECHILD.
 *
 * errno beside the usual: ENOTCONN before pf_pool_zygote_started, ESHUTDOWN after close, ECHILD in
 * a forked copy, ENETDOWN if every zygote has died. */
#ifndef PREFORK_H
#define PREFORK_H

#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PF_FOREVER      (-1)
#define PF_INTERRUPTED  (-1)
#define PF_MOST_WORKERS 4095 /* of a pool; of one that was made for up to 64, 1,023 */

/* cffi: begin */

/* ---- the pool, in the application ---------------------------------------------------------- */

typedef struct pf_pool pf_pool;

typedef struct {
    uint32_t workers; /* how many to keep alive, 0 to PF_MOST_WORKERS */
    /* When a worker is replaced by one that was forked ahead; 0: not for that. */
    uint32_t tasks_per_worker;  /* after so many */
    int64_t age_per_worker;     /* ns after it was up */
    uint64_t memory_per_worker; /* KiB of its own; after the task in which it has more */
    uint32_t jitter;            /* per mille by which each of these may be less, at random */
    uint64_t memory_limit;      /* KiB of its own above which it is killed and its task lost */
    int64_t term_grace;         /* ns between a SIGTERM and the SIGKILL that follows */
    int32_t capture_output;     /* what tasks write to descriptors 1 and 2 goes into `output` */
    int32_t ask_to_spawn;       /* each worker is spawned by a pf_pool_permit_spawn */
} pf_options;

typedef enum {
    PF_EVENT_ACCEPTED,      /* a task submitted with PF_TELL began: pid, at; none where its DONE
                               comes as soon, which says so, too */
    PF_EVENT_SOFT_LIMIT,    /* a task ran longer than its soft limit, and was told: pid, at */
    PF_EVENT_DONE,          /* a task ended, one way or another: outcome, and what it implies */
    PF_EVENT_WORKER_UP,     /* a worker's initializer is through: slot, pid */
    PF_EVENT_WORKER_EXITED, /* slot, pid, status as of waitpid, outcome: enum pf_exit,
                               at: when it was up, 0 if it never was */
    PF_EVENT_WORKER_FAILED, /* a worker's initializer raised: slot, pid, data: what it raised */
    PF_EVENT_SPAWN_FAILED,  /* status: errno of the fork; it will be tried again */
    PF_EVENT_ZYGOTE_LOST,   /* pid; status: the pid of the zygote that took over, 0 if none;
                               outcome: 1 if it did not die, but does not answer */
    PF_EVENT_OUTSIDER,      /* a worker broke the protocol and is killed: slot, pid */
    PF_EVENT_SPAWN_WANTED   /* one more worker is wanted, and pf_pool_permit_spawn awaited */
} pf_event_type;

typedef enum {
    PF_OK,         /* data: the result */
    PF_ERROR,      /* data: the exception; none, but a size: there was no memory for what came */
    PF_LOST,       /* its worker died: pid, status (-1: unknown), zygote_lost, peak_rss; data: what
                      its fault handler wrote */
    PF_TIMED_OUT,  /* ran longer than its limit; its worker is killed: pid; data: its stacks */
    PF_TERMINATED, /* ended by pf_pool_kill_task or pf_pool_terminate: pid, 0 if it never ran */
    PF_CANCELLED,  /* never began */
    PF_EXPIRED     /* had not begun in the time in which it was to */
} pf_outcome;

typedef enum {
    PF_EXIT_UNASKED,
    PF_EXIT_RETIRED,
    PF_EXIT_KILLED,
    PF_EXIT_OVERDUE /* killed: it was to end in good order, and did not in ten seconds */
} pf_exit;

/* The flight recorder's notes: what happened in a slot of the pool, and to whom. */
typedef enum {
    PF_NOTE_SPAWNED,    /* its zygote was asked for a worker: generation */
    PF_NOTE_BORN,       /* pid */
    PF_NOTE_READY,      /* its initializer is through */
    PF_NOTE_FAILED,     /* its initializer has failed */
    PF_NOTE_CLAIMED,    /* task */
    PF_NOTE_RETURNED,   /* task */
    PF_NOTE_RAISED,     /* task */
    PF_NOTE_SOFT_LIMIT, /* it was told that its time is up: task */
    PF_NOTE_CONDEMNED,  /* it ran longer than its limit, or had too much memory: task */
    PF_NOTE_SIGNALLED,  /* by the pool: signal */
    PF_NOTE_RETIRED,    /* it was told to end after its present task */
    PF_NOTE_EXITED,     /* status as of waitpid, -1 if unknown */
    PF_NOTE_TYPES
} pf_note_type;

enum { PF_NOTES = 128 }; /* that are kept for each slot */

typedef struct {
    uint32_t type;
    int64_t at;
    uint64_t value;
} pf_note;

typedef struct {
    uint64_t generation; /* of the slot's newest process; 0: there never was one */
    int64_t since;       /* when it was spawned */
    int32_t pid;         /* of it; 0 until it is born */
    uint32_t count;
    pf_note notes[PF_NOTES]; /* oldest first; also of the slot's processes before that one */
} pf_history;

typedef struct {
    pf_event_type type;
    uint32_t outcome; /* pf_outcome or pf_exit */
    uint64_t task;    /* the id that pf_pool_submit gave, 0 for none */
    uint32_t slot;    /* which worker of the pool: 0 to 4094 */
    int32_t pid;
    int32_t status;
    int32_t zygote_lost; /* the worker went down with its zygote */
    int64_t at;          /* when the call began, 0 if unknown */
    uint32_t softened;   /* of a SOFT_LIMIT or DONE: how often the task was told by then */
    uint64_t peak_rss;   /* KiB, of a worker that has ended; 0 if unknown */
    uint64_t memory;     /* KiB, of a worker that was ended because that was too much, else 0 */
    void *data;          /* the event's own; given up by pf_event_clear */
    size_t size;
    pf_history *history; /* its own as well: of a worker that went with its task, else NULL */
    /* Of a DONE that is LOST, TIMED_OUT or TERMINATED: the last that the task has written; of an
     * EXITED that was never UP: the worker. NULL if there is nothing. Its own as well. */
    void *output;
    size_t output_size;
} pf_event;

void pf_event_clear(pf_event *event);

pf_pool *pf_pool_new(const pf_options *options);

/* Kills what still lives, waits for the zygotes to end, and gives everything back. */
void pf_pool_free(pf_pool *pool);

/* A zygote is born in three steps, so that the caller's own way to fork (or exec) is used:
 *   fd = pf_pool_zygote_prepare(pool);  every signal is now blocked in the calling thread
 *   pid = fork();                       child: pf_zygote_run(fd, …)
 *   pf_pool_zygote_started(pool, pid);  the parent closes fd's copy; the mask is restored;
 *                                       pid of -1: the fork failed, all is undone
 * Both give -1 with errno ESHUTDOWN if the pool is shut down meanwhile (then `pid` is killed and
 * reaped), and the first EBUSY while another zygote is being born.
 * Done again on a running pool it replaces the zygote: workers of the old one end after their
 * present task, and are replaced by children of the new one. */
int pf_pool_zygote_prepare(pf_pool *pool);
int pf_pool_zygote_started(pf_pool *pool, pid_t pid);

typedef struct {
    int32_t tell;       /* give an ACCEPTED event when the task begins, unless it has ended; a guest
                           may be told 5 ms late */
    uint32_t retries;   /* how often it is called again after its worker died in it */
    int64_t soft_limit; /* ns after which it is told, by PF_SOFT_SIGNAL; 0 for none */
    int64_t limit;      /* ns that it may run; 0 for ever */
    int64_t queue_limit; /* ns that it may wait for a worker; 0 for ever */
} pf_task_options;

/* Copies the body. `options` may be NULL: none of them. Returns the task's id, or 0 with errno;
 * EBUSY if `may_block` is 0 and another thread is in the pool right now. */
uint64_t pf_pool_submit(pf_pool *pool, const void *body, size_t size,
                        const pf_task_options *options, int may_block);

/* Takes up to `max` events, waiting up to `timeout` (PF_FOREVER: without end) for the first. Of
 * several threads one drives the pool and the others wait for what it finds. Returns 0 also when
 * pf_pool_rouse was called since `rouses` was read by pf_pool_rouses: read it, look whether what
 * you wait for has come, then poll, and no wake-up can be lost. -1 with errno EINTR when a signal
 * handler ran. */
int pf_pool_poll(pf_pool *pool, pf_event *events, int max, int64_t timeout, uint64_t rouses);
uint64_t pf_pool_rouses(const pf_pool *pool);

/* Makes every thread that waits in pf_pool_poll return.
 * Async-signal-safe. */
void pf_pool_rouse(pf_pool *pool);

/* Makes the descriptor readable once, for a caller who has left something undone.
 * Async-signal-safe. */
void pf_pool_remind(pf_pool *pool);

/* A descriptor that is readable whenever pf_pool_poll would not wait. From the first call on the
 * pool is a guest of somebody's loop and has no thread of its own. */
int pf_pool_fd(pf_pool *pool);

/* Starts the driver, a C thread that drives while nobody else does; nothing if the pool is a
 * guest or has one. */
int pf_pool_drive_in_background(pf_pool *pool);

/* For a thread that delivers events to user code: waits until the driver has gathered some, or
 * pf_pool_rouse_gatherer. 0, or -1 with errno EINTR. */
int pf_pool_wait_gathered(pf_pool *pool);
void pf_pool_rouse_gatherer(pf_pool *pool);

/* 1: it is in no call, and never will be (a DONE event says so): it was in none, but for those that
 * were lost with their workers and made good; 0: too late; -1 with errno. */
int pf_pool_cancel(pf_pool *pool, uint64_t task);

/* Ends the running task and its worker by `signal` (SIGTERM, SIGQUIT, SIGABRT or SIGKILL; the
 * others are followed by SIGKILL after the grace). 1: done, 0: it does not run; -1 with errno. */
int pf_pool_kill_task(pf_pool *pool, uint64_t task, int signal);
int pf_pool_kill_job(pf_pool *pool, pid_t pid, int signal);

/* Raises PF_SOFT_SIGNAL in the running task, as if its soft limit were up
 * (pf_worker_take_soft_limit says PF_INTERRUPTED), without an event. 1: done, 0: it does not run;
 * -1 with errno. */
int pf_pool_interrupt_task(pf_pool *pool, uint64_t task);

int pf_pool_resize(pf_pool *pool, uint32_t workers);

/* The answer to a SPAWN_WANTED: that worker may be spawned now. */
int pf_pool_permit_spawn(pf_pool *pool);

/* No more tasks from now on. */
int pf_pool_close(pf_pool *pool);
/* Workers end once no task is left; with `at_once` after their present task. */
int pf_pool_retire(pf_pool *pool, int at_once);
/* Settles every task and kills every worker by `signal`, and by SIGKILL `grace` ns later. */
int pf_pool_terminate(pf_pool *pool, int signal, int64_t grace);
/* Ends the driver and the zygotes, and with them whatever worker is left, waits for that, and
 * closes every descriptor. Of an ended pool only the facts can be asked. */
void pf_pool_shut_down(pf_pool *pool);

typedef enum {
    PF_WORKER_SPAWNING,
    PF_WORKER_STARTING,
    PF_WORKER_IDLE,
    PF_WORKER_RUNNING,
    PF_WORKER_RETIRING,
    PF_WORKER_SPARE, /* ready to take the place of one that is about to end */
    PF_WORKER_ENDING
} pf_worker_state;

typedef struct {
    uint32_t slot, state;
    int32_t pid;
    uint64_t generation; /* how many processes the pool has spawned before it */
    uint64_t task;
    int64_t since; /* when the present task began, or the worker was spawned */
    uint64_t tasks_done;
} pf_worker_info;

typedef struct {
    uint32_t target, alive, busy, processes; /* processes: alive, or being forked */
    uint32_t running;                        /* a zygote is there and the pool is not degraded */
    uint64_t queued, unfinished;
    uint64_t submitted, succeeded, failed, lost, timed_out, cancelled;
    uint64_t spawned, exited, replaced, spawn_failures, zygotes_lost, application_forks;
    pid_t zygote, standby;
} pf_pool_info;

int pf_pool_describe(pf_pool *pool, pf_pool_info *info);
/* Fills in up to `max` workers; returns how many there are. */
int pf_pool_list_workers(pf_pool *pool, pf_worker_info *workers, int max);
/* The pid of the worker that runs the task now, 0 if none does. */
pid_t pf_pool_find_task(pf_pool *pool, uint64_t task);

/* What happened last in a slot. 0, or -1 with errno: ERANGE if there never was such a slot. */
int pf_pool_history(pf_pool *pool, uint32_t slot, pf_history *copy);
/* The same of another process's pool, by a descriptor of its memory file "prefork-history", as
 * /proc/PID/fd has it. -1 with errno also EPROTO: this is none, or another version's. */
int pf_history_read(int fd, uint32_t slot, pf_history *copy);

/* ---- the zygote ---------------------------------------------------------------------------- */

typedef struct pf_worker pf_worker;

/* How to fork here: 0 in the child, the pid in the parent, -1 with errno. */
typedef pid_t (*pf_fork)(void *context);

/* Never returns before the zygote's or a worker's end. Returns 0 in the zygote (and in a standby)
 * when the application has gone or let it go: all children are dead then, and the caller must
 * `_exit`. Returns 1 in every newborn worker, `*worker` filled in and every signal blocked: the
 * caller prepares itself, calls pf_worker_ready or pf_worker_failed, and must end by `_exit`. */
int pf_zygote_run(int control, pid_t application, pf_fork fork, void *context, pf_worker **worker);

/* ---- a worker ------------------------------------------------------------------------------ */

typedef struct {
    uint64_t id;
    const void *body; /* the pool's bytes, valid until the next pf_worker_claim; NULL though there
                         are some: there was no memory for them */
    size_t size;
    uint32_t lost; /* how often a worker died in this task before */
    int64_t started;
} pf_claim;

/* A descriptor for what a fault handler writes; the pool shows it with the loss of the task. */
int pf_worker_crash_log(const pf_worker *worker);

/* Whether descriptors 1 and 2 lead into the pool's memory. */
int pf_worker_captures(const pf_worker *worker);

/* The signals that a pool sends to workers whose task is over a limit. The caller handles both.
 * PF_SOFT_SIGNAL goes to the main thread, which asks pf_worker_take_soft_limit. PF_STACKS_SIGNAL
 * wants the stacks of all threads in the crash log, by a handler that writes them and then calls
 * the one it found in its place: ours, which says that this is done. */
#ifdef SIGRTMAX /* signals that hardly anybody uses */
#define PF_SOFT_SIGNAL   (SIGRTMAX - 1)
#define PF_STACKS_SIGNAL (SIGRTMAX - 2)
#else
#define PF_SOFT_SIGNAL   SIGUSR1
#define PF_STACKS_SIGNAL SIGUSR2
#endif
int pf_worker_answer_stacks_signal(void); /* 0, or -1 with errno */

/* Between the calls of a task that is many: the clock of Python's time.monotonic(), in ns, cheap
 * enough for a look after each. It may be a tick of the kernel's behind, which is 10 ms at most. */
int64_t pf_worker_clock(void);

/* Between these two, called right around the call, a task may be interrupted. It begins with both
 * signals unblocked in the calling thread, whatever an earlier one has left. 1 if it was
 * interrupted before it began, in the preparation of its arguments: then PF_SOFT_SIGNAL has just
 * been raised. */
int pf_worker_call_begins(pf_worker *worker);
void pf_worker_call_ends(pf_worker *worker);
/* The soft limit (ns) that is up for the call we are in, PF_INTERRUPTED, or else 0; told once. */
int64_t pf_worker_take_soft_limit(pf_worker *worker);
/* Moves the limits of the call we are in by `ns`. 0, or -1 with errno ESRCH outside of one. */
int pf_worker_extend(pf_worker *worker, int64_t ns);
uint32_t pf_worker_slot(const pf_worker *worker);
uint64_t pf_worker_generation(const pf_worker *worker);

/* Unblocks signals, having reset every handler that the application had: SIGINT and SIGHUP are
 * ignored, whatever else was ignored stays so, all others are at their default. */
void pf_worker_unblock(pf_worker *worker);

int pf_worker_ready(pf_worker *worker);
int pf_worker_failed(pf_worker *worker, const void *data, size_t size);

/* Claims a task without waiting, but for as long as a wake-up takes where it comes within that: 1,
 * and it has begun as far as everybody is concerned; 0: none now, wait by pf_worker_wait; -1 with
 * errno: ESHUTDOWN when the worker shall end in good order, EPIPE if the application has gone,
 * ECHILD in a forked copy of a worker. */
int pf_worker_claim(pf_worker *worker, pf_claim *claim);

/* Between these two the calling thread has every signal blocked, but for as long as it waits: one
 * that comes before it does ends the wait with EINTR, as one that comes later. */
void pf_worker_hold_signals(pf_worker *worker);
void pf_worker_release_signals(pf_worker *worker);

/* Waits for something to claim. 0; -1 with errno: EINTR, EPIPE. */
int pf_worker_wait(pf_worker *worker);

/* Delivers the outcome of the claim (PF_OK or PF_ERROR). 0: done. 1: no room yet, and the bytes
 * must stay where they are: wait by pf_worker_wait_space, call again. -1 with errno: ECANCELED if
 * the task was condemned (end at once), EPIPE. */
int pf_worker_deliver(pf_worker *worker, uint32_t outcome, const void *data, size_t size);
int pf_worker_wait_space(pf_worker *worker);

/* cffi: end */

#endif
