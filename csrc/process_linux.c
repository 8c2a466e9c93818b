/* process.h for Linux: pidfd, /proc, prctl. */
#define _GNU_SOURCE
#include "process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int pf__process_watch(pid_t pid)
{
    const char *off = getenv("PREFORK_NO_PIDFD");
    if (off != NULL && *off != '\0' && *off != '0') {
        errno = ENOSYS;
        return -1;
    }
    return (int)syscall(SYS_pidfd_open, pid, 0); /* CLOEXEC by itself */
}

int pf__process_watch_inherited(int watch, pid_t pid)
{
    (void)pid;
    return watch;
}

int pf__process_signal(int watch, pid_t pid, int signal)
{
    if (watch >= 0) {
        if (syscall(SYS_pidfd_send_signal, watch, signal, NULL, 0) == 0)
            return 0;
        if (errno != ENOSYS && errno != EPERM)
            return -1;
    }
    return kill(pid, signal);
}

int pf__process_reap(int watch, pid_t pid, int block)
{
    const idtype_t by_pidfd = (idtype_t)3; /* P_PIDFD, which older C libraries do not name */
    int options = WEXITED | (block ? 0 : WNOHANG), got;
    siginfo_t info = {.si_pid = 0};
    do {
        got = watch >= 0 ? waitid(by_pidfd, (id_t)watch, &info, options)
                         : waitid(P_PID, (id_t)pid, &info, options);
    } while (got < 0 && errno == EINTR);
    return got < 0 || info.si_pid != 0;
}

int pf__process_ended(pid_t pid, int *status, uint64_t *peak_rss)
{
    siginfo_t info = {.si_pid = 0};
    struct rusage usage = {.ru_maxrss = 0};
    /* The system call itself, for the library's has no room for the usage. */
    long result = syscall(SYS_waitid, P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT, &usage);
    if (result < 0 || info.si_pid == 0)
        return (int)result;
    *status = info.si_code == CLD_EXITED   ? info.si_status << 8
              : info.si_code == CLD_DUMPED ? info.si_status | 0x80
                                           : info.si_status;
    *peak_rss = (uint64_t)usage.ru_maxrss;
    return 1;
}

/* The whole of a small file of /proc. */
static int read_proc(pid_t pid, const char *name, char *text, size_t room)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t n = read(fd, text, room - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    return n > 0 ? 0 : -1;
}

uint64_t pf__process_memory(pid_t pid, uint64_t enough)
{
    char text[2048];
    char *rest = text;
    if (read_proc(pid, "statm", text, sizeof text) < 0)
        return 0;
    (void)strtoull(rest, &rest, 10); /* the whole address space */
    uint64_t resident = strtoull(rest, &rest, 10), shared = strtoull(rest, &rest, 10);
    /* Not from files; but pages that it has in common with the zygote since the fork are in it. */
    uint64_t anonymous = resident > shared ? resident - shared : 0;
    anonymous *= (uint64_t)sysconf(_SC_PAGESIZE) / 1024;
    if (anonymous <= enough || read_proc(pid, "smaps_rollup", text, sizeof text) < 0)
        return anonymous;
    const char *line = strstr(text, "Private_Dirty:");
    uint64_t own =
        line != NULL ? strtoull(line + sizeof "Private_Dirty:" - 1, NULL, 10) : anonymous;
    return own < anonymous ? own : anonymous;
}

static int has_signal(const char *status, const char *set, int signal)
{
    const char *line = strstr(status, set);
    return line != NULL && (strtoull(line + strlen(set), NULL, 16) >> (signal - 1) & 1) != 0;
}

pid_t pf__process_parent(pid_t pid)
{
    char status[4096];
    const char *line =
        read_proc(pid, "status", status, sizeof status) == 0 ? strstr(status, "\nPPid:") : NULL;
    return line != NULL ? (pid_t)strtol(line + strlen("\nPPid:"), NULL, 10) : 0;
}

int pf__process_is_deaf(pid_t pid, int signal)
{
    char name[64], status[4096];
    (void)snprintf(name, sizeof name, "/proc/%d/task", (int)pid);
    DIR *threads = opendir(name);
    const struct dirent *thread;
    int count = 0, deaf = 0;
    while (threads != NULL && deaf == count && (thread = readdir(threads)) != NULL) {
        if (thread->d_name[0] == '.')
            continue;
        (void)snprintf(name, sizeof name, "task/%.16s/status", thread->d_name);
        count++;
        deaf += read_proc(pid, name, status, sizeof status) == 0 &&
                has_signal(status, "ShdPnd:", signal) && has_signal(status, "SigBlk:", signal);
    }
    if (threads != NULL)
        closedir(threads);
    return count > 0 && deaf == count;
}

int pf__process_die_with(pid_t parent)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        return -1;
    /* A parent that ended before the prctl sends nothing. */
    if (getppid() != parent) {
        errno = ESRCH;
        return -1;
    }
    return 0;
}

uint64_t pf__process_turn(uint64_t ns)
{
    struct { /* sched_attr, as it was at first */
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } turn;
    if (syscall(SYS_sched_getattr, 0, &turn, sizeof turn, 0) < 0 ||
        (turn.policy != SCHED_OTHER && turn.policy != SCHED_BATCH))
        return 0;
    uint64_t before = turn.runtime;
    turn.runtime = ns;
    (void)syscall(SYS_sched_setattr, 0, &turn, 0);
    return before;
}

void pf__process_name(const char *name)
{
    prctl(PR_SET_NAME, name);
}

void pf__thread_name(pthread_t thread, const char *name)
{
    pthread_setname_np(thread, name);
}

void pf__process_prefer_oom(void)
{
    char text[16];
    int fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return; /* no /proc: the kernel chooses without advice */
    ssize_t n = read(fd, text, sizeof text - 1);
    if (n > 0) {
        text[n] = '\0';
        long score = strtol(text, NULL, 10) + 100;
        (void)dprintf(fd, "%ld", score > 1000 ? 1000 : score); /* it may be refused: so be it */
    }
    close(fd);
}
