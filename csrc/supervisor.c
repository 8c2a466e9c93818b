/* The supervisor: observations in, orders out. See supervisor.h for the contract. */
#include "supervisor.h"

#include <string.h>

enum { TIMER_TASK, TIMER_SEAT, TIMER_SPAWN };

enum pf__todo { TODO_LOOK = 1, TODO_CONDEMN = 2, TODO_SIGNAL = 4, TODO_RETIRE = 8, TODO_TELL = 16 };

#define OWNER(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

static const int64_t millisecond = 1000000;
static const int sigkill = 9; /* the one number every system agrees on; signal.h stays outside */

/* ---- lists --------------------------------------------------------------------------------- */

static void append(struct pf__task_list *list, struct pf__task *task)
{
    task->next = NULL;
    task->previous = list->last;
    if (list->last != NULL)
        list->last->next = task;
    else
        list->first = task;
    list->last = task;
}

static void prepend(struct pf__task_list *list, struct pf__task *task)
{
    task->previous = NULL;
    task->next = list->first;
    if (list->first != NULL)
        list->first->previous = task;
    else
        list->last = task;
    list->first = task;
}

static void take_out(struct pf__task_list *list, struct pf__task *task)
{
    if (task->previous != NULL)
        task->previous->next = task->next;
    else
        list->first = task->next;
    if (task->next != NULL)
        task->next->previous = task->previous;
    else
        list->last = task->previous;
    task->next = task->previous = NULL;
}

static void want(struct pf__supervisor *sup, struct pf__seat *seat, uint8_t todo)
{
    seat->todo |= todo;
    if (seat->queued)
        return;
    seat->queued = true;
    seat->next_todo = NULL;
    if (sup->last_todo != NULL)
        sup->last_todo->next_todo = seat;
    else
        sup->first_todo = seat;
    sup->last_todo = seat;
}

/* ---- making -------------------------------------------------------------------------------- */

void pf__supervisor_init(struct pf__supervisor *sup, struct pf__task **slots, uint32_t slot_count,
                         int64_t term_grace)
{
    memset(sup, 0, sizeof *sup);
    sup->slots = slots;
    sup->slot_count = slot_count;
    sup->head = sup->tail = 1;
    sup->term_grace = term_grace;
    pf__timer_init(&sup->spawn_timer, TIMER_SPAWN);
}

void pf__supervisor_seats(struct pf__supervisor *sup, struct pf__seat **seats, uint32_t count)
{
    sup->seats = seats;
    sup->seat_count = count;
}

void pf__seat_init(struct pf__seat *seat, uint32_t index)
{
    memset(seat, 0, sizeof *seat);
    seat->index = index;
    pf__timer_init(&seat->timer, TIMER_SEAT);
}

/* ---- tasks --------------------------------------------------------------------------------- */

void pf__supervisor_submit(struct pf__supervisor *sup, struct pf__task *task)
{
    task->seq = 0;
    task->seat = PF_NO_WORKER;
    task->state = PF_TASK_QUEUED;
    task->put_back = 0;
    task->told = task->due = false;
    task->started = 0;
    pf__timer_init(&task->timer, TIMER_TASK);
    append(&sup->queue, task);
    sup->unfinished++;
}

/* Takes the task out of whatever list or slot it is in. */
static void detach(struct pf__supervisor *sup, struct pf__task *task)
{
    switch (task->state) {
    case PF_TASK_QUEUED:
        take_out(&sup->queue, task);
        break;
    case PF_TASK_PUBLISHED:
        sup->slots[task->seq & (sup->slot_count - 1)] = NULL;
        sup->ready--;
        break;
    case PF_TASK_HELD:
        take_out(&sup->seats[task->seat]->held, task);
        break;
    default:
        break;
    }
}

static void settle(struct pf__supervisor *sup, struct pf__task *task, uint32_t verdict)
{
    detach(sup, task);
    pf__timer_stop(&sup->timers, &task->timer);
    task->state = PF_TASK_SETTLED;
    task->verdict = (uint8_t)verdict;
    append(&sup->settled, task);
    sup->unfinished--;
}

static void forget_call(struct pf__supervisor *sup, struct pf__seat *seat)
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

static void claimed(struct pf__supervisor *sup, struct pf__task *task, uint32_t index)
{
    struct pf__seat *seat = sup->seats[index];
    detach(sup, task);
    task->state = PF_TASK_HELD;
    task->seat = index;
    append(&seat->held, task);
    forget_call(sup, seat);
    seat->deaf_nap = 0;
    if (task->tell)
        want(sup, seat, TODO_LOOK);
}

/* Whether the word at the head says that the task there is no longer to be had, and by whom. */
static bool head_seen(struct pf__supervisor *sup, uint64_t word)
{
    struct pf__task *task = sup->slots[sup->head & (sup->slot_count - 1)];
    if (task != NULL) {
        uint32_t state = pf__word_state(word), index = pf__word_worker(word);
        if (word == pf__word(sup->head, PF_NO_WORKER, PF_READY))
            return false;
        if (pf__word_seq(word) == sup->head && (state == PF_CLAIMED || state == PF_TAKEN) &&
            index < sup->seat_count && sup->seats[index]->state != PF_SEAT_VACANT)
            claimed(sup, task, index);
        else
            settle(sup, task, PF_VERDICT_LOST); /* a wild write: nobody can say if it began */
    }
    sup->head++;
    return true;
}

bool pf__supervisor_slot_seen(struct pf__supervisor *sup, uint64_t seq, uint64_t word)
{
    if (seq == sup->head && sup->head < sup->tail)
        return head_seen(sup, word);
    if (seq != sup->tail)
        return false;
    /* A slot that a worker is still copying out of is left alone; its sequence is burned. */
    if (pf__word_state(word) == PF_CLAIMED && pf__word_worker(word) < sup->seat_count &&
        sup->seats[pf__word_worker(word)]->state != PF_SEAT_VACANT)
        sup->slot_is_held = true;
    else
        sup->slot_is_free = true;
    return false;
}

bool pf__supervisor_result(struct pf__supervisor *sup, struct pf__seat *seat, struct pf__task *task,
                           uint64_t seq, uint32_t verdict, int64_t started)
{
    if (task == NULL || task->state != PF_TASK_HELD || task->seq != seq ||
        task->seat != seat->index || verdict > PF_VERDICT_ERROR)
        return false;
    task->started = started;
    seat->tasks_done++;
    settle(sup, task, verdict);
    return true;
}

enum pf__cancel pf__supervisor_cancel(struct pf__supervisor *sup, struct pf__task *task)
{
    switch (task->state) {
    case PF_TASK_QUEUED:
        settle(sup, task, PF_VERDICT_CANCELLED);
        return PF_CANCEL_DONE;
    case PF_TASK_PUBLISHED:
        return PF_CANCEL_TRY_SLOT;
    case PF_TASK_HELD:
        return PF_CANCEL_TRY_PAGE;
    default:
        return PF_CANCEL_LATE;
    }
}

void pf__supervisor_withdrawn(struct pf__supervisor *sup, struct pf__task *task)
{
    settle(sup, task, PF_VERDICT_CANCELLED);
}

void pf__supervisor_end_task(struct pf__supervisor *sup, struct pf__task *task, uint32_t verdict,
                             int signal)
{
    struct pf__seat *seat = sup->seats[task->seat];
    settle(sup, task, verdict);
    pf__supervisor_kill(sup, seat, signal);
}

void pf__supervisor_abandon(struct pf__supervisor *sup, struct pf__task *task)
{
    if (task->state != PF_TASK_SETTLED)
        settle(sup, task, PF_VERDICT_TERMINATED);
}

/* ---- limits -------------------------------------------------------------------------------- */

void pf__supervisor_stalled(struct pf__supervisor *sup, int64_t ns)
{
    sup->stall += ns;
}

static void limit_fired(struct pf__supervisor *sup, struct pf__task *task)
{
    if (task->state != PF_TASK_HELD) { /* it cannot have begun: the limit counts from the claim */
        pf__timer_set(&sup->timers, &task->timer, sup->now + task->limit);
        return;
    }
    task->due = true;
    want(sup, sup->seats[task->seat], TODO_LOOK);
}

static void limit_looked_at(struct pf__supervisor *sup, struct pf__seat *seat,
                            struct pf__task *task, uint32_t state)
{
    int64_t end = task->started + task->limit + (sup->stall - task->stall);
    task->due = false;
    if (state == PF_LOADING)
        pf__timer_set(&sup->timers, &task->timer, sup->now + task->limit);
    else if (state != PF_RUNNING) /* its result is on the way */
        pf__timer_set(&sup->timers, &task->timer, sup->now + 10 * millisecond);
    else if (end > sup->now)
        pf__timer_set(&sup->timers, &task->timer, end);
    else {
        seat->condemn_seq = task->seq;
        want(sup, seat, TODO_CONDEMN);
    }
}

void pf__supervisor_page_seen(struct pf__supervisor *sup, struct pf__seat *seat, uint64_t page,
                              int64_t started_at)
{
    for (struct pf__task *task = seat->held.first; task != NULL; task = task->next) {
        uint32_t state = pf__word_seq(page) == task->seq ? pf__word_state(page) : PF_LOADING;
        if (state == PF_RUNNING || state == PF_DONE)
            task->started = started_at;
        if (task->tell && !task->told && (state == PF_RUNNING || state == PF_DONE))
            want(sup, seat, TODO_TELL);
        if (task->due)
            limit_looked_at(sup, seat, task, state);
    }
}

void pf__supervisor_condemned(struct pf__supervisor *sup, struct pf__seat *seat, uint64_t seq,
                              bool done)
{
    struct pf__task *task = seat->held.last;
    if (task == NULL || task->seq != seq)
        return;
    if (done)
        pf__supervisor_end_task(sup, task, PF_VERDICT_TIMED_OUT, sigkill);
    else
        pf__timer_set(&sup->timers, &task->timer, sup->now + 10 * millisecond);
}

/* ---- waking -------------------------------------------------------------------------------- */

void pf__supervisor_nap_seen(struct pf__supervisor *sup, struct pf__seat *seat, uint64_t nap)
{
    /* Another sleep than the one it was called from: it woke, found nothing, and sleeps again. */
    if (seat->called && nap != 0 && nap != seat->called_nap)
        forget_call(sup, seat);
}

bool pf__supervisor_sleeper_seen(struct pf__supervisor *sup, struct pf__seat *seat, uint64_t nap)
{
    if (nap == 0 || seat->state != PF_SEAT_UP || seat->called || seat->retiring || seat->killed ||
        nap == seat->deaf_nap)
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

void pf__supervisor_kill(struct pf__supervisor *sup, struct pf__seat *seat, int signal)
{
    /* SPAWNING: there is no process yet; the signal is sent once its pid is known. */
    if (seat->state == PF_SEAT_VACANT || (seat->killed && signal != sigkill))
        return;
    forget_call(sup, seat);
    seat->killed = true;
    seat->signal = signal;
    if (seat->state == PF_SEAT_SPAWNING)
        return;
    want(sup, seat, TODO_SIGNAL);
    pf__timer_set(&sup->timers, &seat->timer,
                  signal == sigkill ? PF_NEVER : sup->now + sup->term_grace);
}

void pf__supervisor_misbehaved(struct pf__supervisor *sup, struct pf__seat *seat)
{
    pf__supervisor_kill(sup, seat, sigkill);
}

static void retire(struct pf__supervisor *sup, struct pf__seat *seat)
{
    if (seat->state == PF_SEAT_VACANT || seat->retiring)
        return;
    seat->retiring = true;
    sup->retiring++;
    forget_call(sup, seat);
    want(sup, seat, TODO_RETIRE);
}

/* Idle workers go first, then those with the highest numbers. */
static void shrink(struct pf__supervisor *sup)
{
    for (int idle = 1; idle >= 0; idle--)
        for (uint32_t i = sup->seat_count; i-- > 0 && sup->live - sup->retiring > sup->target;)
            if (!idle || sup->seats[i]->held.first == NULL)
                retire(sup, sup->seats[i]);
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
        retire(sup, sup->seats[i]);
}

void pf__supervisor_spawned(struct pf__supervisor *sup, struct pf__seat *seat)
{
    seat->state = seat->up_early ? PF_SEAT_UP : PF_SEAT_STARTING;
    sup->spawning--;
    if (seat->killed)
        pf__supervisor_kill(sup, seat, sigkill);
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
}

static void vacate(struct pf__supervisor *sup, struct pf__seat *seat)
{
    forget_call(sup, seat);
    pf__timer_stop(&sup->timers, &seat->timer);
    if (seat->retiring)
        sup->retiring--;
    if (seat->state == PF_SEAT_SPAWNING)
        sup->spawning--;
    sup->live--;
    seat->state = PF_SEAT_VACANT;
    seat->todo = 0;
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

static void put_back(struct pf__supervisor *sup, struct pf__task *task)
{
    detach(sup, task);
    pf__timer_stop(&sup->timers, &task->timer);
    task->put_back++;
    task->seq = 0;
    task->seat = PF_NO_WORKER;
    task->state = PF_TASK_QUEUED;
    task->due = false;
    prepend(&sup->queue, task);
}

void pf__supervisor_exited(struct pf__supervisor *sup, struct pf__seat *seat, uint64_t page)
{
    bool was_up = seat->state == PF_SEAT_UP, asked = seat->killed || seat->retiring;
    uint32_t state = pf__word_state(page);
    /* Only the newest can be unfinished: a worker that claimed on has delivered what it had, or it
     * misbehaved, and then nobody knows whether the older one began. */
    while (seat->held.first != seat->held.last)
        settle(sup, seat->held.first, PF_VERDICT_LOST);
    struct pf__task *task = seat->held.last;
    if (task != NULL) {
        bool begun = state == PF_RUNNING || state == PF_DONE || state == PF_CONDEMNED;
        if (pf__word_seq(page) != task->seq)
            begun = pf__word_seq(page) > task->seq;
        if (begun || task->put_back == PF_MAX_PUT_BACK)
            settle(sup, task, PF_VERDICT_LOST);
        else
            put_back(sup, task);
    }
    vacate(sup, seat);
    if (!was_up && !asked)
        back_off(sup);
}

/* ---- time ---------------------------------------------------------------------------------- */

static void seat_timer_fired(struct pf__supervisor *sup, struct pf__seat *seat)
{
    if (seat->killed) {
        seat->signal = sigkill;
        want(sup, seat, TODO_SIGNAL);
    } else if (seat->called) { /* called and did not come: somebody else must */
        seat->deaf_nap = seat->called_nap;
        forget_call(sup, seat);
    }
}

void pf__supervisor_time(struct pf__supervisor *sup, int64_t now)
{
    sup->now = now;
    while (sup->timers.first != NULL && sup->timers.first->at <= now) {
        struct pf__timer *timer = sup->timers.first;
        pf__timer_stop(&sup->timers, timer);
        if (timer->kind == TIMER_TASK)
            limit_fired(sup, OWNER(timer, struct pf__task, timer));
        else if (timer->kind == TIMER_SEAT)
            seat_timer_fired(sup, OWNER(timer, struct pf__seat, timer));
    }
}

int64_t pf__supervisor_deadline(const struct pf__supervisor *sup)
{
    return sup->timers.first != NULL ? sup->timers.first->at : PF_NEVER;
}

/* ---- orders -------------------------------------------------------------------------------- */

static enum pf__order_type seat_order(struct pf__supervisor *sup, struct pf__order *order)
{
    struct pf__seat *seat;
    while ((seat = sup->first_todo) != NULL) {
        order->seat = seat;
        if (seat->todo & TODO_TELL) {
            for (struct pf__task *task = seat->held.first; task != NULL; task = task->next)
                if (task->tell && !task->told && task->started != 0) {
                    task->told = true;
                    order->task = task;
                    return PF_ORDER_ACCEPTED;
                }
            seat->todo &= (uint8_t)~TODO_TELL;
        }
        if (seat->todo & TODO_LOOK) {
            seat->todo &= (uint8_t)~TODO_LOOK;
            return PF_ORDER_LOOK;
        }
        if (seat->todo & TODO_CONDEMN) {
            seat->todo &= (uint8_t)~TODO_CONDEMN;
            order->seq = seat->condemn_seq;
            return PF_ORDER_CONDEMN;
        }
        if (seat->todo & TODO_RETIRE) {
            seat->todo &= (uint8_t)~TODO_RETIRE;
            return PF_ORDER_RETIRE;
        }
        if (seat->todo & TODO_SIGNAL) {
            seat->todo &= (uint8_t)~TODO_SIGNAL;
            order->signal = seat->signal;
            return PF_ORDER_SIGNAL;
        }
        seat->queued = false;
        sup->first_todo = seat->next_todo;
        if (sup->first_todo == NULL)
            sup->last_todo = NULL;
    }
    return PF_ORDER_NONE;
}

static enum pf__order_type publish_order(struct pf__supervisor *sup, struct pf__order *order)
{
    struct pf__task *task = sup->queue.first;
    if (task == NULL || sup->tail - sup->head >= sup->slot_count)
        return PF_ORDER_NONE;
    order->seq = sup->tail;
    if (sup->slot_is_held) {
        sup->slot_is_held = false;
        sup->slots[sup->tail++ & (sup->slot_count - 1)] = NULL;
        return PF_ORDER_SKIP;
    }
    if (!sup->slot_is_free)
        return PF_ORDER_LOOK_SLOT;
    sup->slot_is_free = false;
    take_out(&sup->queue, task);
    task->state = PF_TASK_PUBLISHED;
    task->seq = sup->tail++;
    task->stall = sup->stall;
    sup->slots[task->seq & (sup->slot_count - 1)] = task;
    sup->ready++;
    if (task->limit > 0)
        pf__timer_set(&sup->timers, &task->timer, sup->now + task->limit);
    order->task = task;
    return PF_ORDER_PUBLISH;
}

static enum pf__order_type spawn_order(struct pf__supervisor *sup, struct pf__order *order)
{
    if (!sup->can_spawn || sup->live >= sup->target || sup->spawning >= PF_MAX_SPAWNING ||
        sup->spawn_timer.at != PF_NEVER)
        return PF_ORDER_NONE;
    for (uint32_t i = 0; i < sup->seat_count; i++) {
        struct pf__seat *seat = sup->seats[i];
        if (seat->state != PF_SEAT_VACANT || seat->queued)
            continue;
        pf__seat_init(seat, i);
        seat->state = PF_SEAT_SPAWNING;
        seat->epoch = sup->epoch;
        sup->live++;
        sup->spawning++;
        order->seat = seat;
        return PF_ORDER_SPAWN;
    }
    return PF_ORDER_NONE;
}

enum pf__order_type pf__supervisor_next(struct pf__supervisor *sup, struct pf__order *order)
{
    memset(order, 0, sizeof *order);
    if (sup->draining && sup->unfinished == 0 && sup->target > 0)
        pf__supervisor_resize(sup, 0);
    order->task = sup->settled.first;
    if (order->task != NULL) {
        take_out(&sup->settled, order->task);
        return order->type = PF_ORDER_SETTLED;
    }
    if ((order->type = seat_order(sup, order)) == PF_ORDER_NONE &&
        (order->type = publish_order(sup, order)) == PF_ORDER_NONE)
        order->type = spawn_order(sup, order);
    return order->type;
}
