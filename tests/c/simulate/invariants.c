/* What holds whenever a call of prefork.h returns, and whenever the application waits:
 *
 *   no READY slot beside a sleeper that nobody called in the last 2 ms
 *   no reusable slot beside a waiting task; alive + in flight + in back-off = target
 *   where somebody is to claim, no spare waits; where a spare is ready, nobody spent goes on
 *   no slot is CLAIMED by a worker that was buried
 *   each spawn was permitted, where that is asked for
 *   whoever is to end and does not is killed in time
 *   while the application waits, nothing that it should know is without a bell, and no call without
 *   a timer for the end of its limit */
#define _GNU_SOURCE
#include "oracle.h"

#include <string.h>

static struct process *process_of(const struct pf__child *child)
{
    for (struct process *process = processes; process < processes + PROCESSES; process++)
        if (process->role == WORKER && process->slot == child->seat.index &&
            process->generation == child->generation)
            return process;
    return NULL;
}

static bool sleeps(struct process *process)
{
    return process->waits && process->segment != NULL && process->segment->asleep != 0 &&
           !process->ready(process);
}

/* Or has died, unheard of. */
static bool somebody_is_awake(void)
{
    for (uint32_t i = 0; i < pool->sup.seat_count; i++) {
        const struct pf__child *child = (const struct pf__child *)pool->seats[i];
        struct process *process = process_of(child);
        if (child->seat.state != PF_SEAT_VACANT &&
            (process == NULL || process->dead || !sleeps(process)))
            return true;
    }
    return false;
}

/* Sleepers whom brief tasks leave for later; no longer than any other call may take. */
static bool calls_are_due(void)
{
    int64_t at = pool->calls.again_at;
    seen.left++;
    return somebody_is_awake() && pool->timer_at <= at && at <= pf__now_coarse() + PF_CALL_PATIENCE;
}

/* `ready`: how many slots say so. */
static void check_sleeper(const struct pf__child *child, uint64_t ready)
{
    const struct pf__seat *seat = &child->seat;
    struct process *process = process_of(child);
    if (process == NULL || process->dead || !sleeps(process) || seat->state != PF_SEAT_UP ||
        seat->retiring || seat->killed || seat->spare || seat->down)
        return;
    MUST(!seat->called || seat->called_nap != process->segment->asleep); /* called, yet no bell */
    MUST(!seat->called || ready == 0); /* it has slept anew since, and does not truth_count */
    MUST(seat->called || ready <= pool->sup.called_count || calls_are_due());
}

/* Else the slot would be held for ever: whoever takes that seat next does not know of it. */
static void check_claim(uint64_t word)
{
    if (pf__word_state(word) != PF_CLAIMED || terminated)
        return;
    const struct pf__seat *seat = pool->seats[pf__word_worker(word)];
    const struct process *process = process_of((const struct pf__child *)seat);
    MUST(seat->state != PF_SEAT_VACANT && process != NULL && process->claim == pf__word_seq(word));
}

static void check_call(const struct pf__seat *seat)
{
    /* Called or deaf by then; a timer that has fired is at PF_NEVER. */
    MUST(!seat->called || seat->timer.at <= pool->sup.now + PF_CALL_PATIENCE);
    seen.deaf += seat->deaf_nap != 0;
}

/* Whoever holds a task with a limit has a timer running for it. */
static void check_limits(const struct pf__seat *seat)
{
    for (const struct pf__task *task = seat->held.first; task != NULL; task = task->next) {
        bool limited = task->limit > 0 || (task->soft > 0 && !task->softened);
        MUST(!limited || task->timer.at != PF_NEVER || task->due || seat->condemned ||
             seat->killed);
    }
}

static void check_succession(uint32_t stay)
{
    const struct pf__supervisor *sup = &pool->sup;
    uint32_t spent = 0, spares = 0, ready = 0, succeeded = 0, waiting = 0, down = 0;
    for (uint32_t i = 0; i < sup->seat_count; i++) {
        const struct pf__seat *seat = pool->seats[i];
        if (seat->state == PF_SEAT_VACANT)
            continue;
        spent += seat->spent != PF_NOT_SPENT;
        waiting += seat->spent == PF_SPENT;
        spares += seat->spare;
        ready += seat->spare && (seat->state == PF_SEAT_UP || seat->up_early);
        succeeded += seat->succeeded;
        down += seat->down;
    }
    MUST(spent == sup->spent && spares == sup->spares && down == sup->down);
    MUST(spares == 0 || sup->live - spares - down >= sup->target);
    MUST(stay - spares <= sup->target);
    MUST(waiting == 0 || ready <= succeeded);
    seen.spares += spares;
}

static uint32_t most_workers(const struct pf__supervisor *sup)
{
    uint32_t ahead = pf__supervisor_ahead(sup->target);
    return sup->target + (sup->spent < ahead ? sup->spent : ahead);
}

/* One could be spawned, and is not. */
static bool wants_worker(const struct pf__supervisor *sup)
{
    bool vacant = false;
    for (uint32_t i = 0; i < sup->seat_count; i++)
        vacant = vacant || sup->seats[i]->state == PF_SEAT_VACANT;
    return vacant && sup->can_spawn && sup->spawn_timer.at == PF_NEVER &&
           sup->spawning < PF_MAX_SPAWNING && sup->live - sup->down < most_workers(sup) &&
           !sup->asked;
}

void oracle_returned(int events)
{
    const struct pf__supervisor *sup = &pool->sup;
    uint64_t ready = 0, awaited = 0, held = 0;
    uint32_t live = 0, retiring = 0, spawning = 0, called = 0, stay = 0;
    oracle_observe(current);
    for (int i = 0; i < SLOTS; i++) {
        check_claim(words[i]);
        ready += pf__word_state(words[i]) == PF_READY;
        awaited += sup->slots[i] != NULL;
    }
    for (uint32_t i = 0; i < sup->seat_count; i++) {
        const struct pf__child *child = (const struct pf__child *)pool->seats[i];
        const struct pf__seat *seat = &child->seat;
        live += seat->state != PF_SEAT_VACANT;
        spawning += seat->state == PF_SEAT_SPAWNING;
        retiring += seat->state != PF_SEAT_VACANT && seat->retiring;
        stay += seat->state != PF_SEAT_VACANT && !seat->retiring && !seat->down;
        called += seat->called;
        held += seat->held.first != NULL;
        MUST(seat->state != PF_SEAT_VACANT || (seat->held.first == NULL && !seat->called));
        check_call(seat);
        check_sleeper(child, ready);
        check_limits(seat);
    }
    MUST(ready <= awaited && awaited == sup->ready && held <= live);
    MUST(live == sup->live && retiring == sup->retiring && spawning == sup->spawning);
    MUST(called == sup->called_count && stay <= most_workers(sup));
    check_succession(stay);
    MUST(sup->queue.first == NULL || sup->tail - sup->head >= sup->slot_count ||
         (guest && poll_is_ready(application)));
    /* Who is asked before each spawn is asked once for each, and has the question. */
    MUST(!sup->asks || pool->counts.spawned <= spawns_permitted);
    MUST(sup->asked ? spawns_wanted == 1 || pool->event_count > 0 : spawns_wanted == 0);
    /* What is to be spawned is; or, where events are told first, in the next turn. */
    MUST(!wants_worker(sup) || (guest ? poll_is_ready(application) : events > 0));
    uint64_t open = 0;
    for (uint64_t number = 1; number <= truth_count; number++)
        open += !truths[number].settled;
    MUST(open >= sup->unfinished);
}

void oracle_polled(void)
{
    for (const struct process *process = processes; process < processes + PROCESSES; process++)
        MUST(process->role != WORKER || process->dead || !process->down || process->doomed ||
             now - process->down_since <= PF_EXIT_PATIENCE + 5000 * ms);
}

/* It sleeps until the pool does what it asked for. */
static bool is_left_waiting(struct process *process)
{
    return process->ready != NULL && !process->ready(process) && !process->doomed &&
           (process->wants_room || pf__word_state(process->page) == PF_LOADING);
}

/* Else the limit would be up later than it said, by however late the claim was seen; a little is
 * between a timer and the look that it makes us take. */
static void check_limit(const struct pf__seat *seat, const struct process *process)
{
    const struct truth *truth = truth_of_seq(pf__word_seq(process->page));
    const struct pf__job *job = pf__handles_find(&pool->jobs, truth->id);
    if (pf__word_state(process->page) != PF_RUNNING || job == NULL || job->task.limit == 0 ||
        seat->condemned || seat->killed)
        return;
    int64_t stalled = pool->sup.stall - job->task.stall;
    int64_t since = pool->sup.stalled_until - truth->running_since;
    if (stalled > since)
        stalled = since > 0 ? since : 0;
    MUST(job->task.timer.at <= truth->running_since + job->task.limit + stalled + ms);
}

/* The application waits with its bell armed, and there is nothing to wake it. Then whoever has done
 * all that it does about a result, about the beginning of a call, about a body or room that it
 * needs, has done too little if the pool does not know. */
void oracle_at_rest(void)
{
    MUST(!wants_worker(&pool->sup) && !pf__supervisor_has_orders(&pool->sup));
    MUST(!pool->sup.asks || pool->event_count == 0);
    for (uint32_t i = 0; i < pool->sup.seat_count; i++) {
        const struct pf__child *child = (const struct pf__child *)pool->seats[i];
        struct process *process = process_of(child);
        if (child->seat.state == PF_SEAT_VACANT || process == NULL || process->segment == NULL ||
            process->dead || !process->waits || child->board.segment == NULL)
            continue;
        MUST(!pf__results_pending(&child->board) && !is_left_waiting(process));
        check_limit(&child->seat, process);
        const struct truth *truth = truth_of_seq(pf__word_seq(process->page));
        MUST(!process->calling || pf__word_state(process->page) != PF_RUNNING ||
             !truth->options.tell || truth->told || truth->settled ||
             (now < pool->ring.pool->looks_at && pool->timer_at <= pool->ring.pool->looks_at));
    }
}
