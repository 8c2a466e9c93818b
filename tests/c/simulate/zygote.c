/* A model of the zygote, as zygote.c has it, and of the socket by which it is asked: control.h.
 *
 * It is no coroutine: one request served, one exit reported or one word said is one step. */
#define _GNU_SOURCE
#include "world.h"

#include <errno.h>
#include <string.h>

enum { QUEUE = 6, APPLICATIONS_END = 0, ZYGOTES_END = 1 };

struct packet {
    struct pf__message message;
    int fds[PF_CONTROL_FDS], count;
};

struct socket { /* packets towards either end */
    struct packet queue[2][QUEUE];
    int count[2];
};

/* Sockets live in the kernel's objects, behind what these have in common. */
static struct socket *socket_of(const struct object *object)
{
    return object_data(object);
}

int pf__socketpair(int ends[2])
{
    struct object *object = object_new(sizeof(struct socket));
    ends[0] = descriptor_socket(current, object, APPLICATIONS_END);
    ends[1] = descriptor_socket(current, object, ZYGOTES_END);
    return 0;
}

int socket_ready(const struct object *object, int end)
{
    return (socket_of(object)->count[end] > 0 ? POLLIN : 0) |
           (socket_of(object)->count[!end] < QUEUE ? POLLOUT : 0);
}

void socket_drop(struct object *object)
{
    struct socket *socket = socket_of(object);
    for (int end = 0; end < 2; end++)
        for (int i = 0; i < socket->count[end]; i++)
            for (int j = 0; j < socket->queue[end][i].count; j++)
                descriptor_drop(socket->queue[end][i].fds[j]);
}

static int put(struct socket *socket, int end, const struct pf__message *message)
{
    if (socket->count[end] == QUEUE)
        return -1;
    socket->queue[end][socket->count[end]++] = (struct packet){.message = *message};
    return 0;
}

static void take(struct socket *socket, int end, struct packet *packet)
{
    *packet = socket->queue[end][0];
    memmove(&socket->queue[end][0], &socket->queue[end][1],
            (size_t)--socket->count[end] * sizeof *packet);
}

/* ---- the application's end ----------------------------------------------------------------- */

int pf__control_send(int fd, const struct pf__message *message, const int *fds, int count)
{
    int end;
    sim_step();
    struct object *object = descriptor_object(fd, &end);
    struct socket *socket = socket_of(object);
    MUST(end == APPLICATIONS_END);
    if (descriptor_ready(fd) & POLLHUP) {
        errno = EPIPE;
        return -1;
    }
    if (put(socket, ZYGOTES_END, message) < 0) {
        errno = EAGAIN;
        return -1;
    }
    struct packet *packet = &socket->queue[ZYGOTES_END][socket->count[ZYGOTES_END] - 1];
    for (int i = 0; i < count; i++)
        packet->fds[packet->count++] = descriptor_give(fds[i], NULL);
    return 0;
}

int pf__control_receive(int fd, struct pf__message *message, int fds[PF_CONTROL_FDS])
{
    int end;
    struct packet packet;
    (void)fds; /* nothing comes this way */
    sim_step();
    struct object *object = descriptor_object(fd, &end);
    struct socket *socket = socket_of(object);
    if (socket->count[APPLICATIONS_END] == 0) {
        errno = descriptor_ready(fd) & POLLHUP ? EPIPE : EAGAIN;
        return -1;
    }
    take(socket, APPLICATIONS_END, &packet);
    *message = packet.message;
    return 0;
}

/* ---- the zygote ---------------------------------------------------------------------------- */

struct process *zygote_new(struct process *parent, int control)
{
    struct process *zygote = process_new(ZYGOTE, parent);
    zygote->control = descriptor_give(control, zygote);
    return zygote;
}

static struct process *unreported(const struct process *zygote)
{
    for (struct process *child = processes; child < processes + PROCESSES; child++)
        if (child->role != NOBODY && child->parent == zygote && child->dead && !child->reported)
            return child;
    return NULL;
}

static struct socket *control_of(struct process *zygote)
{
    int end;
    current = zygote;
    struct socket *socket = socket_of(descriptor_object(zygote->control, &end));
    current = NULL;
    return socket;
}

static bool is_let_go(const struct process *zygote)
{
    return (descriptor_ready(zygote->control) & POLLHUP) != 0;
}

bool zygote_has_work(struct process *zygote)
{
    struct socket *socket = control_of(zygote);
    if (zygote->reply_count > 0)
        return socket->count[APPLICATIONS_END] < QUEUE || is_let_go(zygote);
    return socket->count[ZYGOTES_END] > 0 || is_let_go(zygote) || unreported(zygote) != NULL;
}

static void reply(struct process *zygote, uint32_t type, const struct pf__message *to, int pid,
                  int status)
{
    zygote->replies[zygote->reply_count++] = (struct pf__message){
        .type = type, .slot = to->slot, .generation = to->generation, .pid = pid, .status = status};
}

static void spawn(struct process *zygote, struct packet *request)
{
    const struct pf__message *message = &request->message;
    if (!calm && once_in(12)) {
        reply(zygote, PF_MESSAGE_FAILED, message, 0, EAGAIN);
    } else if (message->type == PF_MESSAGE_STANDBY) {
        struct process *standby = zygote_new(zygote, request->fds[0]);
        standby->slot = UINT32_MAX;
        reply(zygote, PF_MESSAGE_SPAWNED, message, standby->pid, 0);
    } else {
        struct process *worker = process_new(WORKER, zygote);
        worker->slot = message->slot;
        worker->generation = message->generation;
        worker->deaf_to_term = once_in(4);
        for (int i = 0; i < PF_WORKER_FDS; i++)
            worker->fds_given[i] =
                i < request->count ? descriptor_give(request->fds[i], worker) : -1;
        fiber_start(worker, run_worker);
        reply(zygote, PF_MESSAGE_SPAWNED, message, worker->pid, 0);
    }
    for (int i = 0; i < request->count; i++)
        descriptor_drop(request->fds[i]);
}

static void reap(struct process *zygote, pid_t pid)
{
    struct process *child = process_find(pid);
    if (child == NULL || child->parent != zygote || !child->reported)
        return; /* the pool has not waited for the report; it will be asked again after that */
    MUST(child->dead);
    child->reaped = true;
}

static void report(struct process *zygote, struct process *child)
{
    struct pf__message about = {.slot = child->slot, .generation = child->generation};
    child->reported = true;
    reply(zygote, PF_MESSAGE_EXITED, &about, child->pid, child->status);
}

/* Nobody is left to be told: all children end, and then it. */
static void end(struct process *zygote)
{
    for (struct process *child = processes; child < processes + PROCESSES; child++)
        if (child->role == WORKER && child->parent == zygote && !child->dead)
            process_die(child, SIGKILL);
    process_die(zygote, 0);
}

void zygote_step(struct process *zygote)
{
    struct socket *socket = control_of(zygote);
    struct process *child = unreported(zygote);
    struct packet request;
    if (is_let_go(zygote) && (zygote->reply_count > 0 || socket->count[ZYGOTES_END] == 0)) {
        end(zygote);
    } else if (zygote->reply_count > 0) {
        if (put(socket, APPLICATIONS_END, &zygote->replies[0]) == 0)
            memmove(&zygote->replies[0], &zygote->replies[1],
                    (size_t)--zygote->reply_count * sizeof zygote->replies[0]);
    } else if (child != NULL && (socket->count[ZYGOTES_END] == 0 || once_in(2))) {
        report(zygote, child);
    } else if (socket->count[ZYGOTES_END] > 0) {
        take(socket, ZYGOTES_END, &request);
        if (request.message.type == PF_MESSAGE_REAP)
            reap(zygote, request.message.pid);
        else
            spawn(zygote, &request);
    }
}
