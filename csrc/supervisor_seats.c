/* The supervisor's seats: who is woken, killed, retired and replaced, and what an exit means. */
#include "supervisor_parts.h"

/* ---- waking -------------------------------------------------------------------------------- */

void pf__seat_forget_call(struct pf__supervisor *sup, struct pf__seat *seat)
{
    if (!seat->called)
        return;
    seat->called = false;
    sup->called_count--;
    if (seat->previous_called != NULL)
        seat->previous_called->next_called = seat->next_called;
    else
        sup->called = seat->next_called;
    if (seat->next_called != NULL)
        seat->next_called->previous_called = seat->previous_called;
    if (!seat->killed)
        pf__timer_stop(&sup->timers, &seat->timer);
}

void pf__supervisor_nap_seen(struct pf__supervisor *sup, struct pf__seat *seat, uint64_t nap)
{
    /* Another sleep than the one it was called from: it woke, found nothing, and sleeps again. */
    if (seat->called && nap != 0 && nap != seat->called_nap)
        pf__seat_forget_call(sup, seat);
}

bool pf__supervisor_sleeper_seen(struct pf__supervisor *sup, struct pf__seat *seat, uint64_t nap)
{
    if (nap == 0 || seat->state != PF_SEAT_UP || seat->called || seat->retiring || seat->killed ||
        seat->condemned || seat->spare || seat->down || nap == seat->deaf_nap)
        return false;
    seat->called = true;
    seat->called_nap = nap;
    seat->previous_called = NULL;
    seat->next_called = sup->called;
    if (sup->called != NULL)
        sup->called->previous_called = seat;
    sup->called = seat;
    sup->called_count++;
    pf__timer_set(&sup->timers, &seat->timer, sup->now + PF_CALL_PATIENCE);
    return true;
}

/* ---- workers ------------------------------------------------------------------------------- */

static void send_signal(struct pf__supervisor *sup, struct pf__seat *seat)
{
    pf__seat_wants(sup, seat, TODO_SIGNAL);
    pf__timer_set(&sup->timers, &seat->timer,
                  seat->signal == sigkill ? PF_NEVER : sup->now + sup->term_grace);
}

void pf__supervisor_kill(struct pf__supervisor *sup, struct pf__seat *seat, int signal)
{
    if (seat->state == PF_SEAT_VACANT || (seat->killed && signal != sigkill))
        return;
    pf__seat_forget_call(sup, seat);
    seat->killed = true;
    seat->signal = signal;
    if (seat->state != PF_SEAT_SPAWNING) /* else its pid is not known yet, or by its word alone */
        send_signal(sup, seat);
}

void pf__supervisor_misbehaved(struct pf__supervisor *sup, struct pf__seat *seat)
{
    pf__supervisor_kill(sup, seat, sigkill);
}

/* It is no successor any more, and wants none. */
static void leave_succession(struct pf__supervisor *sup, struct pf__seat *seat)
{
    sup->spares -= seat->spare;
    sup->spent -= seat->spent != PF_NOT_SPENT;
    seat->spare = false;
    seat->spent = PF_NOT_SPENT;
}

void pf__seat_retire(struct pf__supervisor *sup, struct pf__seat *seat)
{
    if (seat->state == PF_SEAT_VACANT || seat->retiring)
        return;
    leave_succession(sup, seat);
    seat->retiring = true;
    sup->retiring++;
    pf__seat_forget_call(sup, seat);
    pf__seat_wants(sup, seat, TODO_RETIRE);
    /* Its initializer may never return. */
    if (seat->state != PF_SEAT_UP && !seat->up_early && !seat->killed)
        pf__timer_set(&sup->timers, &seat->timer, sup->now + PF_EXIT_PATIENCE);
}

static bool are_too_many(const struct pf__supervisor *sup)
{
    uint32_t stay = 0;
    for (uint32_t i = 0; i < sup->seat_count; i++) {
        const struct pf__seat *seat = sup->seats[i];
        stay += seat->state != PF_SEAT_VACANT && !seat->retiring && !seat->down;
    }
    return stay > sup->target + pf__supervisor_successors(sup) || stay - sup->spares > sup->target;
}

/* Spent workers go first, then idle ones, then those with the highest numbers. */
static void shrink(struct pf__supervisor *sup)
{
    for (uint32_t i = sup->seat_count; i-- > 0 && are_too_many(sup);)
        if (sup->seats[i]->spent != PF_NOT_SPENT)
            pf__seat_retire(sup, sup->seats[i]);
    for (int idle = 1; idle >= 0; idle--)
        for (uint32_t i = sup->seat_count; i-- > 0 && are_too_many(sup);)
            if (!idle || sup->seats[i]->held.first == NULL)
                pf__seat_retire(sup, sup->seats[i]);
    pf__spares_take_turns(sup);
}

void pf__supervisor_resize(struct pf__supervisor *sup, uint32_t target)
{
    sup->target = target;
    shrink(sup);
}

void pf__supervisor_renew(struct pf__supervisor *sup)
{
    sup->epoch++;
    sup->failures = 0;
    pf__timer_stop(&sup->timers, &sup->spawn_timer);
    for (uint32_t i = 0; i < sup->seat_count; i++)
        pf__seat_retire(sup, sup->seats[i]);
}

void pf__supervisor_spawned(struct pf__supervisor *sup, struct pf__seat *seat)
{
    if (seat->state != PF_SEAT_SPAWNING) /* it was given up waiting for that word */
        return;
    seat->state = seat->up_early ? PF_SEAT_UP : PF_SEAT_STARTING;
    sup->spawning--;
    if (seat->killed)
        send_signal(sup, seat);
}

void pf__supervisor_up(struct pf__supervisor *sup, struct pf__seat *seat)
{
    if (seat->state == PF_SEAT_VACANT)
        return;
    if (seat->state == PF_SEAT_SPAWNING)
        seat->up_early = true;
    else
        seat->state = PF_SEAT_UP;
    sup->failures = 0;
    if (seat->retiring && !seat->killed)
        pf__timer_stop(&sup->timers, &seat->timer);
    pf__seat_is_up(sup, seat);
}

void pf__supervisor_down(struct pf__supervisor *sup, struct pf__seat *seat)
{
    if (seat->state == PF_SEAT_VACANT || seat->killed || seat->down)
        return;
    pf__seat_forget_call(sup, seat);
    leave_succession(sup, seat);
    seat->down = true;
    sup->down++;
    pf__timer_set(&sup->timers, &seat->timer, sup->now + PF_EXIT_PATIENCE);
    pf__spares_take_turns(sup);
}

static void vacate(struct pf__supervisor *sup, struct pf__seat *seat)
{
    pf__seat_forget_call(sup, seat);
    pf__timer_stop(&sup->timers, &seat->timer);
    pf__timer_stop(&sup->timers, &seat->age);
    leave_succession(sup, seat);
    if (seat->retiring)
        sup->retiring--;
    if (seat->state == PF_SEAT_SPAWNING)
        sup->spawning--;
    sup->live--;
    sup->burned = 0;
    sup->down -= seat->down;
    seat->state = PF_SEAT_VACANT;
    seat->todo = 0;
    seat->succeeded = false;
    pf__spares_take_turns(sup);
}

/* A worker that ended before it was up would end so again: spawn the next one ever later. */
static void back_off(struct pf__supervisor *sup)
{
    int shift = sup->failures < 7 ? (int)sup->failures : 7;
    sup->failures++;
    pf__timer_set(&sup->timers, &sup->spawn_timer, sup->now + (50 * millisecond << shift));
}

void pf__supervisor_spawn_failed(struct pf__supervisor *sup, struct pf__seat *seat)
{
    if (seat->state != PF_SEAT_SPAWNING)
        return;
    vacate(sup, seat);
    back_off(sup);
}

static void lost(struct pf__supervisor *sup, struct pf__task *task)
{
    if (task->attempts == task->retries) {
        pf__task_settle(sup, task, PF_VERDICT_LOST);
        return;
    }
    task->attempts++;
    task->put_back = 0;
    task->expires = 0; /* it had begun in time */
    pf__task_put_back(sup, task);
}

void pf__supervisor_exited(struct pf__supervisor *sup, struct pf__seat *seat, uint64_t page)
{
    bool was_up = seat->state == PF_SEAT_UP, asked = seat->killed || seat->retiring;
    /* Only the newest can be unfinished: a worker that claimed on has delivered what it had, or it
     * misbehaved, and then nobody knows whether the older one began. */
    while (seat->held.first != seat->held.last)
        lost(sup, seat->held.first);
    struct pf__task *task = seat->held.last;
    if (task != NULL) {
        bool begun = pf__state_has_begun(pf__word_state(page));
        if (pf__word_seq(page) != task->seq)
            begun = pf__word_seq(page) > task->seq;
        if (seat->condemned && !seat->oversized)
            pf__task_settle(sup, task, PF_VERDICT_TIMED_OUT);
        else if (begun || task->put_back == PF_MAX_PUT_BACK)
            lost(sup, task);
        else {
            task->put_back++;
            pf__task_put_back(sup, task);
        }
    }
    vacate(sup, seat);
    if (!was_up && !asked)
        back_off(sup);
}

void pf__seat_timer_fired(struct pf__supervisor *sup, struct pf__seat *seat)
{
    if (seat->killed) {
        seat->signal = sigkill;
        pf__seat_wants(sup, seat, TODO_SIGNAL);
    } else if (seat->condemned) {
        pf__seat_asked(sup, seat);
    } else if (seat->down || seat->retiring) {
        pf__supervisor_kill(sup, seat, sigkill);
    } else if (seat->called) { /* called and did not come: somebody else must */
        seat->deaf_nap = seat->called_nap;
        pf__seat_forget_call(sup, seat);
    }
}
