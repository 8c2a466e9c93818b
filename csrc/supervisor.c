/* The supervisor's frame: what it is made of, the time, and the orders. See supervisor.h for the
 * contract. */
#include "supervisor_parts.h"

#include <string.h>

#define OWNER(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

/* ---- lists --------------------------------------------------------------------------------- */

void pf__tasks_append(struct pf__task_list *list, struct pf__task *task)
{
    task->next = NULL;
    task->previous = list->last;
    if (list->last != NULL)
        list->last->next = task;
    else
        list->first = task;
    list->last = task;
}

void pf__tasks_prepend(struct pf__task_list *list, struct pf__task *task)
{
    task->previous = NULL;
    task->next = list->first;
    if (list->first != NULL)
        list->first->previous = task;
    else
        list->last = task;
    list->first = task;
}

void pf__tasks_take_out(struct pf__task_list *list, struct pf__task *task)
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

void pf__seat_wants(struct pf__supervisor *sup, struct pf__seat *seat, uint16_t todo)
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
    sup->pace = PF_MOST_PACE;
    sup->head = sup->tail = 1;
    sup->term_grace = term_grace;
    pf__timer_init(&sup->spawn_timer, TIMER_SPAWN);
    pf__timer_init(&sup->sample_timer, TIMER_SAMPLE);
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
    pf__timer_init(&seat->age, TIMER_AGE);
}

/* ---- time ---------------------------------------------------------------------------------- */

void pf__supervisor_time(struct pf__supervisor *sup, int64_t now)
{
    sup->now = now;
    while (sup->timers.first != NULL && sup->timers.first->at <= now) {
        struct pf__timer *timer = sup->timers.first;
        pf__timer_stop(&sup->timers, timer);
        if (timer->kind == TIMER_TASK)
            pf__task_timer_fired(sup, OWNER(timer, struct pf__task, timer));
        else if (timer->kind == TIMER_SEAT)
            pf__seat_timer_fired(sup, OWNER(timer, struct pf__seat, timer));
        else if (timer->kind == TIMER_AGE)
            pf__seat_aged(sup, OWNER(timer, struct pf__seat, age));
        else if (timer->kind == TIMER_SAMPLE)
            pf__supervisor_sample(sup);
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
            seat->todo &= (uint16_t)~TODO_TELL;
        }
        if (seat->todo & TODO_LOOK) {
            seat->todo &= (uint16_t)~TODO_LOOK;
            return PF_ORDER_LOOK;
        }
        if (seat->todo & TODO_SOFTEN) {
            seat->todo &= (uint16_t)~TODO_SOFTEN;
            order->task = seat->held.last;
            if (order->task != NULL && order->task->softened)
                return PF_ORDER_SOFTEN;
        }
        if (seat->todo & TODO_SAMPLE) {
            seat->todo &= (uint16_t)~TODO_SAMPLE;
            return PF_ORDER_SAMPLE;
        }
        if (seat->todo & TODO_ASK) {
            seat->todo &= (uint16_t)~TODO_ASK;
            order->seq = seat->condemn_seq;
            return seat->asked ? PF_ORDER_LOOK_ASKED : PF_ORDER_ASK;
        }
        if (seat->todo & TODO_CONDEMN) {
            seat->todo &= (uint16_t)~TODO_CONDEMN;
            order->seq = seat->condemn_seq;
            return PF_ORDER_CONDEMN;
        }
        if (seat->todo & TODO_RELEASE) {
            seat->todo &= (uint16_t)~TODO_RELEASE;
            return PF_ORDER_RELEASE;
        }
        if (seat->todo & TODO_RETIRE) {
            seat->todo &= (uint16_t)~TODO_RETIRE;
            return PF_ORDER_RETIRE;
        }
        if (seat->todo & TODO_SIGNAL) {
            seat->todo &= (uint16_t)~TODO_SIGNAL;
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

static bool can_publish(const struct pf__supervisor *sup)
{
    return sup->queue.first != NULL && sup->tail - sup->head < sup->slot_count &&
           sup->burned <= sup->slot_count;
}

static enum pf__order_type publish_order(struct pf__supervisor *sup, struct pf__order *order)
{
    struct pf__task *task = sup->queue.first;
    if (!can_publish(sup))
        return PF_ORDER_NONE;
    order->seq = sup->tail;
    if (sup->slot_is_held) {
        sup->slot_is_held = false;
        sup->burned++;
        sup->slots[sup->tail++ & (sup->slot_count - 1)] = NULL;
        return PF_ORDER_SKIP;
    }
    if (!sup->slot_is_free)
        return PF_ORDER_LOOK_SLOT;
    sup->slot_is_free = false;
    sup->burned = 0;
    pf__tasks_take_out(&sup->queue, task);
    task->state = PF_TASK_PUBLISHED;
    task->seq = sup->tail++;
    task->stall = sup->stall;
    sup->slots[task->seq & (sup->slot_count - 1)] = task;
    sup->ready++;
    pf__supervisor_sample_later(sup);
    pf__task_arm(sup, task);
    order->task = task;
    return PF_ORDER_PUBLISH;
}

/* The place for one more worker, if there shall be one. */
static struct pf__seat *seat_to_fill(const struct pf__supervisor *sup)
{
    if (!sup->can_spawn || sup->live - sup->down >= sup->target + pf__supervisor_successors(sup) ||
        sup->spawning >= PF_MAX_SPAWNING || sup->spawn_timer.at != PF_NEVER)
        return NULL;
    for (uint32_t i = 0; i < sup->seat_count; i++)
        if (sup->seats[i]->state == PF_SEAT_VACANT && !sup->seats[i]->queued)
            return sup->seats[i];
    return NULL;
}

static bool awaits_permit(const struct pf__supervisor *sup)
{
    return sup->asked && !sup->permitted;
}

void pf__supervisor_permit(struct pf__supervisor *sup)
{
    sup->permitted = sup->permitted || sup->asked;
    sup->asked = false;
}

static enum pf__order_type spawn_order(struct pf__supervisor *sup, struct pf__order *order)
{
    struct pf__seat *seat = sup->forks_wait ? NULL : seat_to_fill(sup);
    if (seat == NULL || awaits_permit(sup))
        return PF_ORDER_NONE;
    if (sup->asks && !sup->permitted) {
        sup->asked = true;
        return PF_ORDER_ASK_SPAWN;
    }
    sup->permitted = false;
    pf__seat_init(seat, seat->index);
    seat->state = PF_SEAT_SPAWNING;
    seat->epoch = sup->epoch;
    seat->spare = sup->live - sup->down - sup->spares >= sup->target;
    pf__seat_allot(sup, seat);
    sup->spares += seat->spare;
    sup->live++;
    sup->spawning++;
    order->seat = seat;
    return PF_ORDER_SPAWN;
}

enum pf__order_type pf__supervisor_next(struct pf__supervisor *sup, struct pf__order *order)
{
    memset(order, 0, sizeof *order);
    if (sup->draining && sup->unfinished == 0 && sup->target > 0)
        pf__supervisor_resize(sup, 0);
    order->task = sup->settled.first;
    if (order->task != NULL) {
        pf__tasks_take_out(&sup->settled, order->task);
        return order->type = PF_ORDER_SETTLED;
    }
    order->task = sup->expiring.first;
    if (order->task != NULL) {
        pf__tasks_take_out(&sup->expiring, order->task);
        order->task->expiring = false;
        return order->type = PF_ORDER_EXPIRE;
    }
    if ((order->type = seat_order(sup, order)) == PF_ORDER_NONE &&
        (order->type = publish_order(sup, order)) == PF_ORDER_NONE)
        order->type = spawn_order(sup, order);
    return order->type;
}

bool pf__supervisor_has_orders(const struct pf__supervisor *sup)
{
    return sup->settled.first != NULL || sup->expiring.first != NULL || sup->first_todo != NULL ||
           can_publish(sup) || (!awaits_permit(sup) && seat_to_fill(sup) != NULL);
}
