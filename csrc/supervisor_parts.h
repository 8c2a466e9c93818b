/* What the supervisor's files share: supervisor.c (making, time, orders), supervisor_tasks.c,
 * supervisor_limits.c, supervisor_seats.c and supervisor_recycling.c. Nobody else includes it. */
#ifndef PF_SUPERVISOR_PARTS_H
#define PF_SUPERVISOR_PARTS_H

#include "supervisor.h"

enum { TIMER_TASK, TIMER_SEAT, TIMER_SPAWN, TIMER_AGE, TIMER_SAMPLE }; /* kinds */

enum pf__todo { /* what an order is still to be given for; of a seat */
                TODO_LOOK = 1,
                TODO_CONDEMN = 2,
                TODO_SIGNAL = 4,
                TODO_RETIRE = 8,
                TODO_TELL = 16,
                TODO_SOFTEN = 32,
                TODO_ASK = 64,
                TODO_SAMPLE = 128,
                TODO_RELEASE = 256
};

static const int64_t millisecond = 1000000;
static const int sigkill = 9; /* the one number every system agrees on; signal.h stays outside */

void pf__tasks_append(struct pf__task_list *list, struct pf__task *task);
void pf__tasks_prepend(struct pf__task_list *list, struct pf__task *task);
void pf__tasks_take_out(struct pf__task_list *list, struct pf__task *task);

void pf__seat_wants(struct pf__supervisor *sup, struct pf__seat *seat, uint16_t todo);

/* Takes the task out of whatever list or slot it is in. */
void pf__task_detach(struct pf__supervisor *sup, struct pf__task *task);
void pf__task_settle(struct pf__supervisor *sup, struct pf__task *task, uint32_t verdict);
/* To be published again, before all others. */
void pf__task_put_back(struct pf__supervisor *sup, struct pf__task *task);
/* Of a task that has not begun: the timer, for the first thing that may be due. */
void pf__task_arm(struct pf__supervisor *sup, struct pf__task *task);
void pf__task_timer_fired(struct pf__supervisor *sup, struct pf__task *task);
/* A millisecond has passed in which it did not answer. */
void pf__seat_asked(struct pf__supervisor *sup, struct pf__seat *seat);
void pf__seat_end_condemned(struct pf__supervisor *sup, struct pf__seat *seat);

/* It is awake, dead or not to be waited for: it counts no more as called. */
void pf__seat_forget_call(struct pf__supervisor *sup, struct pf__seat *seat);
void pf__seat_timer_fired(struct pf__supervisor *sup, struct pf__seat *seat);
/* It ends after its present task. */
void pf__seat_retire(struct pf__supervisor *sup, struct pf__seat *seat);

/* ---- recycling ---- */
void pf__seat_allot(struct pf__supervisor *sup, struct pf__seat *seat); /* one is ordered */
void pf__seat_is_up(struct pf__supervisor *sup, struct pf__seat *seat);
void pf__seat_claimed(struct pf__supervisor *sup, struct pf__seat *seat);
void pf__seat_aged(struct pf__supervisor *sup, struct pf__seat *seat);
void pf__supervisor_sample(struct pf__supervisor *sup);
void pf__supervisor_sample_later(struct pf__supervisor *sup); /* there is work */
/* How many more than the target there may be now. */
uint32_t pf__supervisor_successors(const struct pf__supervisor *sup);
/* After anything by which a spare's turn may have come. */
void pf__spares_take_turns(struct pf__supervisor *sup);

#endif
