/* platform.h for Linux: memfd, futexes. */
#define _GNU_SOURCE
#include "platform.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
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

uint32_t pf__processors(void)
{
    cpu_set_t set;
    long count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set)
                                                             : sysconf(_SC_NPROCESSORS_ONLN);
    return count > 0 ? (uint32_t)count : 1;
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
