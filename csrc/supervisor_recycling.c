/* The supervisor's recycling: who is worn out, and the spare that takes its place.
 *
 * A worker is spent when it is about to have done its tasks, is old enough, or has grown too large.
 * A successor is forked then and there, as a spare: it makes itself ready and claims nothing until
 * its turn comes, when fewer workers than the target are left to claim. So nobody waits for a fork
 * or an initializer, and no more than the target ever work at once. */
#include "supervisor_parts.h"

enum { SAMPLE_EVERY = 100, PER_MILLE = 1000 }; /* ms */
enum { BIRTHS = 3 };                           /* that a successor may take */

/* ---- what a worker may have ---------------------------------------------------------------- */

static uint64_t random_below(struct pf__recycling *recycling, uint64_t bound)
{
    uint64_t x = recycling->random | 1; /* xorshift64 */
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    recycling->random = x;
    return bound > 0 ? x % bound : 0;
}

/* Never more than what was asked for, and up to `jitter` per mille less: workers that were born
 * together shall not end together. */
static uint64_t with_jitter(struct pf__recycling *recycling, uint64_t most)
{
    uint64_t play =
        most / PER_MILLE * recycling->jitter + most % PER_MILLE * recycling->jitter / PER_MILLE;
    return most - random_below(recycling, play + 1);
}

void pf__seat_allot(struct pf__supervisor *sup, struct pf__seat *seat)
{
    struct pf__recycling *recycling = &sup->recycling;
    seat->ordered = sup->now;
    seat->tasks_most =
        recycling->tasks != 0 ? (uint32_t)with_jitter(recycling, recycling->tasks) : UINT32_MAX;
    seat->memory_most = with_jitter(recycling, recycling->memory);
}

void pf__seat_is_up(struct pf__supervisor *sup, struct pf__seat *seat)
{
    struct pf__recycling *recycling = &sup->recycling;
    seat->up_at = sup->now;
    sup->birth = sup->now - seat->ordered;
    if (recycling->age > 0)
        pf__timer_set(&sup->timers, &seat->age,
                      sup->now + (int64_t)with_jitter(recycling, (uint64_t)recycling->age));
    pf__spares_take_turns(sup);
}

/* ---- who is spent -------------------------------------------------------------------------- */

static void spend(struct pf__supervisor *sup, struct pf__seat *seat, enum pf__spent why)
{
    if (seat->state == PF_SEAT_VACANT || seat->retiring || seat->killed || seat->down ||
        seat->spent >= why)
        return;
    if (seat->spent == PF_NOT_SPENT)
        sup->spent++;
    seat->spent = why;
    if (why == PF_SPENT)
        pf__timer_set(&sup->timers, &seat->age,
                      sup->now + SAMPLE_EVERY * millisecond + BIRTHS * sup->birth);
    pf__spares_take_turns(sup);
}

static void succeed(struct pf__supervisor *sup, struct pf__seat *seat)
{
    seat->succeeded = true;
    pf__seat_retire(sup, seat);
}

void pf__seat_claimed(struct pf__supervisor *sup, struct pf__seat *seat)
{
    seat->claims++;
    if (seat->tasks_most == UINT32_MAX)
        return;
    /* At the pace that it has had, will it still claim when a successor is up? */
    int64_t left = (int64_t)seat->tasks_most - (int64_t)seat->claims;
    int64_t pace = (sup->now - seat->up_at) / (int64_t)seat->claims;
    if (left <= 0 || pace <= 2 * sup->birth / left)
        spend(sup, seat, PF_SPENT_SOON);
}

/* It is old; or it is spent, and no spare was ready for so long that it goes before there is one.
 * Only where none can be born it stays, being better than none. */
void pf__seat_aged(struct pf__supervisor *sup, struct pf__seat *seat)
{
    if (seat->spent != PF_SPENT)
        spend(sup, seat, PF_SPENT);
    else if (sup->failures == 0 && sup->can_spawn)
        succeed(sup, seat);
    else
        pf__timer_set(&sup->timers, &seat->age, sup->now + SAMPLE_EVERY * millisecond);
}

void pf__supervisor_sample_later(struct pf__supervisor *sup)
{
    const struct pf__recycling *recycling = &sup->recycling;
    if ((recycling->memory != 0 || recycling->memory_limit != 0 || sup->captures) &&
        sup->sample_timer.at == PF_NEVER)
        pf__timer_set(&sup->timers, &sup->sample_timer, sup->now + SAMPLE_EVERY * millisecond);
}

/* All of them: who works now was not seen to claim perhaps. Also an initializer may talk. */
void pf__supervisor_sample(struct pf__supervisor *sup)
{
    for (uint32_t i = 0; i < sup->seat_count; i++) {
        const struct pf__seat *seat = sup->seats[i];
        bool works = seat->state == PF_SEAT_UP && !seat->spare;
        if (works || (sup->captures && seat->state != PF_SEAT_VACANT))
            pf__seat_wants(sup, sup->seats[i], TODO_SAMPLE);
    }
    if (sup->unfinished > 0)
        pf__supervisor_sample_later(sup);
}

void pf__supervisor_memory(struct pf__supervisor *sup, struct pf__seat *seat, uint64_t kib)
{
    const struct pf__recycling *recycling = &sup->recycling;
    bool far_too_much = recycling->memory_limit != 0 && kib > recycling->memory_limit;
    struct pf__task *task = seat->held.last;
    if (seat->state == PF_SEAT_VACANT || seat->killed || seat->condemned)
        return;
    if (!far_too_much && (recycling->memory == 0 || kib <= seat->memory_most))
        return;
    seat->memory = kib;
    spend(sup, seat, PF_SPENT);
    if (far_too_much && task != NULL) {
        seat->condemn_seq = task->seq;
        seat->oversized = true;
        pf__seat_wants(sup, seat, TODO_CONDEMN);
    }
}

/* ---- whose place is taken ------------------------------------------------------------------ */

uint32_t pf__supervisor_ahead(uint32_t workers)
{
    return (workers + 1) / 2;
}

uint32_t pf__supervisor_successors(const struct pf__supervisor *sup)
{
    uint32_t most = pf__supervisor_ahead(sup->target);
    return sup->spent < most ? sup->spent : most;
}

static bool is_ready(const struct pf__seat *seat)
{
    return seat->state == PF_SEAT_UP || seat->up_early;
}

/* The one that is furthest on its way. */
static struct pf__seat *best_spare(const struct pf__supervisor *sup)
{
    struct pf__seat *best = NULL;
    for (uint32_t i = 0; i < sup->seat_count; i++) {
        struct pf__seat *seat = sup->seats[i];
        if (seat->spare && (best == NULL || (is_ready(seat) && !is_ready(best)) ||
                            (is_ready(seat) == is_ready(best) && seat->state > best->state)))
            best = seat;
    }
    return best;
}

void pf__spares_take_turns(struct pf__supervisor *sup)
{
    if (sup->spares == 0)
        return;
    while (sup->spares > 0 && sup->live - sup->down - sup->spares < sup->target) {
        struct pf__seat *seat = best_spare(sup);
        seat->spare = false;
        sup->spares--;
        pf__seat_wants(sup, seat, TODO_RELEASE);
    }
    /* A spare that is ready lets one go that is spent; it takes the place when that has ended. */
    uint32_t ready = 0;
    for (uint32_t i = 0; i < sup->seat_count; i++) {
        const struct pf__seat *seat = sup->seats[i];
        ready += seat->spare && is_ready(seat);
    }
    for (uint32_t i = 0; i < sup->seat_count; i++)
        if (sup->seats[i]->succeeded && ready > 0)
            ready--;
    for (uint32_t i = 0; i < sup->seat_count && ready > 0; i++) {
        struct pf__seat *seat = sup->seats[i];
        if (seat->spent == PF_SPENT) {
            succeed(sup, seat);
            ready--;
        }
    }
}
