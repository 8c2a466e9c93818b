/* The supervisor's tasks: queued, published, held, settled; cancelled, put back. */
#include "supervisor_parts.h"

/* ---- from the queue to the end ----------------------------------------------------------- */

void pf__supervisor_submit(struct pf__supervisor *sup, struct pf__task *task)
{
    task->seq = 0;
    task->seat = PF_NO_WORKER;
    task->state = PF_TASK_QUEUED;
    task->put_back = 0;
    task->told = task->due = task->softened = task->expiring = false;
    task->started = 0;
    task->attempts = 0;
    pf__timer_init(&task->timer, TIMER_TASK);
    pf__tasks_append(&sup->queue, task);
    pf__task_arm(sup, task);
    sup->unfinished++;
}

void pf__task_detach(struct pf__supervisor *sup, struct pf__task *task)
{
    switch (task->state) {
    case PF_TASK_QUEUED:
        pf__tasks_take_out(&sup->queue, task);
        break;
    case PF_TASK_PUBLISHED:
        sup->slots[task->seq & (sup->slot_count - 1)] = NULL;
        sup->ready--;
        if (task->expiring)
            pf__tasks_take_out(&sup->expiring, task);
        task->expiring = false;
        break;
    case PF_TASK_HELD:
        pf__tasks_take_out(&sup->seats[task->seat]->held, task);
        break;
    default:
        break;
    }
}

void pf__task_settle(struct pf__supervisor *sup, struct pf__task *task, uint32_t verdict)
{
    pf__task_detach(sup, task);
    pf__timer_stop(&sup->timers, &task->timer);
    task->state = PF_TASK_SETTLED;
    task->verdict = (uint8_t)verdict;
    pf__tasks_append(&sup->settled, task);
    sup->unfinished--;
}

static void claimed(struct pf__supervisor *sup, struct pf__task *task, uint32_t index)
{
    struct pf__seat *seat = sup->seats[index];
    pf__task_detach(sup, task);
    task->state = PF_TASK_HELD;
    task->seat = index;
    pf__tasks_append(&seat->held, task);
    pf__seat_forget_call(sup, seat);
    seat->deaf_nap = 0;
    pf__seat_claimed(sup, seat);
    pf__task_arm(sup, task);
    if (task->tell)
        pf__seat_wants(sup, seat, TODO_LOOK);
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
            pf__task_settle(sup, task,
                            PF_VERDICT_LOST); /* a wild write: nobody can say if it began */
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

/* What a worker says of its time may be wild. */
static int64_t pace_of(int64_t gap)
{
    return gap < 0 || gap > PF_MOST_PACE ? PF_MOST_PACE : gap;
}

bool pf__supervisor_result(struct pf__supervisor *sup, struct pf__seat *seat, struct pf__task *task,
                           uint64_t seq, uint32_t verdict, int64_t started)
{
    if (task == NULL || task->state != PF_TASK_HELD || task->seq != seq ||
        task->seat != seat->index || verdict > PF_VERDICT_ERROR)
        return false;
    task->started = started;
    seat->tasks_done++;
    sup->pace += (pace_of((int64_t)((uint64_t)started - (uint64_t)seat->began)) - sup->pace) / 8;
    seat->began = started;
    pf__task_settle(sup, task, verdict);
    return true;
}

enum pf__cancel pf__supervisor_cancel(struct pf__supervisor *sup, struct pf__task *task)
{
    switch (task->state) {
    case PF_TASK_QUEUED:
        pf__task_settle(sup, task, PF_VERDICT_CANCELLED);
        return PF_CANCEL_DONE;
    case PF_TASK_PUBLISHED:
        return PF_CANCEL_TRY_SLOT;
    case PF_TASK_HELD:
        return PF_CANCEL_TRY_PAGE;
    default:
        return PF_CANCEL_LATE;
    }
}

void pf__supervisor_withdrawn(struct pf__supervisor *sup, struct pf__task *task, uint32_t verdict)
{
    pf__task_settle(sup, task, verdict);
}

void pf__supervisor_end_task(struct pf__supervisor *sup, struct pf__task *task, uint32_t verdict,
                             int signal)
{
    struct pf__seat *seat = sup->seats[task->seat];
    pf__task_settle(sup, task, verdict);
    pf__supervisor_kill(sup, seat, signal);
}

void pf__supervisor_abandon(struct pf__supervisor *sup, struct pf__task *task)
{
    if (task->state != PF_TASK_SETTLED)
        pf__task_settle(sup, task, PF_VERDICT_TERMINATED);
}

void pf__task_put_back(struct pf__supervisor *sup, struct pf__task *task)
{
    pf__task_detach(sup, task);
    pf__timer_stop(&sup->timers, &task->timer);
    task->seq = 0;
    task->seat = PF_NO_WORKER;
    task->state = PF_TASK_QUEUED;
    task->due = task->softened = false;
    task->started = task->looks = 0;
    pf__tasks_prepend(&sup->queue, task);
    pf__task_arm(sup, task);
}
