/* Task ids: numbers that outlive the task they named without ever naming another.
 *
 * An id is a place in a table and the place's turn, so a stale one finds nothing. */
#ifndef PF_HANDLES_H
#define PF_HANDLES_H

#include <stddef.h>
#include <stdint.h>

struct pf__handle {
    void *object;  /* NULL: free */
    uint32_t turn; /* counted up each time the place is given away */
    uint32_t next_free;
};

struct pf__handles {
    struct pf__handle *places;
    uint32_t count, room, first_free; /* first_free: place + 1, 0 for none */
};

/* The new id, never 0; 0 with errno ENOMEM. */
uint64_t pf__handles_add(struct pf__handles *handles, void *object);
void *pf__handles_find(const struct pf__handles *handles, uint64_t id); /* NULL: gone */
void pf__handles_remove(struct pf__handles *handles, uint64_t id);
void pf__handles_clear(struct pf__handles *handles);

#endif
