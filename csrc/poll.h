/* Waiting for many things at once, through one descriptor that a foreign loop can watch.
 *
 * The one place where systems differ in this: poll_epoll.c (Linux) and poll_kqueue.c (macOS);
 * the build picks. Level-triggered. Remove, *then* close: a descriptor that is only closed keeps
 * firing while a process forked in between holds a copy of it. */
#ifndef PF_POLL_H
#define PF_POLL_H

#include <stdint.h>
#include <sys/types.h>

struct pf__poll; /* the epoll or kqueue with its timer and its wake-up inside */

enum { PF_POLL_READ = 1, PF_POLL_WRITE = 2 };

struct pf__poll_event {
    uint64_t key; /* as given to add; PF_POLL_WAKE and PF_POLL_TIMER for the two inside */
    int what;     /* PF_POLL_READ | PF_POLL_WRITE */
};

#define PF_POLL_WAKE  UINT64_MAX
#define PF_POLL_TIMER (UINT64_MAX - 1)

struct pf__poll *pf__poll_open(void);
void pf__poll_close(struct pf__poll *poll);

/* Readable whenever pf__poll_wait would find something. */
int pf__poll_fd(const struct pf__poll *poll);

/* All return 0, or -1 with errno. `what` of zero keeps the entry, silent. */
int pf__poll_add(struct pf__poll *poll, int fd, int what, uint64_t key);
int pf__poll_change(struct pf__poll *poll, int fd, int what, uint64_t key);
int pf__poll_remove(struct pf__poll *poll, int fd);

/* Fires at `at` (as of pf__now), once; INT64_MAX disarms. From any thread. */
int pf__poll_timer(struct pf__poll *poll, int64_t at);

/* Makes a wait return, and the descriptor readable until then. 0; -1 with errno EBADF where
 * somebody has closed what is ours. From any thread. */
int pf__poll_wake(struct pf__poll *poll);

/* Waits for at most `timeout` ns (0: not at all, negative: for ever). Wake-ups are consumed.
 * Returns the number of events, or -1 with errno: EINTR if a signal handler ran. */
int pf__poll_wait(struct pf__poll *poll, struct pf__poll_event *events, int max, int64_t timeout);

#endif
