/* What every system's platform file promises to the core. */
#define _GNU_SOURCE
#include "control.h"
#include "platform.h"
#include "runner.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const int64_t ms = 1000000;

static volatile sig_atomic_t alarms;

static void on_alarm(int number)
{
    (void)number;
    alarms++;
}

static void handle_alarm(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_alarm;
    sigaction(SIGALRM, &action, NULL);
}

/* ---- semaphores ---------------------------------------------------------------------------- */

TEST(a_semaphore_counts_and_keeps_its_time)
{
    struct pf__semaphore *semaphore = pf__semaphore_new();
    CHECK(semaphore != NULL);
    pf__semaphore_post(semaphore);
    pf__semaphore_post(semaphore);
    CHECK_EQ(pf__semaphore_wait(semaphore, -1), 0);
    CHECK_EQ(pf__semaphore_wait(semaphore, 0), 0);
    CHECK(pf__semaphore_wait(semaphore, 0) == -1 && errno == ETIMEDOUT);
    for (int64_t ns = 1; ns < 30 * ms; ns = ns * 7 + 1) {
        int64_t start = pf__now();
        CHECK(pf__semaphore_wait(semaphore, ns) == -1 && errno == ETIMEDOUT);
        CHECK(pf__now() - start >= ns);
    }
    pf__semaphore_free(semaphore);
    pf__semaphore_free(NULL);
}

TEST(a_signal_ends_the_wait_for_a_semaphore)
{
    struct pf__semaphore *semaphore = pf__semaphore_new();
    handle_alarm();
    ualarm(20000, 0);
    CHECK(pf__semaphore_wait(semaphore, -1) == -1 && errno == EINTR);
    ualarm(20000, 0);
    CHECK(pf__semaphore_wait(semaphore, 10000 * ms) == -1 && errno == EINTR);
    pf__semaphore_free(semaphore);
}

/* ---- pipes and sockets --------------------------------------------------------------------- */

TEST(processors_are_those_that_may_be_used)
{
    uint32_t all = pf__processors();
    CHECK(all >= 1);
#ifdef __linux__
    cpu_set_t before, one;
    CHECK_EQ(sched_getaffinity(0, sizeof before, &before), 0);
    CHECK_EQ((uint32_t)CPU_COUNT(&before), all);
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    CHECK_EQ(sched_setaffinity(0, sizeof one, &one), 0);
    CHECK_EQ(pf__processors(), 1);
    CHECK_EQ(sched_setaffinity(0, sizeof before, &before), 0);
#endif
}

TEST(a_pipe_without_reader_raises_no_signal)
{
    int ends[2];
    CHECK_EQ(pf__pipe(ends), 0);
    CHECK(fcntl(ends[0], F_GETFD) & fcntl(ends[1], F_GETFD) & FD_CLOEXEC);
    close(ends[0]);
    signal(SIGPIPE, SIG_DFL);
    CHECK(pf__pipe_write(ends[1], "x", 1) == -1 && errno == EPIPE);
    close(ends[1]);
}

TEST(messages_arrive_one_by_one_with_their_descriptors)
{
    int ends[2], pipes[2], fds[PF_CONTROL_FDS];
    char byte = 0;
    CHECK(pf__socketpair(ends) == 0 && pf__pipe(pipes) == 0);
    CHECK(fcntl(ends[0], F_GETFD) & fcntl(ends[1], F_GETFD) & FD_CLOEXEC);
    for (int i = 0; i < 6; i++) {
        struct pf__message message = {.type = PF_MESSAGE_SPAWN, .slot = (uint32_t)i};
        CHECK_EQ(pf__control_send(ends[0], &message, pipes, i % 3), 0);
    }
    for (int i = 0; i < 6; i++) {
        struct pf__message message;
        CHECK_EQ(pf__control_receive(ends[1], &message, fds), i % 3);
        CHECK_EQ(message.slot, i);
        for (int j = 0; j < i % 3; j++)
            CHECK(fcntl(fds[j], F_GETFD) & FD_CLOEXEC);
        if (i % 3 == 2) {
            CHECK(write(fds[1], "y", 1) == 1 && read(pipes[0], &byte, 1) == 1 && byte == 'y');
            close(fds[1]);
        }
        if (i % 3 > 0)
            close(fds[0]);
    }
    close(ends[0]);
    struct pf__message message;
    CHECK(pf__control_receive(ends[1], &message, fds) == -1 && errno == EPIPE);
    message.type = PF_MESSAGE_REAP;
    signal(SIGPIPE, SIG_DFL);
    CHECK(pf__control_send(ends[1], &message, NULL, 0) == -1 && errno == EPIPE);
    close(ends[1]);
    close(pipes[0]);
    close(pipes[1]);
}

TEST(an_end_that_is_closed_with_messages_unread_is_an_end)
{
    int ends[2], fds[PF_CONTROL_FDS];
    struct pf__message message = {.type = PF_MESSAGE_EXITED};
    CHECK_EQ(pf__socketpair(ends), 0);
    CHECK_EQ(pf__control_send(ends[1], &message, NULL, 0), 0);
    close(ends[0]);
    CHECK(pf__control_receive(ends[1], &message, fds) == -1 && errno == EPIPE);
    close(ends[1]);
}

TEST(a_poll_lets_signals_in_and_nobody_else_does)
{
    int ends[2];
    sigset_t alarm_only, before, none;
    sigemptyset(&none);
    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    handle_alarm();
    CHECK_EQ(pf__pipe(ends), 0);
    struct pollfd fds[2] = {{.fd = ends[0], .events = POLLIN}, {.fd = -1, .events = POLLIN}};
    sigprocmask(SIG_BLOCK, &alarm_only, &before);
    raise(SIGALRM);
    CHECK_EQ(pf__poll_unmasked(fds, 2, 0, &alarm_only), 0);
    CHECK_EQ(alarms, 0);
    CHECK(pf__poll_unmasked(fds, 2, -1, &none) == -1 && errno == EINTR);
    CHECK_EQ(alarms, 1);
    int64_t start_at = pf__now();
    CHECK_EQ(pf__poll_unmasked(fds, 2, 5 * ms, &none), 0);
    CHECK(pf__now() - start_at >= 5 * ms);
    CHECK_EQ(write(ends[1], "x", 1), 1);
    CHECK_EQ(pf__poll_unmasked(fds, 2, -1, &none), 1);
    CHECK(fds[0].revents != 0 && fds[1].revents == 0);
    close(ends[0]);
    close(ends[1]);
}

TEST(a_descriptor_that_goes_up_is_the_same)
{
    int ends[2];
    char byte = 'x';
    CHECK_EQ(pf__pipe(ends), 0);
    int up = pf__descriptor_up(ends[0]);
    CHECK(up > ends[1]);
    CHECK_EQ(fcntl(up, F_GETFD), FD_CLOEXEC);
    CHECK_EQ(fcntl(ends[0], F_GETFD), -1);
    CHECK_EQ(write(ends[1], &byte, 1), 1);
    CHECK_EQ(read(up, &byte, 1), 1);
    close(up);
    close(ends[1]);
}
