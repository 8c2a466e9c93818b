/* What the supervisor's files share: supervisor.c (making, time, orders), supervisor_tasks.c,
 * supervisor_limits.c and supervisor_seats.c. Nobody else includes it. */
#ifndef PF_SUPERVISOR_PARTS_H
#define PF_SUPERVISOR_PARTS_H

#include "supervisor.h"

/* What an order is still to be given for; of a seat. */
enum { TIMER_TASK, TIMER_SEAT, TIMER_SPAWN }; /* kinds */

enum pf__todo {
    TODO_LOOK = 1,
    TODO_CONDEMN = 2,
    TODO_SIGNAL = 4,
    TODO_RETIRE = 8,
    TODO_TELL = 16,
    TODO_SOFTEN = 32,
    TODO_ASK = 64
};

static const int64_t millisecond = 1000000;
static const int sigkill = 9; /* the one number every system agrees on; signal.h stays outside */

void pf__tasks_append(struct pf__task_list *list, struct pf__task *task);
void pf__tasks_prepend(struct pf__task_list *list, struct pf__task *task);
void pf__tasks_take_out(struct pf__task_list *list, struct pf__task *task);

void pf__seat_wants(struct pf__supervisor *sup, struct pf__seat *seat, uint8_t todo);

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

#endif
