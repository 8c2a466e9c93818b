/* The simulated machine, as its files share it:
 *
 *   simulate.c      episodes: who runs next, what goes wrong; the command line
 *   fiber.c         processes as coroutines
 *   kernel.c        what seam.h leads to: steps, the clock, processes, signals
 *   descriptors.c   descriptors and pipes
 *   memory.c        memory, of one process or shared
 *   output.c        what workers write
 *   readiness.c     poll.h: many descriptors through one
 *   zygote.c        a model of the zygote, and of its control socket
 *   roles.c         the application and the workers: what calls prefork.h
 *   oracle.c        what is true, beside what the pool believes
 *   events.c        what the application is told, beside what is true
 *   invariants.c    what holds whenever a call returns
 *
 * All of csrc/ is real but control.c, output.c, zygote.c, signals.c, platform_linux.c,
 * process_linux.c and poll_epoll.c.
 * mutants.py shows that the oracle would notice if it were wrong. */
#ifndef WORLD_H
#define WORLD_H

#include "calls.h"
#include "control.h"
#include "platform.h"
#include "pool.h"
#include "process.h"
#include "worker.h"

#include <stdbool.h>
#include <ucontext.h>

/* More processes than live at once: the dead stay until they are reaped and nobody watches. */
enum { PROCESSES = 64, SLOTS = 16, SEATS = 8, TASKS = 1 << 13, PATIENCE = 2000000 };
enum { MEMORY_MOST = 1000, MEMORY_LIMIT = 2000 }; /* KiB, where a pool has such bounds */
static const int64_t ms = 1000000;

enum role { NOBODY, APPLICATION, ZYGOTE, WORKER };

struct allocation;
struct object;

struct process {
    enum role role; /* NOBODY: the entry is free */
    bool dead, reaped, stopped;
    bool doomed; /* a signal that ends it is on its way */
    bool over;   /* it has ended by itself */
    int pid, status;
    struct process *parent; /* a zygote; NULL: the application */
    struct allocation *allocations;
    int watches;

    /* as a coroutine */
    ucontext_t context;
    void *fake_stack;    /* the address sanitizer's */
    uint64_t held_until; /* of steps_done: it does not come to run before */
    bool waits;
    bool interrupted;
    int64_t until; /* of a wait, PF_NEVER for no end */
    bool (*ready)(struct process *process);
    struct pollfd *fds; /* of sim_poll */
    nfds_t fd_count;
    struct process *awaits; /* of pf__process_reap */
    bool calling;           /* between claim and deliver: in user code */
    bool wants_room;        /* for its result */

    /* a zygote: its socket, and what it has not said yet */
    int control;
    struct pf__message replies[4];
    int reply_count;

    /* a worker */
    uint32_t slot;
    uint64_t generation;
    int fds_given[PF_WORKER_FDS];
    struct pf__segment *segment; /* NULL until it is mapped */
    struct object *memory;       /* which that is, kept for the oracle */
    uint64_t page;               /* as last seen */
    uint64_t claim;              /* the sequence of the slot that it copies from; 0 */
    bool reported, deaf_to_term, up;
    bool down;
    int64_t down_since;   /* it claims no more: its destructor runs */
    uint64_t memory_used; /* KiB, as last measured */
};

extern struct process processes[PROCESSES];
extern struct process *current; /* NULL: the scheduler */
extern struct process *application;
extern pf_pool *pool;
extern int64_t now;
extern bool calm;       /* no more accidents: the episode is to end */
extern bool terminated; /* pf_pool_terminate was called */
extern bool guest;      /* the application watches the descriptor */
extern bool perilous;   /* there are tasks that kill whoever loads them */
extern uint64_t large;  /* every how manieth body is too large for a slot */
extern uint64_t spawns_wanted, spawns_permitted; /* asked for and not answered yet; answered */
extern uint64_t steps_done;
extern int quota; /* steps that the present process may still take in a row */

/* simulate.c */
uint64_t draw(uint64_t below);
static inline bool once_in(uint64_t times)
{
    return draw(times) == 0;
}
_Noreturn void wrong(const char *file, int line, const char *what);

#define MUST(expression)                                                                           \
    do {                                                                                           \
        if (!(expression))                                                                         \
            wrong(__FILE__, __LINE__, #expression);                                                \
    } while (0)

/* fiber.c */
void fiber_start(struct process *process, void (*run)(void));
void fiber_resume(struct process *process);
void fiber_yield(void);

/* kernel.c, beside calls.h */
void sim_wait(bool (*ready)(struct process *), int64_t until); /* until ready, or then */
struct process *process_new(enum role role, struct process *parent);
struct process *process_find(pid_t pid);
void process_die(struct process *process, int status);
void forget_the_dead(void);
bool is_runnable(struct process *process);
void kernel_start(void);
void kernel_check_empty(void);
void kernel_end(void);

/* descriptors.c, beside calls.h */
int descriptor_give(int fd, struct process *to); /* a copy of it */
void descriptor_drop(int fd);                    /* whoever has it */
int descriptor_ready(int fd); /* POLLIN, POLLOUT, POLLHUP, POLLERR as they stand */
int descriptor_socket(struct process *owner, struct object *socket, int end);
struct object *descriptor_object(int fd, int *end);
struct object *object_new(size_t size); /* of zygote.c: a socket pair */
void *object_data(const struct object *object);

/* memory.c, beside calls.h */
size_t memory_held(const struct process *owner); /* bytes that it has allocated */

/* output.c, beside output.h */
void output_write(const struct pf__output *output, uint64_t number);

/* readiness.c */
bool poll_has(int fd);
bool poll_is_ready(struct process *process);
int64_t poll_deadline(void);

/* zygote.c */
int socket_ready(const struct object *object, int end);
void socket_drop(struct object *object);
struct process *zygote_new(struct process *parent, int control);
bool zygote_has_work(struct process *zygote);
void zygote_step(struct process *zygote);

/* roles.c */
void run_application(void);
void run_worker(void);
void abandon_pool(void); /* after a failure */

/* oracle.c, events.c, invariants.c */
void oracle_start(void);
void oracle_watch(void); /* from now on */
void oracle_end(void);
uint64_t oracle_submit(const pf_task_options *options); /* the number of a new task */
void oracle_submitted(uint64_t number, uint64_t id);
void oracle_cancelled(uint64_t id);
uint64_t oracle_some_task(void);                     /* an id, perhaps of one that has ended; 0 */
int64_t oracle_called(uint64_t number, uint64_t id); /* user code begins; its limit */
bool oracle_is_cursed(const struct process *process);
void oracle_wrote(uint64_t number); /* the call did, and it is captured */
void oracle_waited_for_space(void);
void oracle_event(const pf_event *event);
void oracle_signal(struct process *process);
void oracle_observe(struct process *who); /* what the last step changed */
void oracle_returned(int events);         /* a call of prefork.h returned, with so many */
void oracle_polled(void);                 /* pf_pool_poll did */
void oracle_at_rest(void);                /* the application waits, and nothing is ready */
void oracle_print(void);
unsigned char pattern_at(uint64_t number, size_t at);

#endif
