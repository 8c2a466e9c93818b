/* The poll: what is level-triggered, what wakes, what a removed descriptor no longer does. */
#define _GNU_SOURCE
#include "platform.h"
#include "poll.h"
#include "runner.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int64_t ms(int64_t n)
{
    return n * 1000000;
}

static int readable(const struct pf__poll *poller)
{
    struct pollfd fd = {.fd = pf__poll_fd(poller), .events = POLLIN};
    return poll(&fd, 1, 0) == 1;
}

TEST(level_triggered_until_read)
{
    struct pf__poll *poller = pf__poll_open();
    struct pf__poll_event events[4];
    int ends[2];
    char byte = 'x';
    CHECK(poller != NULL && pipe(ends) == 0);
    CHECK_EQ(pf__poll_add(poller, ends[0], PF_POLL_READ, 42), 0);
    CHECK_EQ(pf__poll_wait(poller, events, 4, 0), 0);
    CHECK(!readable(poller));
    CHECK_EQ(write(ends[1], &byte, 1), 1);
    for (int i = 0; i < 3; i++) {
        CHECK(readable(poller));
        CHECK_EQ(pf__poll_wait(poller, events, 4, -1), 1);
        CHECK(events[0].key == 42 && events[0].what == PF_POLL_READ);
    }
    CHECK_EQ(read(ends[0], &byte, 1), 1);
    CHECK_EQ(pf__poll_wait(poller, events, 4, ms(1)), 0);
    close(ends[1]);
    CHECK_EQ(pf__poll_wait(poller, events, 4, 0), 1); /* the end is something to read, too */
    CHECK(events[0].what & PF_POLL_READ);
    CHECK_EQ(pf__poll_remove(poller, ends[0]), 0);
    CHECK_EQ(pf__poll_wait(poller, events, 4, 0), 0);
    close(ends[0]);
    pf__poll_close(poller);
}

TEST(change_and_silence)
{
    struct pf__poll *poller = pf__poll_open();
    struct pf__poll_event events[4];
    int ends[2];
    CHECK(poller != NULL && pipe(ends) == 0);
    CHECK_EQ(pf__poll_add(poller, ends[1], 0, 7), 0);
    CHECK_EQ(pf__poll_wait(poller, events, 4, 0), 0);
    CHECK_EQ(pf__poll_change(poller, ends[1], PF_POLL_WRITE, 8), 0);
    CHECK_EQ(pf__poll_wait(poller, events, 4, 0), 1);
    CHECK(events[0].key == 8 && events[0].what == PF_POLL_WRITE);
    CHECK_EQ(pf__poll_change(poller, ends[1], 0, 8), 0);
    CHECK_EQ(pf__poll_wait(poller, events, 4, 0), 0);
    CHECK_EQ(pf__poll_add(poller, ends[1], 0, 8), -1);
    CHECK_EQ(errno, EEXIST);
    CHECK_EQ(pf__poll_remove(poller, ends[1]), 0);
    CHECK_EQ(pf__poll_remove(poller, ends[1]), -1);
    close(ends[0]);
    close(ends[1]);
    pf__poll_close(poller);
}

TEST(timer_fires_once_and_in_time)
{
    struct pf__poll *poller = pf__poll_open();
    struct pf__poll_event events[4];
    int64_t start = pf__now();
    CHECK_EQ(pf__poll_timer(poller, start + ms(20)), 0);
    CHECK_EQ(pf__poll_wait(poller, events, 4, -1), 1);
    CHECK(events[0].key == PF_POLL_TIMER);
    CHECK(pf__now() >= start + ms(20));
    CHECK_EQ(pf__poll_wait(poller, events, 4, ms(5)), 0);
    CHECK_EQ(pf__poll_timer(poller, start), 0); /* in the past: at once */
    CHECK_EQ(pf__poll_wait(poller, events, 4, -1), 1);
    CHECK_EQ(pf__poll_timer(poller, 0), 0);
    CHECK_EQ(pf__poll_wait(poller, events, 4, -1), 1);
    CHECK_EQ(pf__poll_timer(poller, pf__now() + ms(5)), 0);
    CHECK_EQ(pf__poll_timer(poller, INT64_MAX), 0);
    CHECK_EQ(pf__poll_wait(poller, events, 4, ms(20)), 0);
    pf__poll_close(poller);
}

TEST(a_wait_is_never_too_short)
{
    struct pf__poll *poller = pf__poll_open();
    struct pf__poll_event events[4];
    for (int64_t ns = 1; ns < ms(8); ns = ns * 3 + 1) {
        int64_t start = pf__now();
        CHECK_EQ(pf__poll_wait(poller, events, 4, ns), 0);
        CHECK(pf__now() - start >= ns);
    }
    pf__poll_close(poller);
}

static void *wake_soon(void *argument)
{
    usleep(20000);
    pf__poll_wake(argument);
    return NULL;
}

TEST(wake_from_a_thread)
{
    struct pf__poll *poller = pf__poll_open();
    struct pf__poll_event events[4];
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, wake_soon, poller), 0);
    CHECK_EQ(pf__poll_wait(poller, events, 4, -1), 1);
    CHECK(events[0].key == PF_POLL_WAKE);
    pthread_join(thread, NULL);
    CHECK_EQ(pf__poll_wait(poller, events, 4, 0), 0);
    pf__poll_wake(poller); /* several are one */
    pf__poll_wake(poller);
    CHECK(readable(poller));
    CHECK_EQ(pf__poll_wait(poller, events, 4, 0), 1);
    CHECK(!readable(poller));
    pf__poll_close(poller);
}

static void on_alarm(int number)
{
    (void)number;
}

TEST(a_signal_handler_interrupts)
{
    struct pf__poll *poller = pf__poll_open();
    struct pf__poll_event events[4];
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_alarm;
    action.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &action, NULL);
    ualarm(20000, 0);
    CHECK_EQ(pf__poll_wait(poller, events, 4, -1), -1);
    CHECK_EQ(errno, EINTR);
    pf__poll_close(poller);
}

/* Remove, then close: a forked process that holds a copy must not make it fire. */
TEST(a_forked_copy_of_a_removed_descriptor_is_silent)
{
    struct pf__poll *poller = pf__poll_open();
    struct pf__poll_event events[4];
    int ends[2], hold[2];
    char byte = 'x';
    CHECK(pipe(ends) == 0 && pipe(hold) == 0);
    CHECK_EQ(pf__poll_add(poller, ends[0], PF_POLL_READ, 1), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(hold[1]);
        _exit(read(hold[0], &byte, 1) == 0 ? 0 : 1);
    }
    CHECK_EQ(write(ends[1], &byte, 1), 1);
    CHECK_EQ(pf__poll_wait(poller, events, 4, 0), 1);
    CHECK_EQ(pf__poll_remove(poller, ends[0]), 0);
    close(ends[0]);
    CHECK_EQ(pf__poll_wait(poller, events, 4, ms(5)), 0);
    CHECK(!readable(poller));
    close(hold[1]);
    CHECK(waitpid(pid, NULL, 0) == pid);
    close(ends[1]);
    close(hold[0]);
    pf__poll_close(poller);
}
