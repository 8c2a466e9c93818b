/* What a worker's tasks write to stdout and stderr, with all that C code and programs they start
 * write there: a file without a name, of which the pool reads the end when a task is lost.
 *
 * Made anew for every worker process, if the pool captures at all. Every write goes to its end. In
 * the worker it is behind descriptors 1 and 2, and is emptied when a task begins; the pool reads it
 * and gives back the memory of all but the last part, so that nobody can fill the machine. */
#ifndef PF_OUTPUT_H
#define PF_OUTPUT_H

#include <stddef.h>
#include <sys/types.h>

enum { PF_OUTPUT_KEPT = 1 << 16, PF_OUTPUT_SHOWN = 1 << 13 }; /* bytes at its end */

/* ---- the pool's side ----------------------------------------------------------------------- */

/* A descriptor (CLOEXEC), or -1 with errno. The others take -1 for none. */
int pf__output_create(void);

void pf__output_trim(int fd);

/* The last PF_OUTPUT_SHOWN bytes at most; how many those are. */
size_t pf__output_read(int fd, void *text);

/* It grows no more: whoever outlives the worker, and still writes to it, gets an error. */
void pf__output_close(int fd);

/* ---- the worker's side --------------------------------------------------------------------- */

struct pf__output {
    int fd; /* CLOEXEC, to empty it by; -1: nothing is captured */
    dev_t device;
    ino_t inode; /* a task may have closed that descriptor, and have its own there */
};

/* Moves those that are 1 or 2 out of the way. 0, or -1 with errno. */
int pf__output_make_way(int *fds, int count);

/* Takes over the descriptor, and puts it behind 1 and 2. 0, or -1 with errno. */
int pf__output_open(struct pf__output *output, int fd);

/* A task begins: nothing was written yet, and what it writes arrives even if the one before has
 * closed 1 or 2. Where they lead elsewhere they stay. */
void pf__output_begin(const struct pf__output *output);

#endif
