/* The floor of the round trip: 64 bytes there and back between two processes, by two pipes.
 *
 *   bare COUNT     a round of so many for each line that comes; writes a line of JSON */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MESSAGE = 64, WARM_UP = 100 };

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

static int compare(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

static void echo(int in, int out)
{
    char message[MESSAGE];
    while (read(in, message, MESSAGE) == MESSAGE)
        check(write(out, message, MESSAGE) == MESSAGE, "write");
    _exit(0);
}

int main(int argc, char **argv)
{
    int there[2], back[2], count = argc > 1 ? atoi(argv[1]) : 0;
    char message[MESSAGE], line[16];
    if (count <= 0)
        return 2;
    int64_t *times = calloc((size_t)count, sizeof *times);
    memset(message, 0, MESSAGE);
    check(times != NULL, "calloc");
    check(pipe(there) == 0 && pipe(back) == 0, "pipe");
    pid_t pid = fork();
    check(pid >= 0, "fork");
    if (pid == 0) {
        close(there[1]);
        close(back[0]);
        echo(there[0], back[1]);
    }
    close(there[0]);
    close(back[1]);
    while (fgets(line, sizeof line, stdin) != NULL) {
        for (int i = -WARM_UP; i < count; i++) {
            int64_t begun = now();
            check(write(there[1], message, MESSAGE) == MESSAGE, "write");
            check(read(back[0], message, MESSAGE) == MESSAGE, "read");
            if (i >= 0)
                times[i] = now() - begun;
        }
        qsort(times, (size_t)count, sizeof *times, compare);
        printf("{\"p50\": %lld, \"p99\": %lld}\n", (long long)times[count / 2],
               (long long)times[(int64_t)count * 99 / 100]);
        fflush(stdout);
    }
    close(there[1]);
    waitpid(pid, NULL, 0);
    free(times);
    return 0;
}
