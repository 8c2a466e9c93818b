/* The simulated kernel's calls, which seam.h puts in the place of the system's. */
#ifndef CALLS_H
#define CALLS_H

#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>

void sim_step(void); /* before every access that others can see: now they may come first */

void *sim_copy(void *to, const void *from, size_t size);

ssize_t sim_read(int fd, void *data, size_t size);
int sim_close(int fd);
int sim_poll(struct pollfd *fds, nfds_t count, int timeout);
int sim_pending(int fd, unsigned long what, int *bytes);
int sim_fstat(int fd, struct stat *stat);
int sim_kill(pid_t pid, int signal);
pid_t sim_getpid(void);
int sim_nanosleep(const struct timespec *time);

/* What a process that is killed had allocated goes with it. */
void *sim_malloc(size_t size);
void *sim_calloc(size_t count, size_t size);
void *sim_realloc(void *memory, size_t size);
void sim_free(void *memory);

#endif
