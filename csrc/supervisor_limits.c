/* The supervisor's limits: how long a task may wait, and how long it may run.
 *
 * One timer a task. Until it has begun it stands for the time at which it must have, or for the
 * earliest at which a limit could be up; when it fires the page is looked at, and it moves to what
 * the true start says. */
#include "supervisor_parts.h"

enum { LOOK_AGAIN = 10, ASK_FOR = 9 }; /* ms */
enum { STUCK_AFTER = 500 };            /* looks */

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

void pf__supervisor_stalled(struct pf__supervisor *sup, int64_t now)
{
    sup->stall += now - sup->now;
    sup->stalled_until = now;
}

/* For how long it was kept from running: no longer than since it began, and not at all if it began
 * after the last stop; it may have been in the ring meanwhile. */
static int64_t stood_still(const struct pf__supervisor *sup, const struct pf__task *task)
{
    int64_t at_most = sup->stalled_until - task->started;
    return at_most > 0 ? earlier(sup->stall - task->stall, at_most) : 0;
}

static int64_t first_limit(const struct pf__task *task)
{
    int64_t soft = task->soft > 0 && !task->softened ? task->soft : PF_NEVER;
    return earlier(soft, task->limit > 0 ? task->limit : PF_NEVER);
}

void pf__task_arm(struct pf__supervisor *sup, struct pf__task *task)
{
    int64_t at = PF_NEVER;
    if (task->expires != 0 && task->state != PF_TASK_HELD)
        at = task->expires;
    if (task->state != PF_TASK_QUEUED && first_limit(task) != PF_NEVER)
        at = earlier(at, sup->now + first_limit(task));
    if (at != PF_NEVER && (task->state != PF_TASK_HELD || task->timer.at == PF_NEVER))
        pf__timer_set(&sup->timers, &task->timer, at);
}

void pf__task_timer_fired(struct pf__supervisor *sup, struct pf__task *task)
{
    if (task->state == PF_TASK_HELD) {
        task->due = true;
        pf__seat_wants(sup, sup->seats[task->seat], TODO_LOOK);
    } else if (task->expires == 0 || task->expires > sup->now) {
        pf__task_arm(sup, task); /* it cannot have begun: limits count from the claim */
    } else if (task->state == PF_TASK_QUEUED) {
        pf__task_settle(sup, task, PF_VERDICT_EXPIRED);
    } else {
        task->expiring = true;
        pf__tasks_append(&sup->expiring, task);
    }
}

static void running_looked_at(struct pf__supervisor *sup, struct pf__seat *seat,
                              struct pf__task *task, int64_t begun)
{
    if (task->limit > 0 && begun + task->limit <= sup->now) {
        seat->condemn_seq = task->seq;
        pf__seat_wants(sup, seat, TODO_CONDEMN);
        return;
    }
    if (task->soft > 0 && !task->softened && begun + task->soft <= sup->now) {
        task->softened = true;
        pf__seat_wants(sup, seat, TODO_SOFTEN);
    }
    if (first_limit(task) != PF_NEVER)
        pf__timer_set(&sup->timers, &task->timer, begun + first_limit(task));
}

void pf__supervisor_heard(struct pf__seat *seat)
{
    seat->heard = true;
}

/* The call has ended, and what it returned is on the way. If for so many looks nothing of it comes,
 * though every look was preceded by one into the pipe, the worker is stuck. */
static void result_looked_for(struct pf__supervisor *sup, struct pf__seat *seat,
                              struct pf__task *task)
{
    task->looks = seat->heard ? 0 : (uint16_t)(task->looks + 1);
    seat->heard = false;
    if (task->looks < STUCK_AFTER) {
        pf__timer_set(&sup->timers, &task->timer, sup->now + LOOK_AGAIN * millisecond);
        return;
    }
    seat->condemned = true;
    pf__supervisor_kill(sup, seat, sigkill);
}

static void limit_looked_at(struct pf__supervisor *sup, struct pf__seat *seat,
                            struct pf__task *task, uint32_t state, int64_t extended)
{
    task->due = false;
    if (first_limit(task) == PF_NEVER)
        return;
    if (state == PF_LOADING)
        pf__timer_set(&sup->timers, &task->timer, sup->now + first_limit(task));
    else if (state == PF_RUNNING)
        running_looked_at(sup, seat, task, task->started + stood_still(sup, task) + extended);
    else
        result_looked_for(sup, seat, task);
}

void pf__supervisor_page_seen(struct pf__supervisor *sup, struct pf__seat *seat, uint64_t page,
                              int64_t started_at, int64_t extended)
{
    for (struct pf__task *task = seat->held.first; task != NULL; task = task->next) {
        uint32_t state = pf__word_seq(page) == task->seq ? pf__word_state(page) : PF_LOADING;
        if (pf__state_has_begun(state))
            task->started = started_at;
        if (task->tell && !task->told && (state == PF_RUNNING || state == PF_DONE))
            pf__seat_wants(sup, seat, TODO_TELL);
        if (task->due)
            limit_looked_at(sup, seat, task, state, extended);
    }
}

/* ---- the end of one that ran too long ------------------------------------------------------ */

void pf__supervisor_condemned(struct pf__supervisor *sup, struct pf__seat *seat, uint64_t seq,
                              bool done)
{
    struct pf__task *task = seat->held.first;
    while (task != NULL && task->seq != seq) /* it may have claimed the next one by now */
        task = task->next;
    if (task == NULL || (done && task != seat->held.last)) {
        if (done) /* it runs one task and has claimed another */
            pf__supervisor_misbehaved(sup, seat);
        return;
    }
    if (!done) {
        seat->oversized = false;
        if (task->timer.at == PF_NEVER) /* else its limits are as they were */
            pf__timer_set(&sup->timers, &task->timer, sup->now + LOOK_AGAIN * millisecond);
        return;
    }
    seat->condemned = true;
    seat->asked = false;
    seat->answer_by = sup->now + ASK_FOR * millisecond;
    pf__seat_wants(sup, seat, TODO_ASK);
    if (!seat->killed)
        pf__timer_set(&sup->timers, &seat->timer, sup->now + millisecond);
}

void pf__seat_asked(struct pf__supervisor *sup, struct pf__seat *seat)
{
    if (sup->now >= seat->answer_by) {
        pf__seat_end_condemned(sup, seat);
        return;
    }
    seat->asked = true;
    pf__seat_wants(sup, seat, TODO_ASK);
    pf__timer_set(&sup->timers, &seat->timer, earlier(sup->now + millisecond, seat->answer_by));
}

void pf__supervisor_answered(struct pf__supervisor *sup, struct pf__seat *seat)
{
    if (seat->condemned)
        pf__seat_end_condemned(sup, seat);
}

void pf__seat_end_condemned(struct pf__supervisor *sup, struct pf__seat *seat)
{
    struct pf__task *task = seat->held.last;
    seat->condemned = false;
    if (task != NULL && !seat->oversized)
        pf__supervisor_end_task(sup, task, PF_VERDICT_TIMED_OUT, sigkill);
    else
        pf__supervisor_kill(sup, seat, sigkill);
}
