/* What the files of the pool's fuzz target share.
 *
 *   fuzz_pool.c    the input, who runs next, one execution
 *   application.c  what the application does, and what must be true of what it is told
 *   hostile.c      a worker that writes whatever the input says, wherever it can write
 *
 * Beside them the simulated machine of tests/c/simulate, under the real core. Worker 0 is hostile,
 * the others are as workers are. Two kinds of input: in one the hostile worker writes only what is
 * its own (pipe, segment, crash log, claims of tasks that are READY), and then everybody else's
 * tasks must end well; in the other also the words that all workers share, and then at least every
 * task is settled, once. */
#ifndef FUZZ_H
#define FUZZ_H

#include "world.h"

struct truth {
    uint64_t id;
    pf_task_options options;
    size_t size;
    bool settled, cancelled;
    bool seized; /* the hostile worker claimed it, or wrote that it had */
    bool called; /* by an honest worker */
};

enum { MOST_TASKS = 96 };

extern bool wild;  /* the hostile worker writes the shared words, too */
extern bool tamed; /* it does nothing any more */
extern struct truth truths[MOST_TASKS];
extern uint64_t truth_count;

/* fuzz_pool.c: the input is eaten from both ends, so that a change of what one does leaves alone
 * what the other does. Zero when there is no more. */
uint8_t application_byte(void);
uint8_t hostile_byte(void);
bool application_has_more(void);
bool hostile_has_more(void);

/* application.c */
struct truth *truth_of(uint64_t id); /* NULL: no such task lives */

/* hostile.c */
void hostile_forget(void);
void hostile_observe(void);
bool is_hostile(const struct process *process);
bool hostile_is_at_it(void); /* it lives, and is not at its end yet */
_Noreturn void be_hostile(pf_worker *worker);

#endif
