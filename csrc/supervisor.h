/* The pool's whole judgement as a pure state machine: which task goes where, who is woken, who is
 * killed, who is spawned, what became of a task.
 *
 * It makes no system call, allocates nothing and reads no clock (time is an argument). Its inputs
 * are observations, possibly late and in any order between workers; its answers are orders, taken
 * one at a time by pf__supervisor_next until there are none. Tasks, seats and slots are memory of
 * the caller, linked here. pool.c turns orders into memory, bytes and system calls;
 * tests/c/simulate drives the same code through millions of schedules. */
#ifndef PF_SUPERVISOR_H
#define PF_SUPERVISOR_H

#include "heap.h"
#include "word.h"

#include <stdbool.h>
#include <stddef.h>

enum pf__task_state {
    PF_TASK_QUEUED,    /* waits for a slot of the ring */
    PF_TASK_PUBLISHED, /* in the ring, not seen to be claimed */
    PF_TASK_HELD,      /* seen claimed by a worker */
    PF_TASK_SETTLED
};

enum pf__verdict { /* as enum pf_outcome in prefork.h */
                   PF_VERDICT_OK,
                   PF_VERDICT_ERROR,
                   PF_VERDICT_LOST,
                   PF_VERDICT_TIMED_OUT,
                   PF_VERDICT_TERMINATED,
                   PF_VERDICT_CANCELLED,
                   PF_VERDICT_EXPIRED
};

struct pf__task {
    uint64_t id;
    uint64_t seq;           /* of its present publication, 0 while queued */
    int64_t soft, limit;    /* ns of running, 0 for none */
    int64_t expires;        /* when it shall have begun, 0 for never */
    int64_t started, stall; /* ns; stall: the supervisor's when it was published */
    struct pf__timer timer;
    struct pf__task *next, *previous;
    uint32_t seat;              /* of its holder once held, else PF_NO_WORKER */
    uint32_t retries, attempts; /* how often a loss is made good yet; how often it was */
    uint8_t state, verdict, put_back;
    uint16_t looks; /* that found its result, which is due, still on the way, and nothing of it */
    bool tell, told, due, softened;
    bool expiring; /* in the list of those to be withdrawn */
};

struct pf__task_list {
    struct pf__task *first, *last;
};

enum pf__seat_state {
    PF_SEAT_VACANT,
    PF_SEAT_SPAWNING, /* ordered from the zygote */
    PF_SEAT_STARTING, /* its pid is known; the initializer runs */
    PF_SEAT_UP
};

enum pf__spent {
    PF_NOT_SPENT,
    PF_SPENT_SOON, /* it will have done its tasks, and end by itself */
    PF_SPENT       /* it is to end when somebody can take its place */
};

struct pf__seat { /* one place in the pool, which one worker process after another takes */
    struct pf__task_list held;
    struct pf__timer timer; /* a call not answered, or the grace after a signal */
    struct pf__seat *next_called, *previous_called;
    uint64_t epoch; /* which zygote it was ordered from */
    uint64_t called_nap, deaf_nap, condemn_seq;
    uint64_t tasks_done;
    int64_t began; /* its last task but the present */
    uint32_t index;
    uint8_t state;
    uint16_t todo; /* enum pf__todo */
    int signal;    /* to send */
    bool queued;   /* in the supervisor's list of seats with something to do */
    bool called, retiring, killed;
    bool down;      /* it claims no more, and has a time in which it is to end */
    bool heard;     /* something came by its pipe since the last look for a result */
    bool condemned; /* the task it holds; it is asked for its stacks, then killed */
    bool oversized; /* its worker is condemned for its memory: the task will be lost */
    bool asked;     /* it was, and whether it has answered is looked at */
    bool up_early;  /* it said UP before the zygote said SPAWNED */
    struct pf__seat *next_todo;
    struct pf__timer age;
    int64_t answer_by; /* if it is asked */
    int64_t ordered, up_at;
    uint64_t claims;              /* seen */
    uint64_t memory_most, memory; /* KiB: that it may have; what it had when that was more */
    uint32_t tasks_most;          /* UINT32_MAX: no bound */
    uint8_t spent;                /* enum pf__spent */
    bool spare;                   /* it claims nothing before its turn */
    bool succeeded;               /* it ends because a spare was ready to take its place */
};

enum pf__order_type {
    PF_ORDER_NONE,
    PF_ORDER_SETTLED,    /* task, verdict in it: give the event, then free it */
    PF_ORDER_ACCEPTED,   /* task, seat: give the event */
    PF_ORDER_LOOK,       /* seat: read its page, call pf__supervisor_page_seen */
    PF_ORDER_EXPIRE,     /* task: READY to WITHDRAWN; if so call pf__supervisor_withdrawn */
    PF_ORDER_SOFTEN,     /* task, seat: tell the worker, give the event */
    PF_ORDER_CONDEMN,    /* seat, seq: RUNNING to CONDEMNED, call pf__supervisor_condemned */
    PF_ORDER_ASK,        /* seat: for its stacks */
    PF_ORDER_LOOK_ASKED, /* seat, seq: has it, or will it never? then pf__supervisor_answered */
    PF_ORDER_SIGNAL,     /* seat, signal */
    PF_ORDER_SAMPLE,     /* seat: trim its output, measure its memory, call pf__supervisor_memory */
    PF_ORDER_RETIRE,     /* seat: tell it */
    PF_ORDER_RELEASE,    /* seat: it may claim from now on */
    PF_ORDER_LOOK_SLOT,  /* seq: read the slot's word, call pf__supervisor_slot_seen */
    PF_ORDER_PUBLISH,    /* task, its seq set */
    PF_ORDER_SKIP,       /* seq */
    PF_ORDER_ASK_SPAWN,  /* give the event; pf__supervisor_permit is the answer */
    PF_ORDER_SPAWN       /* seat; `spare`: it is not to claim yet */
};

struct pf__order {
    enum pf__order_type type;
    struct pf__task *task;
    struct pf__seat *seat;
    uint64_t seq;
    int signal;
};

struct pf__recycling { /* when a worker is replaced; 0: not for that */
    uint32_t tasks;
    uint32_t jitter;       /* per mille by which these three may come earlier */
    int64_t age;           /* ns since it was up */
    uint64_t memory;       /* KiB */
    uint64_t memory_limit; /* KiB above which its task is lost, too */
    uint64_t random;
};

enum { PF_MOST_PACE = 100000 }; /* ns */
#ifndef PF_BRIEF                /* the simulation has another */
#define PF_BRIEF 20000          /* ns */
#endif

struct pf__supervisor {
    int64_t now;
    struct pf__heap timers;
    struct pf__task_list queue, settled, expiring;
    struct pf__seat **seats;
    struct pf__seat *first_todo, *last_todo, *called;
    struct pf__task **slots; /* what was published there and not yet seen claimed */
    uint64_t head, tail;     /* sequences: published and not yet seen claimed lie between */
    uint32_t slot_count, seat_count;
    int64_t pace; /* ns from one start to the next in the same worker, an average */
    uint32_t target, live, spawning, retiring, called_count, failures;
    uint32_t spent, spares; /* spent ones that do not retire yet; those who wait for their turn */
    uint32_t down;          /* that are */
    struct pf__recycling recycling;
    struct pf__timer sample_timer; /* runs while somebody works whose memory or output matters */
    int64_t birth;                 /* ns that the last one took from the order until it was up */
    uint64_t ready;                /* published, not seen claimed */
    uint32_t burned; /* slots in a row that were held: if all are, the end of a worker is awaited */
    uint64_t unfinished, epoch;
    int64_t stall, stalled_until; /* ns for which the whole family stood still; when that ended */
    int64_t term_grace;
    struct pf__timer spawn_timer; /* runs while spawning is backed off */
    bool can_spawn, draining;
    bool asks, asked, permitted;     /* before each spawn; and waits; and was answered */
    bool forks_wait;                 /* until somebody was told how a worker ended */
    bool captures;                   /* what workers write is looked at as often as their memory */
    bool slot_is_free, slot_is_held; /* what was seen of the slot at the tail */
};

static const int64_t PF_EXIT_PATIENCE = (int64_t)10 * 1000000000;
enum { PF_CALL_PATIENCE = 2000000, PF_MAX_SPAWNING = 16, PF_MAX_PUT_BACK = 2 };

/* `slots` (a power of two of NULLs) and `seats` stay the caller's. */
void pf__supervisor_init(struct pf__supervisor *sup, struct pf__task **slots, uint32_t slot_count,
                         int64_t term_grace);
void pf__supervisor_seats(struct pf__supervisor *sup, struct pf__seat **seats, uint32_t count);
void pf__seat_init(struct pf__seat *seat, uint32_t index);

/* ---- observations -------------------------------------------------------------------------- */

/* The time now; fires what is due. */
void pf__supervisor_time(struct pf__supervisor *sup, int64_t now);
/* The whole family was stopped (Ctrl-Z, a frozen container) since the time was told last: the
 * limits of what ran are that much longer. */
void pf__supervisor_stalled(struct pf__supervisor *sup, int64_t now);

void pf__supervisor_submit(struct pf__supervisor *sup, struct pf__task *task);
/* The word of the slot that `seq` has, for seq == head (was it claimed?) while head < tail, or for
 * a LOOK_SLOT order. True if the head moved. */
bool pf__supervisor_slot_seen(struct pf__supervisor *sup, uint64_t seq, uint64_t word);
/* `extended`: by how much the running task has moved its own limits. */
void pf__supervisor_page_seen(struct pf__supervisor *sup, struct pf__seat *seat, uint64_t page,
                              int64_t started_at, int64_t extended);
void pf__supervisor_condemned(struct pf__supervisor *sup, struct pf__seat *seat, uint64_t seq,
                              bool done);
/* The stacks of a condemned task are written, or never will be. */
void pf__supervisor_answered(struct pf__supervisor *sup, struct pf__seat *seat);
/* Bytes have come from it. */
void pf__supervisor_heard(struct pf__seat *seat);
/* A worker delivered; false if it did not hold that publication: its word counts for nothing. */
bool pf__supervisor_result(struct pf__supervisor *sup, struct pf__seat *seat, struct pf__task *task,
                           uint64_t seq, uint32_t verdict, int64_t started);
/* A called worker's sleep number (0: awake). */
void pf__supervisor_nap_seen(struct pf__supervisor *sup, struct pf__seat *seat, uint64_t nap);
/* Of a sleeper that is not called: true if it shall be called now. */
bool pf__supervisor_sleeper_seen(struct pf__supervisor *sup, struct pf__seat *seat, uint64_t nap);
void pf__supervisor_spawned(struct pf__supervisor *sup, struct pf__seat *seat);
void pf__supervisor_spawn_failed(struct pf__supervisor *sup, struct pf__seat *seat);
void pf__supervisor_up(struct pf__supervisor *sup, struct pf__seat *seat);
/* It claims no more, and is about to end. */
void pf__supervisor_down(struct pf__supervisor *sup, struct pf__seat *seat);
/* The exit is confirmed and all that it left was drained: judges what it held by its last page. */
void pf__supervisor_exited(struct pf__supervisor *sup, struct pf__seat *seat, uint64_t page);
/* Of a SAMPLE order: what it has for itself. */
void pf__supervisor_memory(struct pf__supervisor *sup, struct pf__seat *seat, uint64_t kib);
void pf__supervisor_misbehaved(struct pf__supervisor *sup, struct pf__seat *seat);

/* ---- requests ------------------------------------------------------------------------------ */

/* Cancelling is tried step by step, for each step is a compare-and-swap of the caller's: on
 * TRY_SLOT and TRY_PAGE it tries, and says by pf__supervisor_withdrawn that it succeeded. */
enum pf__cancel { PF_CANCEL_DONE, PF_CANCEL_TRY_SLOT, PF_CANCEL_TRY_PAGE, PF_CANCEL_LATE };
enum pf__cancel pf__supervisor_cancel(struct pf__supervisor *sup, struct pf__task *task);
void pf__supervisor_withdrawn(struct pf__supervisor *sup, struct pf__task *task, uint32_t verdict);
/* After the caller's CAS RUNNING to CONDEMNED succeeded. */
void pf__supervisor_end_task(struct pf__supervisor *sup, struct pf__task *task, uint32_t verdict,
                             int signal);
/* Settles a task whatever its state; for the end of the pool, when all workers are killed. */
void pf__supervisor_abandon(struct pf__supervisor *sup, struct pf__task *task);
void pf__supervisor_kill(struct pf__supervisor *sup, struct pf__seat *seat, int signal);
void pf__supervisor_resize(struct pf__supervisor *sup, uint32_t target);
/* How many successors such a pool forks ahead at most: seats that it needs beyond its size. */
uint32_t pf__supervisor_ahead(uint32_t workers);
/* The answer to an ASK_SPAWN: one more may be spawned. */
void pf__supervisor_permit(struct pf__supervisor *sup);
/* A new zygote: workers of an older one are retired, and replaced from it. */
void pf__supervisor_renew(struct pf__supervisor *sup);

/* ---- orders -------------------------------------------------------------------------------- */

/* The next order, NONE when all is done. */
enum pf__order_type pf__supervisor_next(struct pf__supervisor *sup, struct pf__order *order);
bool pf__supervisor_has_orders(const struct pf__supervisor *sup);
/* When pf__supervisor_time must be called at the latest, PF_NEVER if nothing is due. */
int64_t pf__supervisor_deadline(const struct pf__supervisor *sup);

/* Of the last ones each began soon after the one before in the same worker. */
static inline bool pf__supervisor_tasks_are_brief(const struct pf__supervisor *sup)
{
    return sup->pace < PF_BRIEF;
}

static inline bool pf__supervisor_wants_sleepers(const struct pf__supervisor *sup)
{
    return sup->ready > sup->called_count;
}

#endif
