/* The zygote: a small process that forks every worker, watches them, and reaps them.
 *
 * A loop over one control socket. It is single-threaded, ignores every signal, and does one thing
 * at a time: one request, one fork, one reply. Its standby is a zygote that has not been asked
 * anything yet; when this one dies, the application begins to ask the other. */
#define _GNU_SOURCE
#include "control.h"
#include "platform.h"
#include "prefork.h"
#include "process.h"
#include "worker.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct child {
    pid_t pid;
    uint32_t slot;
    uint64_t generation;
    int reported;
};

struct zygote {
    int control;
    pid_t application;
    int watch; /* on the application; -1: look at getppid */
    pf_fork fork;
    void *context;
    struct child *children;
    size_t count, room;
    sigset_t ignored; /* by the application, before us */
    uint64_t turn;    /* of the application's, on the processor */
    pf_worker *born;  /* set in a newborn worker */
};

enum { SECOND = 1000000000, TURN = 100000 }; /* ns */
enum { ON = 0, NEWBORN = 1, OVER = 2, BROKEN = 3 };

static void reply(const struct zygote *zygote, uint32_t type, const struct pf__message *to,
                  pid_t pid, int status)
{
    struct pf__message message = {
        .type = type, .slot = to->slot, .generation = to->generation, .pid = pid, .status = status};
    (void)pf__control_send(zygote->control, &message, NULL, 0); /* EPIPE: the loop will see it */
}

static int make_room(struct zygote *zygote)
{
    if (zygote->count < zygote->room)
        return 0;
    size_t room = zygote->room * 2 + 16;
    struct child *children = realloc(zygote->children, room * sizeof *children);
    if (children == NULL)
        return -1;
    zygote->children = children;
    zygote->room = room;
    return 0;
}

/* One request, one fork: no newborn sees the descriptors of another. */
static int serve_spawn(struct zygote *zygote, const struct pf__message *request, int *fds)
{
    pid_t self = getpid();
    pid_t pid = make_room(zygote) < 0 ? -1 : zygote->fork(zygote->context);
    int error = errno;
    if (pid == 0) {
        close(zygote->control);
        if (zygote->watch >= 0)
            close(zygote->watch);
        free(zygote->children);
        (void)pf__process_turn(zygote->turn);
        pf__signals_restore(&zygote->ignored);
        zygote->born = pf__worker_open(request->slot, request->generation, fds, self);
        if (zygote->born == NULL)
            _exit(71); /* EX_OSERR: nobody but the exit status can say so */
        return NEWBORN;
    }
    for (int i = 0; i < PF_WORKER_FDS; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    if (pid < 0) {
        reply(zygote, PF_MESSAGE_FAILED, request, 0, error);
        return ON;
    }
    zygote->children[zygote->count++] =
        (struct child){.pid = pid, .slot = request->slot, .generation = request->generation};
    reply(zygote, PF_MESSAGE_SPAWNED, request, pid, 0);
    return ON;
}

static int serve_standby(struct zygote *zygote, const struct pf__message *request, int control)
{
    pid_t pid = make_room(zygote) < 0 ? -1 : zygote->fork(zygote->context);
    int error = errno;
    if (pid == 0) { /* the same loop, with a socket of its own and no children */
        close(zygote->control);
        zygote->control = control;
        zygote->watch = pf__process_watch_inherited(zygote->watch, zygote->application);
        zygote->count = 0;
        pf__process_name("prefork-zygote");
        return ON;
    }
    close(control);
    if (pid > 0)
        zygote->children[zygote->count++] = (struct child){.pid = pid, .slot = UINT32_MAX};
    reply(zygote, pid > 0 ? PF_MESSAGE_SPAWNED : PF_MESSAGE_FAILED, request, pid, error);
    return ON;
}

static void serve_reap(struct zygote *zygote, pid_t pid)
{
    for (size_t i = 0; i < zygote->count; i++) {
        if (zygote->children[i].pid != pid || !zygote->children[i].reported)
            continue;
        waitpid(pid, NULL, 0);
        zygote->children[i] = zygote->children[--zygote->count];
        return;
    }
}

static void serve_signal(const struct zygote *zygote, pid_t pid, int signal)
{
    for (size_t i = 0; i < zygote->count; i++)
        if (zygote->children[i].pid == pid)
            kill(pid, signal);
}

static int serve(struct zygote *zygote)
{
    struct pf__message request;
    int fds[PF_CONTROL_FDS];
    int count = pf__control_receive(zygote->control, &request, fds);
    if (count < 0 && errno == EMFILE) {
        reply(zygote, PF_MESSAGE_FAILED, &request, 0, EMFILE);
        return ON;
    }
    if (count < 0)
        return errno == EPIPE ? OVER : BROKEN;
    if (request.type == PF_MESSAGE_SPAWN && count == PF_FD_OUTPUT) /* nothing is captured */
        fds[count++] = -1;
    if (request.type == PF_MESSAGE_SPAWN && count == PF_WORKER_FDS)
        return serve_spawn(zygote, &request, fds);
    if (request.type == PF_MESSAGE_STANDBY && count == 1)
        return serve_standby(zygote, &request, fds[0]);
    while (count > 0)
        close(fds[--count]);
    if (request.type == PF_MESSAGE_REAP)
        serve_reap(zygote, request.pid);
    else if (request.type == PF_MESSAGE_SIGNAL)
        serve_signal(zygote, request.pid, request.status);
    return ON;
}

/* Looks without reaping: a pid that the application knows must not be given to somebody else. */
static void report_exits(struct zygote *zygote)
{
    for (size_t i = 0; i < zygote->count; i++) {
        struct child *child = &zygote->children[i];
        struct pf__message message = {.type = PF_MESSAGE_EXITED,
                                      .slot = child->slot,
                                      .generation = child->generation,
                                      .pid = child->pid};
        if (child->reported ||
            pf__process_ended(child->pid, &message.status, &message.peak_rss) <= 0)
            continue;
        child->reported = 1;
        (void)pf__control_send(zygote->control, &message, NULL, 0);
    }
}

static int application_is_gone(const struct zygote *zygote, const struct pollfd *watch)
{
    if (zygote->watch >= 0)
        return watch->revents != 0;
    return kill(zygote->application, 0) < 0 && errno == ESRCH;
}

/* The standby goes with us when we are let go, for so is it, and nobody else could reap it; but if
 * it is we who cannot go on, it is there to take over. */
static void end_children(struct zygote *zygote, int state)
{
    for (size_t i = 0; i < zygote->count; i++)
        if (state == OVER || zygote->children[i].slot != UINT32_MAX)
            kill(zygote->children[i].pid, SIGKILL);
    for (size_t i = 0; i < zygote->count; i++)
        if (state == OVER || zygote->children[i].slot != UINT32_MAX)
            waitpid(zygote->children[i].pid, NULL, 0);
    free(zygote->children);
}

int pf_zygote_run(int control, pid_t application, pf_fork fork, void *context, pf_worker **worker)
{
    struct zygote zygote = {
        .control = control, .application = application, .fork = fork, .context = context};
    sigset_t all_but_child;
    sigfillset(&all_but_child);
    sigprocmask(SIG_SETMASK, &all_but_child, NULL);
    sigdelset(&all_but_child, SIGCHLD);
    pf__signals_deafen(&zygote.ignored);
    pf__process_name("prefork-zygote");
    /* However busy its workers keep the processors, it is there when one of them, or the
     * application, has died. */
    zygote.turn = pf__process_turn(TURN);
    zygote.watch = pf__process_watch(application);
    int state = ON;
    while (state == ON) {
        struct pollfd fds[2] = {{.fd = zygote.control, .events = POLLIN},
                                {.fd = zygote.watch, .events = POLLIN}};
        /* SIGCHLD gets through here and only here, so none can be missed. */
        int ready = pf__poll_unmasked(fds, 2, zygote.watch >= 0 ? -1 : SECOND, &all_but_child);
        if (ready < 0 && errno != EINTR) {
            state = BROKEN;
            break;
        }
        report_exits(&zygote);
        if (ready > 0 && fds[0].revents != 0)
            state = serve(&zygote);
        else if (ready >= 0 && application_is_gone(&zygote, &fds[1]))
            state = OVER;
    }
    if (state == NEWBORN) {
        *worker = zygote.born;
        return 1;
    }
    end_children(&zygote, state);
    return 0;
}
