/* What the files pool*.c and driver.c share: the pool's parts, and who does what.
 *
 *   pool.c           life, size and end
 *   pool_tasks.c     what a caller does with a task
 *   pool_poll.c      driving: one turn, waiting for the next, whose turn it is
 *   pool_spin.c      before a wait: whether to spin, and in which way
 *   pool_facts.c     what the pool tells about itself
 *   pool_waking.c    who is called out of his sleep, and when
 *   pool_orders.c    carries out what the supervisor orders; gives events
 *   pool_children.c  worker processes as the application sees them: birth and death
 *   pool_traffic.c   what goes between: frames, results out of rings
 *   pool_zygotes.c   zygotes: birth, requests, answers
 *   pool_zygotes_end.c  their end, and the standby's turn
 *   pool_atfork.c    every pool is dead in a forked copy of the application
 *   driver.c         the C thread that drives while nobody else does
 *
 * All of it runs under pool->lock, which is held only in C, never across a wait. "Who drives", that
 * is who waits in the poll, is a role (pool->driving), given up before returning. */
#ifndef PF_POOL_H
#define PF_POOL_H

#include "channel.h"
#include "crashlog.h"
#include "handles.h"
#include "history.h"
#include "output.h"
#include "poll.h"
#include "prefork.h"
#include "ring.h"
#include "scoreboard.h"
#include "slab.h"
#include "spin.h"
#include "supervisor.h"

#include <pthread.h>
#include <signal.h>

struct pf__job { /* a task, its call's bytes and its result's */
    struct pf__task task;
    void *result;
    size_t result_size, size;
    uint32_t lent; /* to how many channels its body is */
    uint32_t softened;
    bool settled; /* it goes when all have given that back */
    unsigned char body[];
};

enum pf__zygote_role { PF_ZYGOTE_ACTIVE, PF_ZYGOTE_STANDBY, PF_ZYGOTE_OLD, PF_ZYGOTE_DEAD };

struct pf__zygote {
    struct pf__zygote *next;
    enum pf__zygote_role role;
    uint64_t serial;
    int control, watch; /* -1 when closed or not to be had */
    pid_t pid;          /* 0 until a standby has reported its own */
    uint32_t children;  /* workers that came from it and are not buried */
    bool up;            /* its imports are over: it has spoken, or has been reported */
    uint32_t silence;   /* looks at what it owes since it last said something */
    int64_t looked;     /* when the last of them was */
    pid_t *unreaped;    /* exits to acknowledge, for which its socket had no room */
    uint32_t unreaped_count, unreaped_room;
};

struct pf__child {        /* one seat's present process */
    struct pf__seat seat; /* first: orders name seats */
    struct pf__zygote *zygote;
    struct pf__scoreboard board;
    struct pf__crashlog crash;
    const struct pf__crashlog *left; /* while it is buried: what its crash log says */
    int output, output_left;         /* what it writes, -1 if that is not captured; the same */
    struct pf__channel channel;
    struct pf__timer timer; /* the zygote's word on its birth, or on an exit, is overdue */
    uint64_t generation;
    uint64_t needed; /* the newest sequence whose body it has asked for */
    int64_t since;
    pid_t pid;
    int confirmed; /* its zygote has said so, too */
    uint64_t peak_rss;
    int watch; /* its exit; -1 if it cannot be watched */
    int status, status_known, exit_seen, zygote_lost;
    int reported;     /* how its initializer ended */
    int watching_out; /* its pipe is watched for room */
};

/* Calls of sleepers. */
struct pf__calls {
    int64_t since;       /* when the present interval began, while tasks are brief */
    uint64_t settled;    /* tasks until then */
    uint32_t most, made; /* in it */
    int64_t again_at;    /* when to look again for those who were left or lost, or PF_NEVER */
    int64_t sought_at;   /* when lost ones were looked for last */
};

struct pf_pool {
    pthread_mutex_t lock;
    pf_pool *next, *previous; /* all pools of this process, for pool_atfork.c */
    int dead;                 /* we are in a forked copy */
    int started, closed, guest;
    int ending;        /* it is being shut down: no zygote is born any more */
    _Atomic int ended; /* shut down: the poll and all descriptors are gone, the facts remain */
    struct pf__supervisor sup;
    struct pf__ring ring;
    struct pf__history history;
    struct pf__poll *poll;
    struct pf__handles jobs;
    struct pf__slabs slabs; /* the jobs' memory */
    struct pf__heap timers; /* of children, and these two */
    struct pf__seat **seats;
    struct pf__task **slots;
    struct pf__zygote *zygotes;
    struct pf__zygote *newborn;     /* between prepare and started */
    struct pf__timer standby_timer; /* runs while a standby is wanted and could not be had */
    struct pf__timer start_timer;   /* a guest's next look at what has begun */
    uint64_t serial, generations;
    pf_options options;
    int64_t timer_at;     /* what the poll's timer is set to */
    int64_t looked;       /* when somebody last looked into the poll */
    struct pf__spin spin; /* of callers who wait */
    uint32_t awaited;     /* as the ring says it */

    pf_event *events; /* a ring of those nobody has taken yet */
    size_t event_first, event_count, event_room;
    size_t event_known; /* of them, when the lock was last taken */

    int driving;        /* somebody waits in the poll */
    int by_driver;      /* it is the driver thread */
    int driver_gathers; /* and comes again within a millisecond */
    int64_t called_at;  /* when a submission called a sleeper last */
    struct pf__calls calls;
    int claimants;                  /* callers who want the role that the driver has */
    struct pf__follower *followers; /* who sleep until there is something for them */
    /* Posted once for each follower when there may be something for it. */
    struct pf__semaphore *followed;
    _Atomic uint64_t rouses;
    _Atomic uint32_t pollers; /* threads in pf_pool_poll or pf_pool_rouse */
    struct pf__semaphore *gathered;
    _Atomic uint32_t gathering; /* 1: the gatherer was told */

    pthread_t driver;
    int driver_runs, driver_parked, driver_lost;
    int driver_stops; /* or has: there will be no other */
    struct pf__semaphore *driver_wake;
    int driver_naps; /* for more than a millisecond, as callers drive all the time */
    uint64_t drives; /* counted up by every caller that polls */
    int64_t polled;  /* when one did last */

    pf_pool_info counts;
    sigset_t mask; /* of the thread that is about to fork */
    int fork_end;  /* the zygote's end of the socket in between */
};

/* pool_tasks.c */
/* The lock held: the task's worker, if its call is running now. */
struct pf__child *pf__pool_runner(pf_pool *pool, const struct pf__task *task);

/* pool_poll.c */
int pf__pool_enter(pf_pool *pool); /* 0 with the lock held, or -1 with errno */
void pf__pool_leave(pf_pool *pool);
void pf__pool_pass_on(pf_pool *pool); /* to who drives: what follows from claims just noted */
int pf__pool_refused(void); /* by enter: 0 if the pool has ended, for then there is nothing to do */
void pf__pool_turn_out(pf_pool *pool); /* when it returns nobody polls, and nobody will */
void pf__pool_publish(pf_pool *pool);  /* carries out orders, calls sleepers */
void pf__pool_advance(pf_pool *pool);  /* notes claims, takes results, carries out orders */
/* In the role: waits, and handles what came. Without `listen` no worker rings for a result. */
int pf__pool_wait(pf_pool *pool, int64_t deadline, int listen);
void pf__pool_pass_role(pf_pool *pool); /* to a follower, or the driver */
void pf__pool_note_claims(pf_pool *pool);
void pf__pool_tell_time(pf_pool *pool); /* and what was claimed until then, if something is due */

/* pool_spin.c */
/* Somebody waits for each result as it comes, or does not. */
void pf__pool_is_awaited(pf_pool *pool, uint32_t awaited);
/* Spins until there is news, if that pays, without the lock meanwhile. Whether there is. */
int pf__pool_spin(pf_pool *pool, int64_t deadline);
int pf__pool_spinners_suffice(const pf_pool *pool); /* for all that is READY, without a call */

/* pool_waking.c */
int pf__pool_calls_can_wait(pf_pool *pool);
void pf__pool_call_sleepers(pf_pool *pool);

/* pool_orders.c */
void pf__pool_obey(pf_pool *pool);
void pf__pool_event(pf_pool *pool, const pf_event *event);
pf_event pf__child_event(const struct pf__child *child, pf_event_type type);
void pf__child_note(pf_pool *pool, const struct pf__child *child, pf_note_type type,
                    uint64_t value);
void pf__child_signal(const struct pf__child *child, int signal);
/* Tells the worker that the time of its task is up: after `why` ns, or PF_INTERRUPTED. */
void pf__child_soften(const struct pf__child *child, uint64_t seq, int64_t why);

/* pool_children.c */
struct pf__child *pf__child_new(uint32_t index);
struct pf__child *pf__child_at(const pf_pool *pool, uint32_t slot, uint64_t generation);
int pf__child_spawn(pf_pool *pool, struct pf__child *child);
void pf__child_spawned(pf_pool *pool, struct pf__child *child, pid_t pid);
void pf__child_not_spawned(pf_pool *pool, struct pf__child *child, int error);
void pf__child_learn_pid(pf_pool *pool, struct pf__child *child); /* by its own word */
void pf__child_ready(pf_pool *pool, struct pf__child *child, int kind);
void pf__child_exited(pf_pool *pool, struct pf__child *child, int status, uint64_t peak_rss);
void pf__child_timer(pf_pool *pool, struct pf__timer *timer);
void pf__child_close(pf_pool *pool, struct pf__child *child);
/* What it has written, or, unless `seq` is 0, what that task has, if it still is at it. */
void pf__child_show_output(const struct pf__child *child, uint64_t seq, pf_event *event);

/* pool_traffic.c */
int pf__child_send(pf_pool *pool, struct pf__child *child, uint16_t type, uint64_t seq);
void pf__job_free(struct pf__job *job); /* at once, or when no channel needs its body any more */
void pf__child_flush(pf_pool *pool, struct pf__child *child);
void pf__child_misbehaved(pf_pool *pool, struct pf__child *child); /* it is killed */
int pf__child_revoke(struct pf__child *child, uint64_t seq);       /* 1: its call will not begin */
void pf__child_look(pf_pool *pool, struct pf__child *child);
void pf__child_drain(pf_pool *pool, struct pf__child *child);
int pf__pool_has_news(const pf_pool *pool); /* some worker's segment is to be looked at */
void pf__pool_drain(pf_pool *pool);         /* those of all that have any */
void pf__child_drain_pipe(pf_pool *pool, struct pf__child *child, size_t budget);

/* pool_zygotes.c */
#ifndef PF_START_LOOK         /* the simulation has another, for it is to meet the moment */
#define PF_START_LOOK 5000000 /* ns until a guest looks who has begun */
#endif
static const int64_t PF_STANDBY_INTERVAL = 1000000000; /* ns between attempts at one */
static const int64_t PF_BIRTH_LOOK = 1000000000;       /* ns between looks at a birth */
struct pf__zygote *pf__zygote_with_role(const pf_pool *pool, enum pf__zygote_role role);
struct pf__zygote *pf__zygote_active(const pf_pool *pool);
void pf__zygote_activate(pf_pool *pool, struct pf__zygote *zygote);
void pf__zygote_ready(pf_pool *pool, uint64_t serial, int exit_watch);
void pf__zygote_reap(struct pf__zygote *zygote, pid_t pid);
void pf__zygotes_flush(pf_pool *pool);
void pf__zygote_want_standby(pf_pool *pool);

/* pool_zygotes_end.c */
void pf__zygote_died(pf_pool *pool, struct pf__zygote *zygote);
/* It owes us a worker: 1 if it has been silent for so long that we wait for it no more. */
int pf__zygote_is_mute(pf_pool *pool, struct pf__zygote *zygote);
void pf__zygote_let_go(pf_pool *pool, struct pf__zygote *zygote);
struct pf__zygote *pf__zygotes_release(pf_pool *pool); /* with the lock */
void pf__zygotes_end(struct pf__zygote *zygotes);      /* waits for them, without it */

/* pool_atfork.c */
int pf__pools_add(pf_pool *pool);
void pf__pools_remove(pf_pool *pool);

/* driver.c */
void pf__driver_stop(pf_pool *pool);
void pf__driver_unpark(pf_pool *pool);

/* Poll keys: a kind, and which child (slot and generation) or zygote (serial). */
enum pf__key { PF_KEY_PIPE = 1, PF_KEY_ROOM, PF_KEY_EXIT, PF_KEY_ZYGOTE, PF_KEY_ZYGOTE_EXIT };

static inline uint64_t pf__key(enum pf__key kind, uint32_t slot, uint64_t number)
{
    return (uint64_t)kind << 56 | (uint64_t)slot << 44 | (number & 0xfffffffffffULL);
}

#endif
