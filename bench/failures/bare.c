/* The floor of the failure benches: what the kernel alone takes, without a pool.
 *
 * One round for each line that comes; each writes one line of nanoseconds.
 *   bare loss          a child at work; writes its pid, and when its end was known (waitid)
 *   bare overrun MS    a timer of so many ms, beside a child at work; how late it was
 *   bare family N HOW  N children at work (spin) or asleep (sleep); how long all their ends took */
#define _GNU_SOURCE
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void check(int held, const char *what)
{
    if (held)
        return;
    perror(what);
    exit(1);
}

static void be_busy(int spins)
{
    volatile uint64_t work = 0;
    while (spins)
        work++;
    while (pause() < 0)
        ;
}

/* A child that says by a byte that it is at work, and ends with us. */
static pid_t fork_child(int spins)
{
    int ends[2];
    char byte = 0;
    check(pipe(ends) == 0, "pipe");
    pid_t pid = fork();
    check(pid >= 0, "fork");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        check(write(ends[1], &byte, 1) == 1, "write");
        close(ends[0]);
        close(ends[1]);
        be_busy(spins);
    }
    check(read(ends[0], &byte, 1) == 1, "read");
    close(ends[0]);
    close(ends[1]);
    return pid;
}

static void loss(void)
{
    pid_t pid = fork_child(1);
    struct pollfd watch = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
    siginfo_t info;
    check(watch.fd >= 0, "pidfd_open");
    printf("%d\n", (int)pid);
    fflush(stdout);
    check(poll(&watch, 1, -1) == 1, "poll");
    check(waitid(P_PID, (id_t)pid, &info, WEXITED) == 0, "waitid");
    printf("%lld\n", (long long)now());
    close(watch.fd);
}

static void overrun(int64_t limit)
{
    pid_t pid = fork_child(1);
    int timer = timerfd_create(CLOCK_MONOTONIC, 0);
    int64_t due = now() + limit;
    uint64_t expirations;
    struct itimerspec spec = {
        .it_value = {.tv_sec = due / 1000000000, .tv_nsec = due % 1000000000}};
    check(timer >= 0, "timerfd_create");
    check(timerfd_settime(timer, TFD_TIMER_ABSTIME, &spec, NULL) == 0, "timerfd_settime");
    check(read(timer, &expirations, sizeof expirations) > 0, "read");
    int64_t late = now() - due;
    close(timer);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    printf("%lld\n", (long long)late);
}

static void family(int count, int spins)
{
    pid_t *pids = calloc((size_t)count, sizeof *pids);
    check(pids != NULL, "calloc");
    for (int i = 0; i < count; i++)
        pids[i] = fork_child(spins);
    usleep(100000); /* for all to be at it */
    int64_t begun = now();
    for (int i = 0; i < count; i++)
        kill(pids[i], SIGKILL);
    for (int i = 0; i < count; i++)
        check(waitpid(pids[i], NULL, 0) == pids[i], "waitpid");
    printf("%lld\n", (long long)(now() - begun));
    free(pids);
}

int main(int argc, char **argv)
{
    char line[16];
    while (argc > 1 && fgets(line, sizeof line, stdin) != NULL) {
        if (strcmp(argv[1], "loss") == 0)
            loss();
        else if (strcmp(argv[1], "overrun") == 0 && argc > 2)
            overrun(atoll(argv[2]) * 1000000);
        else if (strcmp(argv[1], "family") == 0 && argc > 3)
            family(atoi(argv[2]), strcmp(argv[3], "spin") == 0);
        else
            return 2;
        fflush(stdout);
    }
    return 0;
}
