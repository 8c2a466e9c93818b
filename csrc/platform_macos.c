/* platform.h for macOS: shm_open, Mach's semaphores. */
#define _GNU_SOURCE
#define _DARWIN_UNLIMITED_SELECT /* sets of more than FD_SETSIZE, which we allocate */
#include "platform.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mach/mach.h>
#include <mach/semaphore.h>
#include <mach/task.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SECOND = 1000000000 }; /* ns */

/* CLOCK_MONOTONIC goes on here while the machine sleeps; this one, Python's and the kqueue's
 * timers do not. */
int64_t pf__now(void)
{
    return (int64_t)clock_gettime_nsec_np(CLOCK_UPTIME_RAW);
}

int64_t pf__now_coarse(void)
{
    return (int64_t)clock_gettime_nsec_np(CLOCK_UPTIME_RAW_APPROX);
}

uint32_t pf__processors(void)
{
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count > 0 ? (uint32_t)count : 1;
}

/* There is no pipe2 and the like: a program that another thread starts in between gets a copy. */
static int close_on_exec(int fd)
{
    return fcntl(fd, F_SETFD, FD_CLOEXEC);
}

static void close_pair(const int ends[2])
{
    int error = errno;
    close(ends[0]);
    close(ends[1]);
    errno = error;
}

/* ---- memory -------------------------------------------------------------------------------- */

/* It has a name, of thirty characters at most, for as long as it takes to remove it. */
int pf__memory_create(const char *name, size_t size)
{
    static _Atomic unsigned count;
    char path[32];
    int fd;
    (void)name;
    do {
        (void)snprintf(path, sizeof path, "/prefork-%d-%x", (int)getpid(),
                       atomic_fetch_add(&count, 1));
        fd = shm_open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    } while (fd < 0 && errno == EEXIST); /* left behind by one that was killed right here */
    if (fd < 0)
        return -1;
    shm_unlink(path);
    if (close_on_exec(fd) < 0 || ftruncate(fd, (off_t)size) < 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

void pf__memory_seal(int fd)
{
    (void)fd; /* such an object takes one size in its life */
}

/* Shared memory cannot be written to by descriptor here: a temporary file without its name can. */
int pf__file_create(const char *name)
{
    static const char pattern[] = "prefork-XXXXXX";
    char path[PATH_MAX];
    size_t size = confstr(_CS_DARWIN_USER_TEMP_DIR, path, sizeof path);
    (void)name;
    if (size == 0 || size + sizeof pattern > sizeof path) {
        errno = size == 0 ? ENOENT : ENAMETOOLONG;
        return -1;
    }
    memcpy(path + size - 1, pattern, sizeof pattern);
    int fd = mkostemp(path, O_APPEND | O_CLOEXEC);
    if (fd >= 0)
        unlink(path);
    return fd;
}

/* Whole blocks of the file system only. */
void pf__file_discard(int fd, off_t size)
{
    struct fpunchhole hole = {.fp_length = size / 4096 * 4096};
    (void)fcntl(fd, F_PUNCHHOLE, &hole);
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
    if (minherit(memory, size, VM_INHERIT_NONE) < 0) {
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

/* ---- semaphores ---------------------------------------------------------------------------- */

/* Of POSIX's there are only those with a name, and they know no time limit. A wait for one of
 * Mach's is aborted when a signal is to be handled in its thread, and that is how Ctrl-C ends it.
 */
struct pf__semaphore {
    semaphore_t port;
    pid_t owner; /* ports are not inherited: in a fork this name is free, or another's */
};

struct pf__semaphore *pf__semaphore_new(void)
{
    struct pf__semaphore *semaphore = malloc(sizeof *semaphore);
    if (semaphore == NULL)
        return NULL;
    semaphore->owner = getpid();
    if (semaphore_create(mach_task_self(), &semaphore->port, SYNC_POLICY_FIFO, 0) == KERN_SUCCESS)
        return semaphore;
    free(semaphore);
    errno = ENOMEM;
    return NULL;
}

void pf__semaphore_free(struct pf__semaphore *semaphore)
{
    if (semaphore != NULL && semaphore->owner == getpid())
        semaphore_destroy(mach_task_self(), semaphore->port);
    free(semaphore);
}

void pf__semaphore_post(struct pf__semaphore *semaphore)
{
    semaphore_signal(semaphore->port);
}

int pf__semaphore_wait(struct pf__semaphore *semaphore, int64_t timeout)
{
    kern_return_t result;
    if (timeout < 0) {
        result = semaphore_wait(semaphore->port);
    } else {
        int64_t most = (int64_t)UINT32_MAX * SECOND;
        int64_t ns = timeout < most ? timeout : most;
        mach_timespec_t left = {(unsigned)(ns / SECOND), (clock_res_t)(ns % SECOND)};
        result = semaphore_timedwait(semaphore->port, left);
    }
    if (result == KERN_SUCCESS)
        return 0;
    errno = result == KERN_ABORTED               ? EINTR
            : result == KERN_OPERATION_TIMED_OUT ? ETIMEDOUT
                                                 : EINVAL;
    return -1;
}

/* ---- pipes and sockets --------------------------------------------------------------------- */

/* SIGPIPE is sent to the process here, not to the thread that wrote, so that no mask holds it off;
 * but a pipe can be told not to, and keeps that when it is passed on. */
int pf__pipe(int ends[2])
{
    if (pipe(ends) < 0)
        return -1;
    if (close_on_exec(ends[0]) == 0 && close_on_exec(ends[1]) == 0 &&
        fcntl(ends[1], F_SETNOSIGPIPE, 1) == 0)
        return 0;
    close_pair(ends);
    return -1;
}

ssize_t pf__pipe_write(int fd, const void *data, size_t size)
{
    ssize_t sent;
    do {
        sent = write(fd, data, size);
    } while (sent < 0 && errno == EINTR);
    return sent;
}

int pf__descriptor_up(int fd)
{
    return fd;
}

/* There is no SOCK_SEQPACKET. All messages are of one size, far below the room at which a stream
 * takes none: each goes in whole, and reading that many bytes takes out one, for what was sent
 * with descriptors is never run together with what came before it. */
int pf__socketpair(int ends[2])
{
    const int on = 1;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0)
        return -1;
    for (int i = 0; i < 2; i++) {
        if (close_on_exec(ends[i]) < 0 ||
            setsockopt(ends[i], SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on) < 0) {
            close_pair(ends);
            return -1;
        }
    }
    return 0;
}

ssize_t pf__socket_send(int fd, const struct msghdr *message)
{
    return sendmsg(fd, message, 0);
}

ssize_t pf__socket_receive(int fd, struct msghdr *message)
{
    size_t room = message->msg_controllen;
    ssize_t got = recvmsg(fd, message, 0);
    if (got < 0 && (errno == EMSGSIZE || errno == EMFILE)) {
        /* No room for its descriptors, which are gone; the bytes are still there. */
        message->msg_controllen = 0;
        got = recvmsg(fd, message, MSG_DONTWAIT);
        message->msg_flags |= MSG_CTRUNC;
        return got;
    }
    if (got < 0 || room == 0)
        return got;
    for (struct cmsghdr *item = CMSG_FIRSTHDR(message); item != NULL;
         item = CMSG_NXTHDR(message, item)) {
        if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t at = CMSG_LEN(0); at + sizeof(int) <= item->cmsg_len; at += sizeof(int)) {
            int received;
            memcpy(&received, (char *)item + at, sizeof received);
            (void)close_on_exec(received);
        }
    }
    return got;
}

/* There is no ppoll, but pselect changes the mask as atomically. */
int pf__poll_unmasked(struct pollfd *fds, int count, int64_t timeout, const sigset_t *mask)
{
    struct timespec left = {timeout / SECOND, timeout % SECOND};
    int highest = 0, found = 0;
    for (int i = 0; i < count; i++) {
        fds[i].revents = 0;
        highest = fds[i].fd > highest ? fds[i].fd : highest;
    }
    fd_set *readable = calloc((size_t)highest / FD_SETSIZE + 1, sizeof *readable);
    if (readable == NULL)
        return -1;
    for (int i = 0; i < count; i++)
        if (fds[i].fd >= 0)
            FD_SET(fds[i].fd, readable);
    int ready = pselect(highest + 1, readable, NULL, NULL, timeout < 0 ? NULL : &left, mask);
    for (int i = 0; ready > 0 && i < count; i++)
        if (fds[i].fd >= 0 && FD_ISSET(fds[i].fd, readable)) {
            fds[i].revents = POLLIN;
            found++;
        }
    int error = errno;
    free(readable);
    errno = error;
    return ready < 0 ? -1 : found;
}
