/* The kernel as far as the core needs one: descriptors, pipes, shared memory, processes, the clock.
 * Whatever a process holds goes with it. */
#define _GNU_SOURCE
#include "world.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>

/* ATOMIC: what a pipe takes whole or not at all, as PIPE_BUF. */
enum { DESCRIPTORS = 1024, MAPPINGS = 256, PIPE_ROOM = 1024, PIPE_ATOMIC = 64 };

enum kind { MEMORY, PIPE, SOCKET, WATCH };
enum { READ_END, WRITE_END };

struct object {
    enum kind kind;
    int ends[2]; /* descriptors of each; of memory: and mappings */
    size_t size; /* of memory; of a pipe: its room */
    size_t first, count;
    struct process *process; /* of a watch */
    _Alignas(64) unsigned char bytes[];
};

struct descriptor {
    struct object *object;
    struct process *owner; /* NULL: in flight, or the oracle's */
    int end;
};

struct mapping {
    struct object *object;
    struct process *owner;
};

struct allocation {
    struct allocation *next, *previous;
    struct process *owner;
    size_t size;
};

struct process processes[PROCESSES];
struct process *current, *application;
int64_t now;
int quota;
uint64_t steps_done;
static struct descriptor descriptors[DESCRIPTORS];
static struct mapping mappings[MAPPINGS];
static int last_pid, descriptors_used;

/* ---- steps and waits ----------------------------------------------------------------------- */

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
    if (process->role == NOBODY || process->dead || process->stopped)
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
    return now;
}

/* ---- memory of a process's own ------------------------------------------------------------- */

void *sim_malloc(size_t size)
{
    struct allocation *allocation = malloc(sizeof *allocation + size);
    MUST(allocation != NULL && current != NULL);
    *allocation = (struct allocation){.next = current->allocations, .owner = current, .size = size};
    if (allocation->next != NULL)
        allocation->next->previous = allocation;
    current->allocations = allocation;
    return allocation + 1;
}

void *sim_calloc(size_t count, size_t size)
{
    return memset(sim_malloc(count * size), 0, count * size);
}

void sim_free(void *memory)
{
    struct allocation *allocation = memory;
    if (memory == NULL)
        return;
    allocation--;
    MUST(allocation->owner == current);
    if (allocation->previous != NULL)
        allocation->previous->next = allocation->next;
    else
        current->allocations = allocation->next;
    if (allocation->next != NULL)
        allocation->next->previous = allocation->previous;
    free(allocation);
}

void *sim_realloc(void *memory, size_t size)
{
    void *larger = sim_malloc(size);
    if (memory != NULL) {
        size_t had = ((struct allocation *)memory)[-1].size;
        memcpy(larger, memory, had < size ? had : size);
    }
    sim_free(memory);
    return larger;
}

/* ---- descriptors --------------------------------------------------------------------------- */

static struct object *make(enum kind kind, size_t size)
{
    struct object *object = aligned_alloc(64, (sizeof *object + size + 63) / 64 * 64);
    MUST(object != NULL);
    memset(object, 0, sizeof *object + size);
    object->kind = kind;
    object->size = size;
    return object;
}

struct object *object_new(size_t size)
{
    return make(SOCKET, size);
}

void *object_data(const struct object *object)
{
    return (void *)object->bytes;
}

static void let_go(struct object *object)
{
    if (object->ends[0] > 0 || object->ends[1] > 0)
        return;
    if (object->kind == SOCKET)
        socket_drop(object);
    if (object->kind == WATCH)
        object->process->watches--;
    free(object);
}

/* Numbers are used again as late as they can be: a stale one shall be found out. */
static int open_end(struct object *object, int end, struct process *owner)
{
    static int next;
    for (int i = 0; i < DESCRIPTORS; i++) {
        int fd = (next + i) % DESCRIPTORS;
        if (descriptors[fd].object != NULL || fd < 3)
            continue;
        next = fd + 1;
        descriptors[fd] = (struct descriptor){.object = object, .end = end, .owner = owner};
        object->ends[end]++;
        descriptors_used++;
        return fd;
    }
    MUST(!"too many descriptors");
    return -1;
}

static struct object *object_of(int fd, enum kind kind)
{
    MUST(fd >= 0 && fd < DESCRIPTORS && descriptors[fd].object != NULL);
    MUST(descriptors[fd].owner == current && descriptors[fd].object->kind == kind);
    return descriptors[fd].object;
}

struct object *descriptor_object(int fd, int *end)
{
    *end = descriptors[fd].end;
    return object_of(fd, SOCKET);
}

int descriptor_socket(struct process *owner, struct object *socket, int end)
{
    return open_end(socket, end, owner);
}

int descriptor_give(int fd, struct process *to)
{
    MUST(fd >= 0 && fd < DESCRIPTORS && descriptors[fd].object != NULL);
    return open_end(descriptors[fd].object, descriptors[fd].end, to);
}

void descriptor_drop(int fd)
{
    struct object *object = descriptors[fd].object;
    object->ends[descriptors[fd].end]--;
    descriptors[fd].object = NULL;
    descriptors_used--;
    let_go(object);
}

int sim_close(int fd)
{
    MUST(fd >= 0 && fd < DESCRIPTORS && descriptors[fd].object != NULL);
    MUST(descriptors[fd].owner == current);
    MUST(!poll_has(fd) || current != application); /* deregister, then close */
    sim_step();
    descriptor_drop(fd);
    return 0;
}

int descriptor_ready(int fd)
{
    const struct object *object = descriptors[fd].object;
    int end = descriptors[fd].end;
    MUST(object != NULL);
    switch (object->kind) {
    case PIPE:
        if (end == READ_END)
            return (object->count > 0 ? POLLIN : 0) | (object->ends[WRITE_END] == 0 ? POLLHUP : 0);
        return (object->size - object->count >= PIPE_ATOMIC ? POLLOUT : 0) |
               (object->ends[READ_END] == 0 ? POLLERR : 0);
    case SOCKET:
        return socket_ready(object, end) | (object->ends[!end] == 0 ? POLLIN | POLLHUP : 0);
    case WATCH:
        return object->process->dead ? POLLIN : 0;
    default:
        return 0;
    }
}

/* ---- pipes --------------------------------------------------------------------------------- */

/* Now and then there is no descriptor to be had. */
static bool exhausted(void)
{
    if (calm || !once_in(100))
        return false;
    errno = EMFILE;
    return true;
}

int pf__pipe(int ends[2])
{
    if (exhausted())
        return -1;
    struct object *pipe = make(PIPE, once_in(2) ? PIPE_ROOM : PIPE_ATOMIC * 2);
    ends[0] = open_end(pipe, READ_END, current);
    ends[1] = open_end(pipe, WRITE_END, current);
    return 0;
}

ssize_t sim_read(int fd, void *data, size_t size)
{
    sim_step();
    struct object *pipe = object_of(fd, PIPE);
    MUST(descriptors[fd].end == READ_END);
    if (pipe->count == 0) {
        errno = EAGAIN;
        return pipe->ends[WRITE_END] == 0 ? 0 : -1;
    }
    if (!calm && once_in(50)) {
        errno = EINTR;
        return -1;
    }
    size_t count = size < pipe->count ? size : pipe->count;
    if (once_in(8)) /* a short read, as it may come */
        count = 1 + draw(count);
    for (size_t i = 0; i < count; i++)
        ((unsigned char *)data)[i] = pipe->bytes[(pipe->first + i) % pipe->size];
    pipe->first = (pipe->first + count) % pipe->size;
    pipe->count -= count;
    return (ssize_t)count;
}

ssize_t sim_write(int fd, const void *data, size_t size)
{
    sim_step();
    struct object *pipe = object_of(fd, PIPE);
    size_t room = pipe->size - pipe->count;
    MUST(descriptors[fd].end == WRITE_END);
    if (pipe->ends[READ_END] == 0) {
        errno = EPIPE;
        return -1;
    }
    if (room == 0 || (size <= PIPE_ATOMIC && room < size)) {
        errno = EAGAIN;
        return -1;
    }
    size_t count = size < room ? size : room;
    for (size_t i = 0; i < count; i++)
        pipe->bytes[(pipe->first + pipe->count + i) % pipe->size] =
            ((const unsigned char *)data)[i];
    pipe->count += count;
    return (ssize_t)count;
}

int sim_pending(int fd, unsigned long what, int *bytes)
{
    sim_step();
    MUST(what == FIONREAD);
    *bytes = (int)object_of(fd, PIPE)->count;
    return 0;
}

static int look_at(struct pollfd *fds, nfds_t count)
{
    int ready = 0;
    for (nfds_t i = 0; i < count; i++) {
        int wanted = fds[i].events | POLLHUP | POLLERR;
        fds[i].revents = (short)(descriptor_ready(fds[i].fd) & wanted);
        ready += fds[i].revents != 0;
    }
    return ready;
}

static bool fds_are_ready(struct process *process)
{
    return look_at(process->fds, process->fd_count) > 0;
}

int sim_poll(struct pollfd *fds, nfds_t count, int timeout)
{
    int ready;
    MUST(timeout < 0);
    sim_step();
    for (nfds_t i = 0; i < count; i++)
        (void)object_of(fds[i].fd, PIPE);
    current->fds = fds;
    current->fd_count = count;
    current->interrupted = false;
    while ((ready = look_at(fds, count)) == 0 && !current->interrupted)
        sim_wait(fds_are_ready, PF_NEVER);
    errno = EINTR;
    return ready > 0 ? ready : -1;
}

/* ---- shared memory ------------------------------------------------------------------------- */

int pf__memory_create(const char *name, size_t size)
{
    (void)name;
    return exhausted() ? -1 : open_end(make(MEMORY, size), 0, current);
}

int sim_fstat(int fd, struct stat *stat)
{
    stat->st_size = (off_t)object_of(fd, MEMORY)->size;
    return 0;
}

void *pf__memory_map(int fd, size_t size, int writable)
{
    struct object *object = object_of(fd, MEMORY);
    (void)writable;
    MUST(size <= object->size);
    for (int i = 0; i < MAPPINGS; i++)
        if (mappings[i].object == NULL) {
            mappings[i] = (struct mapping){.object = object, .owner = current};
            object->ends[1]++;
            return object->bytes;
        }
    MUST(!"too many mappings");
    return NULL;
}

static void unmap(struct mapping *mapping)
{
    struct object *object = mapping->object;
    mapping->object = NULL;
    object->ends[1]--;
    let_go(object);
}

void pf__memory_unmap(void *memory, size_t size)
{
    (void)size;
    for (int i = 0; i < MAPPINGS && memory != NULL; i++)
        if (mappings[i].object != NULL && mappings[i].object->bytes == memory &&
            mappings[i].owner == current) {
            unmap(&mappings[i]);
            return;
        }
    MUST(memory == NULL);
}

/* ---- processes ----------------------------------------------------------------------------- */

/* A worker's segment outlives both its mappings, for the oracle. */
static void keep_segment(struct process *process, int fd)
{
    process->memory = descriptors[fd].object;
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
    for (int fd = 0; fd < DESCRIPTORS; fd++)
        if (descriptors[fd].object != NULL && descriptors[fd].owner == process)
            descriptor_drop(fd);
    for (int i = 0; i < MAPPINGS; i++)
        if (mappings[i].object != NULL && mappings[i].owner == process)
            unmap(&mappings[i]);
    while (process->allocations != NULL) {
        struct allocation *allocation = process->allocations;
        process->allocations = allocation->next;
        free(allocation);
    }
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
    let_go(process->memory);
    process->memory = NULL;
}

/* When nobody can name it any more its entry is free. */
static void forget(struct process *process)
{
    if (!process->dead || !process->reaped || process->watches > 0)
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
    struct process *process = process_find(pid);
    sim_step();
    if (process == NULL) {
        errno = ESRCH;
        return -1;
    }
    struct object *watch = make(WATCH, 0);
    watch->process = process;
    process->watches++;
    return open_end(watch, READ_END, current);
}

static int send_signal(struct process *process, int signal)
{
    if (process == NULL || process->dead) {
        errno = ESRCH;
        return process == NULL ? -1 : 0;
    }
    oracle_signal(process);
    if (signal == SIGKILL || !process->deaf_to_term)
        process->doomed = true;
    return 0;
}

int pf__process_signal(int watch, pid_t pid, int signal)
{
    sim_step();
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

static bool awaited_is_dead(struct process *process)
{
    return process->awaits->dead;
}

pid_t sim_waitpid(pid_t pid, int *status, int flags)
{
    struct process *process = process_find(pid);
    (void)status;
    sim_step();
    if (process == NULL || process->parent != NULL) {
        errno = ECHILD;
        return -1;
    }
    current->awaits = process;
    while (!process->dead && flags == 0)
        sim_wait(awaited_is_dead, PF_NEVER);
    if (!process->dead)
        return 0;
    process->reaped = true;
    return pid;
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

int sim_sigaction(struct sigaction *action)
{
    action->sa_handler = SIG_IGN;
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

void pf__process_prefer_oom(void)
{
}

/* ---- an episode ---------------------------------------------------------------------------- */

void kernel_start(void)
{
    MUST(descriptors_used == 0);
    memset(processes, 0, sizeof processes);
    now = 1000 * ms;
    last_pid = 100;
}

/* What the application has opened and allocated it has given back. */
void kernel_check_empty(void)
{
    MUST(application->allocations == NULL);
    for (int fd = 0; fd < DESCRIPTORS; fd++)
        MUST(descriptors[fd].object == NULL || descriptors[fd].owner != application);
    for (int i = 0; i < MAPPINGS; i++)
        MUST(mappings[i].object == NULL || mappings[i].owner != application);
}

/* After a failure, too: whatever is left goes. */
void kernel_end(void)
{
    for (struct process *process = processes; process < processes + PROCESSES; process++)
        if (process->role != NOBODY && !process->dead)
            process_die(process, 0);
    for (int fd = 0; fd < DESCRIPTORS; fd++)
        if (descriptors[fd].object != NULL)
            descriptor_drop(fd);
    for (struct process *process = processes; process < processes + PROCESSES; process++)
        drop_segment(process);
}
