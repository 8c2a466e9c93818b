/* Memory for tasks, which come by the million: pieces of a few sizes, cut from slabs.
 *
 * Between one submission and the next an application pickles, and frees what that took. Pieces from
 * malloc would lie between the holes which that leaves, too small for the next pickling and never
 * merged: a third of a queued task's memory. Not thread-safe; the owner's lock is. */
#ifndef PF_SLAB_H
#define PF_SLAB_H

#include <stddef.h>

#ifndef PF_SLAB_SIZE /* the simulation has few tasks at a time */
#define PF_SLAB_SIZE (64 << 10)
#endif
enum { PF_SLAB_STEP = 32, PF_SLAB_MOST = 1024 }; /* bytes: what is larger is malloc's */

struct pf__slabs {
    /* By size of piece: those with room, linked. One of them may be empty, so that a task at a
     * time does not cost a slab each. */
    struct pf__slab *roomy[PF_SLAB_MOST / PF_SLAB_STEP + 1];
    size_t count; /* of all slabs */
};

/* `size` bytes, aligned for pointers; NULL with errno ENOMEM. */
void *pf__slabs_take(struct pf__slabs *slabs, size_t size);
/* The same for a piece that belongs to no slab, whatever its size: needs no lock. */
void *pf__slabs_take_alone(size_t size);
void pf__slabs_give(void *piece);              /* or NULL */
void pf__slabs_clear(struct pf__slabs *slabs); /* when all pieces are given back */

#endif
