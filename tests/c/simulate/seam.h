/* The seam between the library and the simulated machine: compiled in front of every core source
 * that the simulator is built of (cc -include seam.h).
 *
 * Every atomic access becomes a step, at which any other process may come first, and every copy
 * two; system calls and
 * memory become the simulated kernel's (kernel.c). Nothing of it is in the sources themselves.
 * Memory is sequentially consistent here: fences are test_wakeups.c's business. */
#ifndef SEAM_H
#define SEAM_H

#define _GNU_SOURCE
#include "calls.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- steps --------------------------------------------------------------------------------- */

#undef atomic_load
#undef atomic_load_explicit
#undef atomic_store
#undef atomic_store_explicit
#undef atomic_exchange
#undef atomic_fetch_add
#undef atomic_fetch_sub
#undef atomic_fetch_and
#undef atomic_fetch_and_explicit
#undef atomic_fetch_or_explicit
#undef atomic_compare_exchange_strong
#undef atomic_compare_exchange_strong_explicit

#define SIM_CHANGE(where, operation)                                                               \
    __extension__({                                                                                \
        sim_step();                                                                                \
        __auto_type sim_where = (where);                                                           \
        __auto_type sim_before = *sim_where + 0;                                                   \
        *sim_where operation;                                                                      \
        (void)sim_before;                                                                          \
        sim_before;                                                                                \
    })

#define atomic_load(where)                             (sim_step(), *(where))
#define atomic_load_explicit(where, order)             (sim_step(), *(where))
#define atomic_store(where, value)                     ((void)(sim_step(), *(where) = (value)))
#define atomic_store_explicit(where, value, order)     ((void)(sim_step(), *(where) = (value)))
#define atomic_exchange(where, value)                  SIM_CHANGE(where, = (value))
#define atomic_fetch_add(where, value)                 SIM_CHANGE(where, += (value))
#define atomic_fetch_sub(where, value)                 SIM_CHANGE(where, -= (value))
#define atomic_fetch_and(where, value)                 SIM_CHANGE(where, &= (value))
#define atomic_fetch_and_explicit(where, value, order) SIM_CHANGE(where, &= (value))
#define atomic_fetch_or_explicit(where, value, order)  SIM_CHANGE(where, |= (value))

#define atomic_compare_exchange_strong(where, expected, value)                                     \
    __extension__({                                                                                \
        sim_step();                                                                                \
        __auto_type sim_where = (where);                                                           \
        __auto_type sim_expected = (expected);                                                     \
        int sim_same = *sim_where == *sim_expected;                                                \
        if (sim_same)                                                                              \
            *sim_where = (value);                                                                  \
        else                                                                                       \
            *sim_expected = *sim_where;                                                            \
        sim_same;                                                                                  \
    })
#define atomic_compare_exchange_strong_explicit(where, expected, value, done, failed)              \
    atomic_compare_exchange_strong(where, expected, value)

/* Half, and then the other half: whoever copies what another still writes is found out. */
#undef memcpy
#define memcpy(to, from, size) sim_copy(to, from, size)

/* ---- system calls: only those the core makes outside its platform files -------------------- */

#define read(fd, data, size)      sim_read(fd, data, size)
#define write(fd, data, size)     sim_write(fd, data, size)
#define close(fd)                 sim_close(fd)
#define poll(fds, count, timeout) sim_poll(fds, count, timeout)
#define ioctl(fd, what, bytes)    sim_pending(fd, what, bytes)
#define fstat(fd, stat)           sim_fstat(fd, stat)
#define fcntl(fd, ...)            ((void)(fd), 0) /* all pipes are non-blocking anyway */
#define kill(pid, signal)         sim_kill(pid, signal)
#define getpid()                  sim_getpid()
#define nanosleep(time, rest)     sim_nanosleep(time)

/* ---- memory: what a process that is killed had allocated goes with it ----------------------- */

#define malloc(size)          sim_malloc(size)
#define calloc(count, size)   sim_calloc(count, size)
#define realloc(memory, size) sim_realloc(memory, size)
#define free(memory)          sim_free(memory)

/* So short that starts are often just missed. */
#define PF_START_LOOK 100000

/* So small that slabs come and go with a few tasks. */
#define PF_SLAB_SIZE 2048

/* Clocks move at every look: a few. */
#define PF_SPIN 5
/* And half of them pass for brief ones. */
#define PF_BRIEF 90000

/* pool_children.c makes result rings of this size, so that they are often full. */
#ifdef SIM_RESULTS_SIZE
#include "scoreboard.h"
#define pf__scoreboard_create(board, size, claims)                                                 \
    pf__scoreboard_create(board, ((void)(size), SIM_RESULTS_SIZE), claims)
#endif

/* pool.c makes a task ring of this size, for whoever sets a pool up puts another in its place. */
#ifdef SIM_RING_SIZE
#include "ring.h"
#define pf__ring_create(ring, slots, size)                                                         \
    pf__ring_create(ring, ((void)(slots), SIM_RING_SIZE), size)
#endif

#endif
