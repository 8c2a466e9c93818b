/* The zygote over its control socket, with plain fork(). */
#define _GNU_SOURCE
#include "control.h"
#include "crashlog.h"
#include "platform.h"
#include "runner.h"
#include "worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATIENCE_MS = 10000 };

static pid_t plain_fork(void *context)
{
    (void)context;
    return fork();
}

struct birth { /* the application's side of one worker */
    struct pf__scoreboard board;
    struct pf__channel channel;
};

static struct pf__ring ring;

/* The newborn sleeps till RETIRE, then exits with 7; ended otherwise, it is by a signal. */
static void live(pf_worker *worker)
{
    pf_claim claim;
    pf_worker_unblock(worker);
    if (pf_worker_ready(worker) < 0)
        _exit(1);
    while (pf_worker_claim(worker, &claim) == 0)
        if (pf_worker_wait(worker) < 0 && errno != EINTR)
            _exit(2);
    _exit(7);
}

static int start_zygote(pid_t *pid)
{
    int ends[2];
    pid_t application = getpid();
    sigset_t all, before;
    if (ring.pool == NULL)
        CHECK_EQ(pf__ring_create(&ring, 64, 256), 0);
    CHECK_EQ(pf__socketpair(ends), 0);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    *pid = fork();
    CHECK(*pid >= 0);
    if (*pid == 0) {
        pf_worker *worker;
        close(ends[0]);
        if (pf_zygote_run(ends[1], application, plain_fork, NULL, &worker) == 0)
            _exit(0);
        live(worker);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    close(ends[1]);
    return ends[0];
}

static void order(int control, uint32_t slot, struct birth *birth)
{
    int to[2], from[2];
    CHECK_EQ(pf__scoreboard_create(&birth->board, 4096, UINT32_MAX), 0);
    CHECK(pf__pipe(to) == 0 && pf__pipe(from) == 0);
    struct pf__crashlog crash;
    CHECK_EQ(pf__crashlog_create(&crash), 0);
    struct pf__history history;
    CHECK_EQ(pf__history_create(&history, slot + 1), 0);
    int fds[PF_WORKER_FDS] = {[PF_FD_TASKS] = ring.pool_fd,
                              [PF_FD_WORDS] = ring.words_fd,
                              [PF_FD_BOARD] = birth->board.fd,
                              [PF_FD_HISTORY] = history.fd,
                              [PF_FD_IN] = to[0],
                              [PF_FD_OUT] = from[1],
                              [PF_FD_CRASH] = crash.fd};
    struct pf__message request = {.type = PF_MESSAGE_SPAWN, .slot = slot, .generation = slot + 1};
    CHECK_EQ(pf__control_send(control, &request, fds, PF_FD_OUTPUT), 0);
    close(to[0]);
    close(from[1]);
    pf__crashlog_close(&crash);
    pf__history_close(&history);
    close(history.fd);
    CHECK_EQ(pf__channel_open(&birth->channel, from[0], to[1], 1 << 20), 0);
}

static void give_up(struct birth *birth)
{
    pf__channel_close(&birth->channel);
    pf__scoreboard_close(&birth->board);
}

static struct pf__message hear(int control)
{
    struct pf__message message;
    struct pollfd fd = {.fd = control, .events = POLLIN};
    int fds[PF_CONTROL_FDS];
    CHECK_EQ(poll(&fd, 1, PATIENCE_MS), 1);
    CHECK_EQ(pf__control_receive(control, &message, fds), 0);
    return message;
}

static pid_t spawn(int control, uint32_t slot, struct birth *birth)
{
    order(control, slot, birth);
    struct pf__message message = hear(control);
    CHECK_EQ(message.type, PF_MESSAGE_SPAWNED);
    CHECK(message.slot == slot && message.generation == slot + 1 && message.pid > 0);
    struct pollfd fd = {.fd = birth->channel.in, .events = POLLIN};
    CHECK_EQ(poll(&fd, 1, PATIENCE_MS), 1);
    struct pf__frame frame;
    unsigned char *body;
    size_t budget = SIZE_MAX;
    CHECK_EQ(pf__channel_receive(&birth->channel, &frame, &body, &budget), 1);
    CHECK_EQ(frame.type, PF_FRAME_UP);
    CHECK_EQ(atomic_load(&birth->board.segment->pid), message.pid);
    return message.pid;
}

static char state_of(pid_t pid)
{
    char path[64], text[256];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    const char *end = strrchr(text, ')');
    return end != NULL ? end[2] : 0;
}

/* Gone, or a zombie that nobody has reaped yet. */
static void await_end(pid_t pid)
{
    for (int i = 0; i < PATIENCE_MS; i++) {
        char state = state_of(pid);
        if (state == 0 || state == 'Z')
            return;
        usleep(1000);
    }
    CHECK(!"it lives on");
}

TEST(an_exit_is_reported_and_reaped_only_when_acknowledged)
{
    pid_t zygote;
    struct birth birth;
    int control = start_zygote(&zygote);
    pid_t pid = spawn(control, 3, &birth);
    atomic_store(&birth.board.segment->control, PF_CTL_RETIRE);
    struct pf__frame bell;
    pf__frame_init(&bell, PF_FRAME_BELL, 0, 0);
    CHECK_EQ(pf__channel_send(&birth.channel, &bell, NULL, NULL, NULL), 0);
    struct pf__message message = hear(control);
    CHECK_EQ(message.type, PF_MESSAGE_EXITED);
    CHECK(message.pid == pid && message.slot == 3 && message.generation == 4);
    CHECK(WIFEXITED(message.status) && WEXITSTATUS(message.status) == 7);
    usleep(50000);
    CHECK_EQ(state_of(pid), 'Z');
    struct pf__message reap = {.type = PF_MESSAGE_REAP, .pid = pid};
    CHECK_EQ(pf__control_send(control, &reap, NULL, 0), 0);
    for (int i = 0; i < PATIENCE_MS && state_of(pid) != 0; i++)
        usleep(1000);
    CHECK_EQ(state_of(pid), 0);
    give_up(&birth);
    close(control);
    CHECK(waitpid(zygote, NULL, 0) == zygote);
}

TEST(a_zygote_sends_a_signal_to_a_child_of_its_own)
{
    pid_t zygote;
    struct birth birth;
    int control = start_zygote(&zygote);
    pid_t pid = spawn(control, 1, &birth), other = fork();
    CHECK(other >= 0);
    if (other == 0)
        for (;;)
            pause();
    pid_t targets[] = {other, 0, -1, pid};
    for (int i = 0; i < 4; i++) {
        struct pf__message kills = {
            .type = PF_MESSAGE_SIGNAL, .pid = targets[i], .status = SIGKILL};
        CHECK_EQ(pf__control_send(control, &kills, NULL, 0), 0);
    }
    struct pf__message message = hear(control);
    CHECK(message.type == PF_MESSAGE_EXITED && message.pid == pid);
    CHECK(WIFSIGNALED(message.status) && WTERMSIG(message.status) == SIGKILL);
    CHECK(waitpid(other, NULL, WNOHANG) == 0 && kill(other, SIGKILL) == 0);
    CHECK(waitpid(other, NULL, 0) == other);
    give_up(&birth);
    close(control);
    CHECK(waitpid(zygote, NULL, 0) == zygote);
}

TEST(a_killed_worker_is_reported_with_its_signal)
{
    pid_t zygote;
    struct birth births[3];
    pid_t pids[3];
    int control = start_zygote(&zygote);
    for (uint32_t i = 0; i < 3; i++)
        pids[i] = spawn(control, i, &births[i]);
    kill(pids[1], SIGKILL);
    struct pf__message message = hear(control);
    CHECK(message.type == PF_MESSAGE_EXITED && message.pid == pids[1]);
    CHECK(WIFSIGNALED(message.status) && WTERMSIG(message.status) == SIGKILL);
    /* The application goes without a word: no worker may stay. */
    close(control);
    CHECK(waitpid(zygote, NULL, 0) == zygote);
    CHECK(kill(pids[0], 0) < 0 && kill(pids[2], 0) < 0);
    for (int i = 0; i < 3; i++)
        give_up(&births[i]);
}

TEST(workers_die_with_a_killed_zygote)
{
    pid_t zygote;
    struct birth births[2];
    int control = start_zygote(&zygote);
    pid_t a = spawn(control, 0, &births[0]), b = spawn(control, 1, &births[1]);
    kill(zygote, SIGKILL);
    CHECK(waitpid(zygote, NULL, 0) == zygote);
    await_end(a);
    await_end(b);
    give_up(&births[0]);
    give_up(&births[1]);
    close(control);
}

TEST(no_signal_but_kill_ends_a_zygote)
{
    pid_t zygote;
    struct birth birth;
    int control = start_zygote(&zygote);
    spawn(control, 0, &birth); /* it has its handlers by now */
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGPIPE, SIGALRM};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        kill(zygote, signals[i]);
    struct birth another;
    spawn(control, 1, &another);
    close(control);
    int status;
    CHECK(waitpid(zygote, &status, 0) == zygote && status == 0);
    give_up(&birth);
    give_up(&another);
}

TEST(the_standby_serves_when_asked)
{
    pid_t zygote;
    int control = start_zygote(&zygote), ends[2];
    struct pf__message request = {.type = PF_MESSAGE_STANDBY, .slot = UINT32_MAX};
    CHECK_EQ(pf__socketpair(ends), 0);
    CHECK_EQ(pf__control_send(control, &request, &ends[1], 1), 0);
    close(ends[1]);
    struct pf__message message = hear(control);
    CHECK(message.type == PF_MESSAGE_SPAWNED && message.slot == UINT32_MAX);
    pid_t standby = message.pid;
    kill(zygote, SIGKILL);
    CHECK(waitpid(zygote, NULL, 0) == zygote);
    struct birth birth;
    pid_t pid = spawn(ends[0], 5, &birth);
    close(control);
    close(ends[0]);
    await_end(standby);
    await_end(pid);
    give_up(&birth);
}

TEST(without_descriptors_a_spawn_fails_and_the_zygote_stays)
{
    pid_t zygote;
    int control = start_zygote(&zygote);
    struct birth birth, failing;
    spawn(control, 0, &birth);
    /* Room for no more than two: the packet's five do not fit. */
    struct rlimit before, few = {8, 8};
    CHECK_EQ(prlimit(zygote, RLIMIT_NOFILE, NULL, &before), 0);
    few.rlim_max = before.rlim_max;
    CHECK_EQ(prlimit(zygote, RLIMIT_NOFILE, &few, NULL), 0);
    order(control, 1, &failing);
    struct pf__message message = hear(control);
    CHECK_EQ(message.type, PF_MESSAGE_FAILED);
    CHECK(message.slot == 1 && message.generation == 2 && message.status == EMFILE);
    give_up(&failing);
    CHECK_EQ(prlimit(zygote, RLIMIT_NOFILE, &before, NULL), 0);
    spawn(control, 1, &failing);
    give_up(&failing);
    give_up(&birth);
    close(control);
    CHECK(waitpid(zygote, NULL, 0) == zygote);
}
