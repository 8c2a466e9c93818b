/* Runs the tests that registered themselves; see runner.h. */
#define _GNU_SOURCE
#include "runner.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SLOWER = 8 };
#else
enum { SLOWER = 1 };
#endif

enum { GRACE_MS = 2000 }; /* for what a test has killed to end */

static struct test *first, **last = &first;

void test_register(struct test *test)
{
    *last = test;
    last = &test->next;
}

void test_fail(const char *file, int line, const char *what)
{
    int error = errno;
    fprintf(stderr, "%s:%d: %s (errno: %s)\n", file, line, what, strerror(error));
    _exit(1);
}

void test_fail_eq(const char *file, int line, const char *what, long long a, long long b)
{
    int error = errno;
    fprintf(stderr, "%s:%d: %s: %lld, %lld (errno: %s)\n", file, line, what, a, b, strerror(error));
    _exit(1);
}

static void pause_ms(long ms)
{
    struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

/* We are the subreaper, so whatever a test leaves behind becomes our child. 1 if all is gone. */
static int nothing_left(void)
{
    for (int waited = 0; waited < GRACE_MS * SLOWER; waited++) {
        pid_t got;
        while ((got = waitpid(-1, NULL, WNOHANG)) > 0)
            ;
        if (got < 0 && errno == ECHILD)
            return 1;
        pause_ms(1);
    }
    return 0;
}

/* The test and all below it, also those that left its group: the children of one that is killed
 * become ours, and are found in the next round. */
static void kill_rest(pid_t group)
{
    char path[64];
    kill(-group, SIGKILL); /* all there is where the kernel lists no children */
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    for (int round = 0; round < 5000; round++) {
        int child;
        FILE *children = fopen(path, "re");
        while (children != NULL && fscanf(children, "%d", &child) == 1)
            kill(child, SIGKILL);
        if (children != NULL)
            fclose(children);
        pid_t got;
        while ((got = waitpid(-1, NULL, WNOHANG)) > 0)
            ;
        if (got < 0 && errno == ECHILD)
            return;
        pause_ms(1);
    }
}

static int wait_for(pid_t pid, int seconds, int *status)
{
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (;;) {
        if (waitpid(pid, status, WNOHANG) == pid)
            return 1;
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec - start.tv_sec > seconds)
            return 0;
        pause_ms(1);
    }
}

static int run(const struct test *test)
{
    int status = 0;
    fflush(stdout);
    pid_t runner = getpid(), pid = fork();
    if (pid == 0) {
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* ctest's limit and Ctrl-C end only the runner */
        if (getppid() != runner)
            _exit(1);
        test->run();
        exit(0); /* not _exit: a leak checker has its say now */
    }
    if (pid < 0) {
        perror("fork");
        return 0;
    }
    setpgid(pid, pid);
    const char *fault = NULL;
    if (!wait_for(pid, test->seconds * SLOWER, &status))
        fault = "hangs";
    else if (WIFSIGNALED(status))
        fault = strsignal(WTERMSIG(status));
    else if (WEXITSTATUS(status) != 0)
        fault = "failed";
    else if (!nothing_left())
        fault = "leaves a process behind";
    if (fault != NULL)
        kill_rest(pid);
    printf("%-40s %s\n", test->name, fault != NULL ? fault : "ok");
    return fault == NULL;
}

int main(int argc, char **argv)
{
    int passed = 0, failed = 0;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    for (const struct test *test = first; test != NULL; test = test->next) {
        if (argc > 1 && strcmp(argv[1], "--list") == 0) {
            printf("%s\n", test->name);
            continue;
        }
        if (argc > 1 && strcmp(argv[1], test->name) != 0)
            continue;
        if (run(test))
            passed++;
        else
            failed++;
    }
    if (argc > 1 && strcmp(argv[1], "--list") == 0)
        return 0;
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0 || passed == 0;
}
