/* What systems do differently besides polling (poll.h) and processes (process.h): shared memory,
 * semaphores, pipes and sockets, the clock.
 *
 * platform_linux.c and platform_macos.c fill it in; the build picks. */
#ifndef PF_PLATFORM_H
#define PF_PLATFORM_H

#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct msghdr;
struct pollfd;

/* The clock of Python's time.monotonic(), in ns. */
int64_t pf__now(void);

/* The same, cheaper: it may be a tick of the kernel's behind, which is 10 ms at most. */
int64_t pf__now_coarse(void);

/* How many this thread may run on. */
uint32_t pf__processors(void);

/* A new, unnamed piece of shared memory of `size` zero bytes. Returns a descriptor (CLOEXEC), or
 * -1 with errno. */
int pf__memory_create(const char *name, size_t size);

/* Nothing written to it makes it larger or smaller from now on, where the system can do that. */
void pf__memory_seal(int fd);

/* A new, unnamed, empty file, in memory where the system can do that: every write goes to its end.
 * Returns a descriptor (CLOEXEC), or -1 with errno. */
int pf__file_create(const char *name);

/* Gives back the room of its first `size` bytes, or of most of them; they read as zeros then. */
void pf__file_discard(int fd, off_t size);

/* Maps it; a fork of the mapping process does not get the mapping. NULL with errno. */
void *pf__memory_map(int fd, size_t size, int writable);
void *pf__memory_map_part(int fd, size_t offset, size_t size, int writable); /* whole pages */
void pf__memory_unmap(void *memory, size_t size);

/* A counting semaphore between threads, at zero. NULL with errno; free takes NULL. */
struct pf__semaphore;
struct pf__semaphore *pf__semaphore_new(void);
void pf__semaphore_free(struct pf__semaphore *semaphore);
void pf__semaphore_post(struct pf__semaphore *semaphore);

/* Waits for at most `timeout` ns (negative: for ever). 0, or -1 with errno: ETIMEDOUT, or EINTR
 * if a signal handler ran that is not SA_RESTART, as Python's are not: Ctrl-C gets through. */
int pf__semaphore_wait(struct pf__semaphore *semaphore, int64_t timeout);

/* A pipe and a control socket pair, CLOEXEC. 0, or -1 with errno. */
int pf__pipe(int ends[2]);
int pf__socketpair(int ends[2]);

/* The same descriptor by a high number: of a process that ends Linux closes the highest first, and
 * whoever holds the other end is told before all others. */
int pf__descriptor_up(int fd);

/* write(2) to a pipe of ours, without EINTR, and without SIGPIPE whatever its disposition. */
ssize_t pf__pipe_write(int fd, const void *data, size_t size);

/* sendmsg without SIGPIPE. recvmsg of one message: its descriptors are CLOEXEC, or the message is
 * flagged MSG_CTRUNC if there was no room for them. */
ssize_t pf__socket_send(int fd, const struct msghdr *message);
ssize_t pf__socket_receive(int fd, struct msghdr *message);

/* poll(2) for at most `timeout` ns (negative: for ever), with the signal mask `mask` meanwhile:
 * one that was pending ends it with EINTR, and none comes before or after. */
int pf__poll_unmasked(struct pollfd *fds, int count, int64_t timeout, const sigset_t *mask);

#endif
