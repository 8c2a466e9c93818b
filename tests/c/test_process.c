/* What every system's process file promises to the core. */
#define _GNU_SOURCE
#include "process.h"
#include "platform.h"
#include "runner.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static int speaking; /* to whom a process that is not deaf says so */

static void say_so(int number)
{
    (void)number;
    (void)!write(speaking, "", 1);
}

static void *listen_to_alarms(void *fd)
{
    sigset_t alarm_only;
    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    speaking = *(int *)fd;
    signal(SIGALRM, say_so);
    pthread_sigmask(SIG_UNBLOCK, &alarm_only, NULL);
    for (;;)
        pause();
    return NULL;
}

static int readable(int fd, int timeout)
{
    struct pollfd poller = {.fd = fd, .events = POLLIN};
    return poll(&poller, 1, timeout) == 1;
}

/* Lives until `hold` closes. */
static pid_t start(int hold[2])
{
    char byte;
    CHECK_EQ(pf__pipe(hold), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(hold[1]);
        _exit(read(hold[0], &byte, 1) == 0 ? 0 : 1);
    }
    close(hold[0]);
    return pid;
}

TEST(a_watch_tells_of_the_end_before_and_after_it)
{
    int hold[2];
    pid_t pid = start(hold);
    int watch = pf__process_watch(pid);
    CHECK(watch >= 0 && !readable(watch, 0));
    CHECK(fcntl(watch, F_GETFD) & FD_CLOEXEC);
    CHECK_EQ(pf__process_reap(watch, pid, 0), 0);
    pid_t copy = fork();
    if (copy == 0) {
        int own = pf__process_watch_inherited(watch, pid);
        CHECK(own >= 0 && !readable(own, 0));
        close(hold[1]);
        CHECK(readable(own, 10000));
        _exit(0);
    }
    close(hold[1]);
    int status;
    CHECK(waitpid(copy, &status, 0) == copy && status == 0);
    CHECK(readable(watch, 10000) && readable(watch, 0)); /* and stays so */
    int late = pf__process_watch(pid);
    CHECK(late >= 0 && readable(late, 0)); /* not reaped yet */
    CHECK_EQ(pf__process_reap(watch, pid, 1), 1);
    CHECK(pf__process_watch(pid) == -1 && errno == ESRCH);
    CHECK(pf__process_signal(watch, pid, SIGKILL) == -1 && errno == ESRCH);
    close(late);
    close(watch);
}

TEST(a_child_dies_with_its_parent)
{
    int alive[2];
    char byte = 'x';
    CHECK_EQ(pf__pipe(alive), 0);
    pid_t parent = fork();
    if (parent == 0) {
        pid_t self = getpid();
        if (fork() == 0) {
            CHECK_EQ(pf__process_die_with(self), 0);
            CHECK_EQ(pf__pipe_write(alive[1], &byte, 1), 1);
        }
        for (;;)
            pause();
    }
    close(alive[1]);
    CHECK_EQ(read(alive[0], &byte, 1), 1);
    CHECK(!readable(alive[0], 10));
    kill(parent, SIGKILL);
    CHECK(waitpid(parent, NULL, 0) == parent);
    CHECK(readable(alive[0], 10000));
    CHECK_EQ(read(alive[0], &byte, 1), 0);
    close(alive[0]);
}

/* Nobody would tell it any more. */
TEST(a_child_that_has_lost_its_parent_already_is_told_so)
{
    int hold[2], said[2];
    char byte = 0;
    CHECK(pf__pipe(hold) == 0 && pf__pipe(said) == 0);
    pid_t parent = fork();
    if (parent == 0) {
        pid_t self = getpid();
        if (fork() == 0) {
            close(hold[1]);
            CHECK_EQ(read(hold[0], &byte, 1), 0);
            byte = pf__process_die_with(self) == -1 && errno == ESRCH ? 'y' : 'n';
            CHECK_EQ(pf__pipe_write(said[1], &byte, 1), 1);
        }
        _exit(0);
    }
    CHECK(waitpid(parent, NULL, 0) == parent);
    close(hold[1]);
    CHECK(read(said[0], &byte, 1) == 1 && byte == 'y');
    close(hold[0]);
    close(said[0]);
    close(said[1]);
}

TEST(a_process_is_its_parents_until_it_is_reaped)
{
    CHECK_EQ(pf__process_parent(getpid()), getppid());
    pid_t pid = fork();
    if (pid == 0)
        _exit(pf__process_parent(getpid()) == getppid() ? 0 : 1);
    siginfo_t info;
    CHECK(pid > 0 && waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) == 0);
    CHECK(info.si_status == 0 && pf__process_parent(pid) == getpid());
    CHECK(waitpid(pid, NULL, 0) == pid && pf__process_parent(pid) == 0);
}

TEST(who_blocks_a_signal_in_every_thread_is_deaf_to_it)
{
    int to[2], from[2];
    char byte = 0;
    CHECK(pf__pipe(to) == 0 && pf__pipe(from) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        sigset_t both;
        sigemptyset(&both);
        sigaddset(&both, SIGALRM);
        sigaddset(&both, SIGUSR1);
        sigprocmask(SIG_BLOCK, &both, NULL);
        (void)!write(from[1], &byte, 1);
        (void)!read(to[0], &byte, 1);
        pthread_t other;
        pthread_create(&other, NULL, listen_to_alarms, &from[1]);
        pause();
    }
    CHECK(pid > 0 && read(from[0], &byte, 1) == 1);
    CHECK(!pf__process_is_deaf(pid, SIGALRM)); /* none was sent */
    CHECK_EQ(kill(pid, SIGALRM), 0);
#ifdef __linux__
    CHECK(pf__process_is_deaf(pid, SIGALRM));
#endif
    CHECK(!pf__process_is_deaf(pid, SIGUSR1) && !pf__process_is_deaf(pid, SIGUSR2));
    CHECK(write(to[1], &byte, 1) == 1 && read(from[0], &byte, 1) == 1);
    CHECK(!pf__process_is_deaf(pid, SIGALRM)); /* another thread has let it in */
    CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid);
    CHECK(!pf__process_is_deaf(pid, SIGALRM));
    for (int i = 0; i < 2; i++) {
        close(to[i]);
        close(from[i]);
    }
}

TEST(a_short_turn_on_the_processor_can_be_given_back)
{
    const uint64_t little = 100000;
    uint64_t before = pf__process_turn(little);
    uint64_t found = pf__process_turn(before);
    CHECK(found == little || found == before); /* before Linux 6.12 there is nothing to be said */
    CHECK_EQ(pf__process_turn(before), before);
}
