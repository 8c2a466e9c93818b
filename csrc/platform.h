/* What systems do differently besides polling: shared memory, watching a process, the clock.
 *
 * platform_linux.c fills it in; the build picks. */
#ifndef PF_PLATFORM_H
#define PF_PLATFORM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* CLOCK_MONOTONIC in ns. */
int64_t pf__now(void);

/* A new, unnamed piece of shared memory of `size` zero bytes. Returns a descriptor (CLOEXEC), or
 * -1 with errno. */
int pf__memory_create(const char *name, size_t size);

/* Maps it; a fork of the mapping process does not get the mapping. NULL with errno. */
void *pf__memory_map(int fd, size_t size, int writable);
void pf__memory_unmap(void *memory, size_t size);

/* A descriptor that turns readable when the process has ended, or -1 with errno (ENOSYS where the
 * system has none: then the zygote's word is the only one). */
int pf__process_watch(pid_t pid);

/* Sends a signal through the descriptor if there is one, else to the pid. */
int pf__process_signal(int watch, pid_t pid, int signal);

/* Reaps the process if it is our child: born so, or inherited from a dead zygote, as PID 1 and
 * subreapers do. 0 if it is and still runs (with `block` never), else 1. */
int pf__process_reap(int watch, pid_t pid, int block);

/* In a newborn child: die when `parent` does. -1 with errno ESRCH if it is already gone. */
int pf__process_die_with(pid_t parent);

void pf__process_name(const char *name); /* the kernel's name for it: ps -o comm, top */
void pf__process_prefer_oom(void);       /* let the kernel's OOM killer choose us first */
int pf__process_threads(void);           /* threads of this process, or -1 */

/* A pipe and a control socket pair, CLOEXEC. 0, or -1 with errno. */
int pf__pipe(int ends[2]);
int pf__socketpair(int ends[2]);

#endif
