/* platform.h for Linux: memfd, pidfd, prctl. */
#define _GNU_SOURCE
#include "platform.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int64_t read_clock(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t pf__now(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

int64_t pf__now_coarse(void)
{
    return read_clock(CLOCK_MONOTONIC_COARSE);
}

int pf__memory_create(const char *name, size_t size)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -1;
    if (ftruncate(fd, (off_t)size) < 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

void pf__memory_seal(int fd)
{
    (void)fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
}

int pf__file_create(const char *name)
{
    int fd = pf__memory_create(name, 0);
    if (fd < 0 || fcntl(fd, F_SETFL, O_APPEND) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

void pf__file_discard(int fd, off_t size)
{
    (void)fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, size);
}

void *pf__memory_map(int fd, size_t size, int writable)
{
    return pf__memory_map_part(fd, 0, size, writable);
}

void *pf__memory_map_part(int fd, size_t offset, size_t size, int writable)
{
    int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
    void *memory = mmap(NULL, size, protection, MAP_SHARED, fd, (off_t)offset);
    if (memory == MAP_FAILED)
        return NULL;
    if (madvise(memory, size, MADV_DONTFORK) < 0) {
        int error = errno;
        munmap(memory, size);
        errno = error;
        return NULL;
    }
    return memory;
}

void pf__memory_unmap(void *memory, size_t size)
{
    if (memory != NULL)
        munmap(memory, size);
}

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

/* Not the C library's, whose waits end by the clock on the wall: set back by an hour, that would be
 * an hour in which nobody drives. */
struct pf__semaphore {
    _Atomic uint32_t count, sleepers;
};

struct pf__semaphore *pf__semaphore_new(void)
{
    return calloc(1, sizeof(struct pf__semaphore));
}

void pf__semaphore_free(struct pf__semaphore *semaphore)
{
    free(semaphore);
}

void pf__semaphore_post(struct pf__semaphore *semaphore)
{
    atomic_fetch_add(&semaphore->count, 1);
    if (atomic_load(&semaphore->sleepers) > 0)
        (void)syscall(SYS_futex, &semaphore->count, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static int take_one(struct pf__semaphore *semaphore)
{
    uint32_t count = atomic_load(&semaphore->count);
    while (count > 0)
        if (atomic_compare_exchange_weak(&semaphore->count, &count, count - 1))
            return 1;
    return 0;
}

int pf__semaphore_wait(struct pf__semaphore *semaphore, int64_t timeout)
{
    int64_t until = timeout < 0 ? 0 : pf__now() + timeout, left = 0;
    while (!take_one(semaphore)) {
        if (timeout >= 0 && (left = until - pf__now()) <= 0) {
            errno = ETIMEDOUT;
            return -1;
        }
        struct timespec rest = {left / 1000000000, left % 1000000000};
        atomic_fetch_add(&semaphore->sleepers, 1);
        long result = syscall(SYS_futex, &semaphore->count, FUTEX_WAIT_PRIVATE, 0,
                              timeout < 0 ? NULL : &rest, NULL, 0);
        int error = errno;
        atomic_fetch_sub(&semaphore->sleepers, 1);
        errno = error;
        if (result < 0 && error == EINTR)
            return -1;
    }
    return 0;
}

int pf__pipe(int ends[2])
{
    return pipe2(ends, O_CLOEXEC);
}

int pf__socketpair(int ends[2])
{
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends);
}

int pf__descriptor_up(int fd)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return fd;
    /* Above those of three hundred workers, and of a table that is small to copy. */
    int most = limit.rlim_cur < 1024 ? (int)limit.rlim_cur : 1024;
    int up = fcntl(fd, F_DUPFD_CLOEXEC, most - most / 8);
    if (up < 0)
        return fd;
    close(fd);
    return up;
}

static ssize_t write_some(int fd, const void *data, size_t size)
{
    ssize_t sent;
    do {
        sent = write(fd, data, size);
    } while (sent < 0 && errno == EINTR);
    return sent;
}

/* A pipe has no MSG_NOSIGNAL. A program that left SIGPIPE at its default must not die because a
 * worker did, so the signal is blocked around the write and, if it was ours, taken off again. */
ssize_t pf__pipe_write(int fd, const void *data, size_t size)
{
    sigset_t pipe_only, before, pending;
    struct sigaction action;
    if (sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
        return write_some(fd, data, size); /* as CPython has it: three calls saved a bell */
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    sigpending(&pending);
    int was_pending = sigismember(&pending, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_only, &before);
    ssize_t sent = write_some(fd, data, size);
    int error = errno;
    if (sent < 0 && error == EPIPE && !was_pending) {
        const struct timespec at_once = {0, 0};
        while (sigtimedwait(&pipe_only, NULL, &at_once) < 0 && errno == EINTR)
            ;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = error;
    return sent;
}

ssize_t pf__socket_send(int fd, const struct msghdr *message)
{
    return sendmsg(fd, message, MSG_NOSIGNAL);
}

ssize_t pf__socket_receive(int fd, struct msghdr *message)
{
    return recvmsg(fd, message, MSG_CMSG_CLOEXEC);
}

int pf__poll_unmasked(struct pollfd *fds, int count, int64_t timeout, const sigset_t *mask)
{
    struct timespec left = {timeout / 1000000000, timeout % 1000000000};
    return ppoll(fds, (nfds_t)count, timeout < 0 ? NULL : &left, mask);
}
