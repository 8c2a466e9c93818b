/* What systems do differently besides polling: shared memory, processes, semaphores, pipes and
 * sockets, the clock.
 *
 * platform_linux.c and platform_macos.c fill it in; the build picks. */
#ifndef PF_PLATFORM_H
#define PF_PLATFORM_H

#include <pthread.h>
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

/* A descriptor that turns readable when the process has ended, or -1 with errno (ENOSYS where the
 * system has none: then the zygote's word is the only one). */
int pf__process_watch(pid_t pid);

/* In a forked child: the watch its parent had, or a new one where a fork does not inherit it. */
int pf__process_watch_inherited(int watch, pid_t pid);

/* Sends a signal through the descriptor if there is one, else to the pid. */
int pf__process_signal(int watch, pid_t pid, int signal);

/* Reaps the process if it is our child: born so, or inherited from a dead zygote, as PID 1 and
 * subreapers do. 0 if it is and still runs (with `block` never), else 1. */
int pf__process_reap(int watch, pid_t pid, int block);
/* Looks, without reaping it, whether a child has ended: 1 with its status as waitpid gives it and
 * the most memory it ever had resident (KiB, 0 if unknown), 0 if it lives, -1 with errno. */
int pf__process_ended(pid_t pid, int *status, uint64_t *peak_rss);

/* KiB of anonymous memory that the process has for itself, not shared with a parent or others.
 * Measured roughly, at a fraction of the cost, while that shows that it is at most `enough`. 0 if
 * it is gone or nobody knows. */
uint64_t pf__process_memory(pid_t pid, uint64_t enough);

/* Whose child it is, 0 if nobody knows. */
pid_t pf__process_parent(pid_t pid);

/* Whether the signal waits for the process, and every thread blocks it. 0 if nobody knows. */
int pf__process_is_deaf(pid_t pid, int signal);

/* In a newborn child: die when `parent` does. -1 with errno ESRCH if it is already gone. */
int pf__process_die_with(pid_t parent);

/* For how long (ns) the calling process runs at a time while others want to, where it can be said
 * (Linux 6.12). Who is content with little is run sooner, and has no more of the processor. What it
 * was; 0 is the system's own. */
uint64_t pf__process_turn(uint64_t ns);

void pf__process_name(const char *name); /* of the calling thread, which ps may show */

/* Of another, where the system can do that; elsewhere it has to name itself. */
void pf__thread_name(pthread_t thread, const char *name);

void pf__process_prefer_oom(void); /* let the kernel's OOM killer choose us first */

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
