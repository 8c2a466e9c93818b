/* The simulated kernel's descriptors: tables of them, pipes, and waiting for a few of them. */
#define _GNU_SOURCE
#include "kernel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

/* ATOMIC: what a pipe takes whole or not at all, as PIPE_BUF. */
enum { DESCRIPTORS = 1024, PIPE_ROOM = 1024, PIPE_ATOMIC = 64 };

struct descriptor {
    struct object *object;
    struct process *owner; /* NULL: in flight, or the oracle's */
    int end;
};

static struct descriptor descriptors[DESCRIPTORS];

/* ---- objects and descriptors ----------------------------------------------------------------- */

struct object *object_make(enum kind kind, size_t size)
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
    return object_make(SOCKET, size);
}

void *object_data(const struct object *object)
{
    return (void *)object->bytes;
}

void object_let_go(struct object *object)
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
int descriptor_open(struct object *object, int end, struct process *owner)
{
    static int next;
    for (int i = 0; i < DESCRIPTORS; i++) {
        int fd = (next + i) % DESCRIPTORS;
        if (descriptors[fd].object != NULL || fd < 3)
            continue;
        next = fd + 1;
        descriptors[fd] = (struct descriptor){.object = object, .end = end, .owner = owner};
        object->ends[end]++;
        return fd;
    }
    MUST(!"too many descriptors");
    return -1;
}

struct object *object_of(int fd, enum kind kind)
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
    return descriptor_open(socket, end, owner);
}

int descriptor_give(int fd, struct process *to)
{
    MUST(fd >= 0 && fd < DESCRIPTORS && descriptors[fd].object != NULL);
    return descriptor_open(descriptors[fd].object, descriptors[fd].end, to);
}

void descriptor_drop(int fd)
{
    struct object *object = descriptors[fd].object;
    object->ends[descriptors[fd].end]--;
    descriptors[fd].object = NULL;
    object_let_go(object);
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

void descriptors_drop_all(const struct process *owner)
{
    for (int fd = 0; fd < DESCRIPTORS; fd++)
        if (descriptors[fd].object != NULL && (owner == NULL || descriptors[fd].owner == owner))
            descriptor_drop(fd);
}

void descriptors_check_none(const struct process *owner)
{
    for (int fd = 0; fd < DESCRIPTORS; fd++)
        MUST(descriptors[fd].object == NULL || (owner != NULL && descriptors[fd].owner != owner));
}

/* ---- pipes ----------------------------------------------------------------------------------- */

/* Now and then there is no descriptor to be had. */
bool descriptors_exhausted(void)
{
    if (calm || !once_in(100))
        return false;
    errno = EMFILE;
    return true;
}

int pf__pipe(int ends[2])
{
    if (descriptors_exhausted())
        return -1;
    struct object *pipe = object_make(PIPE, once_in(2) ? PIPE_ROOM : PIPE_ATOMIC * 2);
    ends[0] = descriptor_open(pipe, READ_END, current);
    ends[1] = descriptor_open(pipe, WRITE_END, current);
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

ssize_t pf__pipe_write(int fd, const void *data, size_t size)
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

/* No process of ours holds signals: they are not simulated. */
int pf__poll_unmasked(struct pollfd *fds, int count, int64_t timeout, const sigset_t *mask)
{
    (void)mask;
    MUST(timeout < 0);
    return sim_poll(fds, (nfds_t)count, -1);
}
