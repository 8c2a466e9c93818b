/* The kernel as far as the core needs one: steps, the clock, processes, signals; descriptors.c and
 * memory.c have what a process holds, which goes with it. */
#define _GNU_SOURCE
#include "kernel.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

struct process processes[PROCESSES];
struct process *current, *application;
int64_t now;
int quota;
uint64_t steps_done;
static int last_pid;

/* ---- steps and waits ------------------------------------------------------------------------- */

/* Before every access that others can see: now they may come first. */
void sim_step(void)
{
    if (current == NULL)
        return;
    steps_done++;
    oracle_observe(current);
    if (quota-- <= 0)
        fiber_yield();
}

void *sim_copy(void *to, const void *from, size_t size)
{
    size_t half = size / 2;
    sim_step();
    memcpy(to, from, half);
    if (half > 0)
        sim_step();
    return memcpy((unsigned char *)to + half, (const unsigned char *)from + half, size - half);
}

void sim_wait(bool (*ready)(struct process *), int64_t until)
{
    oracle_observe(current);
    current->waits = true;
    current->ready = ready;
    current->until = until;
    fiber_yield();
    current->waits = false;
    current->ready = NULL;
}

bool is_runnable(struct process *process)
{
    if (process->role == NOBODY || process->dead || process->stopped ||
        process->held_until > steps_done)
        return false;
    if (process->doomed || process->over)
        return true;
    if (process->role == ZYGOTE)
        return zygote_has_work(process);
    return !process->waits || process->interrupted || process->until <= now ||
           (process->ready != NULL && process->ready(process));
}

int64_t pf__now(void)
{
    return ++now; /* never the same twice, so that one start can be told from another */
}

int64_t pf__now_coarse(void)
{
    return now;
}

uint32_t pf__processors(void)
{
    return 1; /* most is left to later calls then */
}

/* ---- processes ------------------------------------------------------------------------------- */

/* A worker's segment outlives both its mappings, for the oracle. */
static void keep_segment(struct process *process, int fd)
{
    process->memory = object_of(fd, MEMORY);
    process->memory->ends[1]++;
    process->segment = (struct pf__segment *)(void *)process->memory->bytes;
}

/* A pid is given away again as soon as it was reaped by the pool's leave, so that whoever uses a
 * stale one hits somebody else. */
static int some_pid(void)
{
    do {
        last_pid = last_pid >= 200 ? 101 : last_pid + 1;
    } while (process_find(last_pid) != NULL);
    return last_pid;
}

struct process *process_new(enum role role, struct process *parent)
{
    struct process *process = processes;
    while (process->role != NOBODY)
        MUST(++process < processes + PROCESSES);
    int pid = some_pid();
    memset(process, 0, sizeof *process);
    process->role = role;
    process->parent = parent;
    process->pid = pid;
    process->until = PF_NEVER;
    return process;
}

struct process *process_find(pid_t pid)
{
    for (struct process *process = processes; process < processes + PROCESSES; process++)
        if (process->role != NOBODY && process->pid == pid && !process->reaped)
            return process;
    return NULL;
}

static bool is_orphan(const struct process *process)
{
    return process->parent != NULL && process->parent->dead;
}

void process_die(struct process *process, int status)
{
    process->dead = true;
    process->status = status;
    process->reaped = is_orphan(process);
    descriptors_drop_all(process);
    memory_drop_all(process);
    for (struct process *child = processes; child < processes + PROCESSES; child++)
        if (child->role != NOBODY && child->parent == process && !child->reaped) {
            child->reaped = child->dead; /* init does it */
            child->doomed = child->role == WORKER;
        }
}

static void drop_segment(struct process *process)
{
    if (process->memory == NULL)
        return;
    process->memory->ends[1]--;
    object_let_go(process->memory);
    process->memory = NULL;
}

/* When nobody can name it any more, and the pool has let go of its segment, its entry is free. */
static void forget(struct process *process)
{
    if (!process->dead || !process->reaped || process->watches > 0)
        return;
    if (process->memory != NULL && process->memory->ends[1] > 1)
        return;
    for (struct process *child = processes; child < processes + PROCESSES; child++)
        if (child->role != NOBODY && child->parent == process)
            return;
    drop_segment(process);
    process->role = NOBODY;
}

void forget_the_dead(void)
{
    for (struct process *process = processes; process < processes + PROCESSES; process++)
        if (process->role != NOBODY)
            forget(process);
}

int pf__process_watch(pid_t pid)
{
    sim_step();
    struct process *process = process_find(pid);
    if (process == NULL) {
        errno = ESRCH;
        return -1;
    }
    struct object *watch = object_make(WATCH, 0);
    watch->process = process;
    process->watches++;
    return descriptor_open(watch, READ_END, current);
}

static int send_signal(struct process *process, int signal)
{
    if (process == NULL || process->dead) {
        errno = ESRCH;
        return process == NULL ? -1 : 0;
    }
    if (signal == PF_SOFT_SIGNAL)
        return 0;
    oracle_signal(process);
    if (signal == PF_STACKS_SIGNAL) {
        if (once_in(2) && process->segment != NULL)
            atomic_store(&process->segment->answered, pf__word_seq(process->segment->page));
        return 0;
    }
    if (signal == SIGKILL || !process->deaf_to_term)
        process->doomed = true;
    return 0;
}

int pf__process_signal(int watch, pid_t pid, int signal)
{
    sim_step();
    MUST(pid > 0); /* else it is everybody's */
    struct process *process = watch >= 0 ? object_of(watch, WATCH)->process : process_find(pid);
    MUST(process == NULL || process->pid == pid);
    return send_signal(process, signal);
}

int sim_kill(pid_t pid, int signal)
{
    sim_step();
    struct process *process = process_find(pid);
    if (signal != 0)
        return send_signal(process, signal);
    errno = ESRCH;
    return process == NULL ? -1 : 0;
}

/* It grows and shrinks at random. */
uint64_t pf__process_memory(pid_t pid, uint64_t enough)
{
    sim_step();
    struct process *process = process_find(pid);
    if (process == NULL || process->dead)
        return 0;
    process->memory_used = draw(once_in(3) ? MEMORY_LIMIT * 2 : enough);
    return process->memory_used;
}

pid_t pf__process_parent(pid_t pid)
{
    sim_step();
    const struct process *process = process_find(pid);
    return process != NULL && process->parent != NULL ? process->parent->pid : 0;
}

int pf__process_is_deaf(pid_t pid, int signal)
{
    sim_step();
    MUST(signal == PF_STACKS_SIGNAL);
    return pid > 0 && once_in(3);
}

static bool awaited_is_dead(struct process *process)
{
    return process->awaits->dead;
}

int pf__process_reap(int watch, pid_t pid, int block)
{
    sim_step();
    struct process *process = watch >= 0 ? object_of(watch, WATCH)->process : process_find(pid);
    if (process == NULL || process->parent != NULL)
        return 1; /* not our child */
    current->awaits = process;
    while (!process->dead && block)
        sim_wait(awaited_is_dead, PF_NEVER);
    process->reaped = process->dead;
    return process->dead;
}

pid_t sim_getpid(void)
{
    return current->pid;
}

int sim_nanosleep(const struct timespec *time)
{
    sim_wait(NULL, now + time->tv_sec * 1000 * ms + time->tv_nsec);
    return 0;
}

int pf__process_die_with(pid_t parent)
{
    sim_step();
    keep_segment(current, current->fds_given[PF_FD_BOARD]);
    errno = ESRCH;
    return is_orphan(current) || current->parent->pid != parent ? -1 : 0;
}

void pf__process_name(const char *name)
{
    (void)name;
}

void pf__thread_name(pthread_t thread, const char *name)
{
    (void)thread;
    (void)name;
}

void pf__process_prefer_oom(void)
{
}

int pf__descriptor_up(int fd)
{
    return fd;
}

/* ---- semaphores ------------------------------------------------------------------------------ */

/* The application has one thread: nobody waits, so nobody need be told. */
struct pf__semaphore {
    int none;
};

struct pf__semaphore *pf__semaphore_new(void)
{
    return sim_calloc(1, sizeof(struct pf__semaphore));
}

void pf__semaphore_free(struct pf__semaphore *semaphore)
{
    sim_free(semaphore);
}

void pf__semaphore_post(struct pf__semaphore *semaphore)
{
    (void)semaphore;
}

int pf__semaphore_wait(struct pf__semaphore *semaphore, int64_t timeout)
{
    (void)semaphore, (void)timeout;
    MUST(!"a wait for another thread");
    return 0;
}

/* ---- an episode ------------------------------------------------------------------------------ */

void kernel_start(void)
{
    descriptors_check_none(NULL);
    memset(processes, 0, sizeof processes);
    now = 1000 * ms;
    last_pid = 100;
}

/* What the application has opened and allocated it has given back. */
void kernel_check_empty(void)
{
    memory_check_none(application);
    descriptors_check_none(application);
}

/* After a failure, too: whatever is left goes. */
void kernel_end(void)
{
    for (struct process *process = processes; process < processes + PROCESSES; process++)
        if (process->role != NOBODY && !process->dead)
            process_die(process, 0);
    descriptors_drop_all(NULL);
    for (struct process *process = processes; process < processes + PROCESSES; process++)
        drop_segment(process);
}
