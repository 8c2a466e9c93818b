/* Processes as systems know them: to watch one, to signal, to reap, to measure it, to die with it.
 *
 * process_linux.c and process_macos.c fill it in; the build picks. */
#ifndef PF_PROCESS_H
#define PF_PROCESS_H

#include <pthread.h>
#include <stdint.h>
#include <sys/types.h>

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

#endif
