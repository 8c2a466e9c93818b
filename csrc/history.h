/* The flight recorder: what happened last in each slot of the pool, in memory that outlives
 * workers.
 *
 * A memory file with one part for each slot; worker and pool both write notes into it, without a
 * lock. A worker has its own slot's part mapped and nobody else's. The pool keeps the descriptor
 * open, so that whoever may look into /proc/PID/fd of the application can read along
 * (pf_history_read) while it hangs. Nothing is ever decided by what stands here. */
#ifndef PF_HISTORY_H
#define PF_HISTORY_H

#include "prefork.h"

#include <stdatomic.h>

struct pf__note {
    _Atomic uint64_t head; /* its number from 1 on, and its type in the low byte; 0 while written */
    _Atomic int64_t at;
    _Atomic uint64_t value;
};

struct pf__slot_history {
    _Alignas(64) _Atomic uint64_t written; /* notes, ever */
    _Atomic uint64_t generation;           /* of its newest process */
    _Atomic int64_t since;                 /* when that was spawned */
    _Atomic int32_t pid;                   /* of that; 0 until it is born */
    struct pf__note notes[PF_NOTES];
};

struct pf__history {
    void *memory; /* in the pool all of it, NULL for none */
    int fd;
    uint32_t slots;
    size_t part; /* bytes from one slot's to the next's: whole pages */
};

/* In the pool. 0, or -1 with errno. The descriptor is the caller's to close. */
int pf__history_create(struct pf__history *history, uint32_t slots);
void pf__history_close(struct pf__history *history);
struct pf__slot_history *pf__history_of(const struct pf__history *history, uint32_t slot);

/* In a worker: its own slot's part. NULL if it cannot be mapped, and then nothing is noted. */
struct pf__slot_history *pf__history_open(int fd, uint32_t slot);
void pf__history_leave(struct pf__slot_history *of);

/* A new process is about to be born in this slot; and it is. */
void pf__history_spawned(struct pf__slot_history *of, uint64_t generation);
void pf__history_born(struct pf__slot_history *of, pid_t pid);

void pf__history_note(struct pf__slot_history *of, pf_note_type type, uint64_t value);

/* Notes that are being overwritten meanwhile are left out. */
void pf__history_copy(const struct pf__slot_history *of, pf_history *copy);

#endif
