/* Spinning before sleeping: to look for a little longer costs less than to be woken, if what is
 * waited for comes soon. Whether it does is learnt: each time that it has not, but for the first
 * four, twice as many waits begin without. So it is bounded by what it costs, too: where it never
 * pays, one wait in a thousand is PF_SPIN longer.
 *
 * Who wakes another often has him on his own processor, and then to spin keeps off who is waited
 * for. So what has failed twice in one way is tried in the other, which leaves the processor to
 * him. */
#ifndef PF_SPIN_H
#define PF_SPIN_H

#include <sched.h>
#include <stdint.h>

#ifndef PF_SPIN       /* the simulation has another */
#define PF_SPIN 20000 /* ns; about what a wake-up takes from one process to another and back */
#endif

struct pf__spin {
    uint32_t failures, skip;
    int yields; /* whom we wait for has had our processor: it is left to him at every turn */
};

static inline int pf__spin_pays(struct pf__spin *spin)
{
    if (spin->skip == 0)
        return 1;
    spin->skip--;
    return 0;
}

static inline void pf__spin_once(const struct pf__spin *spin)
{
    if (spin->yields) {
        (void)sched_yield();
        return;
    }
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
    __asm__ __volatile__("yield");
#endif
}

static inline void pf__spin_ended(struct pf__spin *spin, int found)
{
    enum { TRIES = 2, MOST_FAILURES = 10 };
    spin->failures = found ? 0 : spin->failures + (spin->failures < MOST_FAILURES);
    spin->skip = spin->failures <= 2 * TRIES ? 0 : (uint32_t)1 << spin->failures;
    if (!found && spin->failures % TRIES == 0)
        spin->yields = !spin->yields;
}

#endif
