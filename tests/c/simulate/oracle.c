/* What is true, beside what the pool believes: every change of a shared word is looked at as it is
 * made. (events.c: what the application is told of it. invariants.c: what holds whenever a call
 * returns.)
 *
 *   tasks are published in the order of their submission, those put back before all others
 *   one that began is never published again, one that was cancelled never begins
 *   a signal goes to a worker whose page is CONDEMNED, and to no other before pf_pool_terminate
 *   a slot that a living worker copies from is not published over
 *   a spare claims nothing */
#define _GNU_SOURCE
#include "oracle.h"

#include <stdio.h>
#include <string.h>

enum { SEQUENCES = 1 << 12 };

struct truth truths[TASKS];
uint64_t truth_count, words[SLOTS];
struct seen seen;
static uint64_t number_of_seq[SEQUENCES], tail, newest;
static bool watching;

void oracle_start(void)
{
    memset(truths, 0, sizeof truths);
    memset(words, 0, sizeof words);
    truth_count = tail = newest = 0;
    watching = false;
}

void oracle_watch(void)
{
    watching = true;
}

/* ---- words, as they change ----------------------------------------------------------------- */

static uint64_t number_of(uint64_t id)
{
    uint64_t number;
    const struct pf__job *job = pf__handles_find(&pool->jobs, id);
    MUST(job != NULL);
    memcpy(&number, job->body, sizeof number);
    return number;
}

struct truth *truth_of_seq(uint64_t seq)
{
    return &truths[number_of_seq[seq % SEQUENCES]];
}

static bool is_being_copied(uint64_t word)
{
    for (int i = 0; i < PROCESSES; i++)
        if (processes[i].role == WORKER && !processes[i].dead &&
            processes[i].slot == pf__word_worker(word) && processes[i].claim == pf__word_seq(word))
            return true;
    return false;
}

/* Tasks that are put back go in front, so the first one of the queue says whether there are any. */
static bool is_put_back(const struct pf__task *task)
{
    return task != NULL && (task->put_back > 0 || task->attempts > 0);
}

/* Its worker died in it, and that is made good. */
static void called_again(struct truth *truth)
{
    const struct process *process = truth->begun ? process_find(truth->pid) : NULL;
    MUST(process == NULL || process->dead);
    MUST(!truth->delivered && (!truth->condemned || truth->oversized));
    MUST(++truth->losses <= truth->options.retries);
    truth->begun = truth->ended = truth->softened = truth->condemned = truth->oversized = false;
    truth->published = 0;
    seen.retried++;
}

static void published(uint64_t before, uint64_t after)
{
    uint64_t seq = pf__word_seq(after);
    const struct pf__body *body = pf__ring_body(&pool->ring, seq);
    MUST(seq == atomic_load(&pool->ring.pool->tail));
    MUST(pf__word_state(before) != PF_READY);
    MUST(pf__word_state(before) != PF_CLAIMED || !is_being_copied(before));
    number_of_seq[seq % SEQUENCES] = number_of(body->id);
    struct truth *truth = truth_of_seq(seq);
    if (truth->begun || truth->published == 1 + PF_MAX_PUT_BACK)
        called_again(truth);
    MUST(!truth->settled && !truth->cancelled);
    uint64_t number = (uint64_t)(truth - truths);
    bool again = truth->published > 0 || truth->losses > 0;
    MUST(again || number > newest); /* in the order of submission */
    MUST(again || !is_put_back(pool->sup.queue.first));
    newest = number > newest ? number : newest;
    MUST(++truth->published <= 1 + PF_MAX_PUT_BACK);
    seen.put_back += truth->published > 1;
    seen.outside += (body->flags & PF_BODY_OUTSIDE) != 0;
}

static void slot_changed(struct process *who, uint64_t before, uint64_t after)
{
    uint64_t seq = pf__word_seq(after);
    switch (pf__word_state(after)) {
    case PF_READY:
        MUST(who == application);
        published(before, after);
        break;
    case PF_CLAIMED:
        MUST(who->role == WORKER && pf__word_worker(after) == who->slot);
        MUST(before == pf__word(seq, PF_NO_WORKER, PF_READY));
        MUST(!(who->segment->control & PF_CTL_HOLD));
        who->claim = seq;
        break;
    case PF_TAKEN:
        MUST(before == pf__word(seq, pf__word_worker(after), PF_CLAIMED));
        if (who->role == WORKER) {
            MUST(who->claim == seq);
            who->claim = 0;
        } else {
            MUST(!is_being_copied(before));
        }
        break;
    case PF_WITHDRAWN:
        MUST(who == application && before == pf__word(seq, PF_NO_WORKER, PF_READY));
        break;
    default:
        MUST(!"a slot word that nobody may write");
    }
}

static void call_begins(struct process *process, struct truth *truth)
{
    MUST(!truth->begun && !truth->cancelled && (!truth->settled || terminated));
    truth->begun = true;
    truth->wrote = false;
    truth->begun_at = process->segment->started_at;
    truth->running_since = now; /* a little later: that was read before the page was changed */
    truth->pid = process->pid;
}

static void is_condemned(const struct process *process, struct truth *truth)
{
    truth->condemned = true;
    truth->oversized = process->memory_used > MEMORY_LIMIT;
}

static void page_changed(const struct process *who, struct process *process, uint64_t after)
{
    uint64_t before = process->page, seq = pf__word_seq(after);
    uint32_t from = pf__word_state(before), to = pf__word_state(after);
    struct truth *truth = truth_of_seq(seq != 0 ? seq : pf__word_seq(before));
    process->page = after;
    MUST(seq == pf__word_seq(before) || to == PF_IDLE || from == PF_IDLE);
    if (who == process && from == PF_LOADING && to == PF_RUNNING)
        call_begins(process, truth);
    else if (who == process && from == PF_RUNNING && to == PF_DONE)
        truth->ended = true;
    else if (who == process && from == PF_DONE && to == PF_IDLE)
        truth->delivered = true;
    else if (who == application && from == PF_RUNNING && to == PF_CONDEMNED)
        is_condemned(process, truth);
    else if (who == application && from == PF_LOADING && to == PF_REVOKED)
        seen.revoked++;
    else if (who == process && from == PF_IDLE && to == PF_LOADING)
        MUST(who->claim == seq);
    else
        MUST(who == process && to == PF_IDLE && (from == PF_STARTING || from == PF_REVOKED));
}

static void look_at_page(const struct process *who, struct process *process)
{
    if (process->segment == NULL)
        return;
    uint64_t page = atomic_load_explicit(&process->segment->page, memory_order_relaxed);
    if (page != process->page)
        page_changed(who, process, page);
}

void oracle_observe(struct process *who)
{
    if (!watching)
        return;
    for (int i = 0; i < SLOTS; i++) {
        uint64_t word = atomic_load_explicit(&pool->ring.words->slot[i].word, memory_order_relaxed);
        if (word != words[i]) {
            uint64_t before = words[i];
            words[i] = word;
            slot_changed(who, before, word);
        }
    }
    if (atomic_load(&pool->ring.pool->tail) != tail) {
        tail = atomic_load(&pool->ring.pool->tail);
        seen.burned += tail > 1 && pf__word_seq(words[(tail - 1) % SLOTS]) != tail - 1;
    }
    if (who->role == WORKER)
        look_at_page(who, who);
    else
        for (struct process *process = processes; process < processes + PROCESSES; process++)
            if (process->role == WORKER)
                look_at_page(who, process);
}

/* ---- what else there is to see ------------------------------------------------------------- */

/* Some tasks no worker survives while it loads them: else none would be put back three times. */
bool oracle_is_cursed(const struct process *process)
{
    return number_of_seq[pf__word_seq(process->page) % SEQUENCES] % 16 == 1;
}

void oracle_signal(struct process *process)
{
    if (process->role != WORKER)
        return;
    uint64_t page = process->segment != NULL ? process->segment->page : 0;
    MUST(terminated || pf__word_state(page) == PF_CONDEMNED || process->down || !process->up);
}

void oracle_end(void)
{
    for (uint64_t number = 1; number <= truth_count; number++)
        MUST(truths[number].settled);
    MUST(pool->sup.live == 0 && pool->sup.ready == 0 && pool->sup.called_count == 0);
    pf__timer_stop(&pool->sup.timers, &pool->sup.spawn_timer);
    pf__timer_stop(&pool->sup.timers, &pool->sup.sample_timer);
    MUST(pool->sup.timers.first == NULL);
    watching = false;
}

void oracle_print(void)
{
    printf("ok %llu, error %llu, lost %llu (unbegun %llu), timed out %llu, terminated %llu, "
           "cancelled %llu (revoked %llu), expired %llu, called again %llu\n"
           "softened %llu, put back %llu, bodies outside %llu, slots burned %llu, "
           "waits for space %llu, deaf %llu, left asleep %llu, oversized %llu, spares %llu, output "
           "shown %llu\n",
           seen.outcomes[PF_OK], seen.outcomes[PF_ERROR], seen.outcomes[PF_LOST], seen.given_up,
           seen.outcomes[PF_TIMED_OUT], seen.outcomes[PF_TERMINATED], seen.outcomes[PF_CANCELLED],
           seen.revoked, seen.outcomes[PF_EXPIRED], seen.retried, seen.softened, seen.put_back,
           seen.outside, seen.burned, seen.full, seen.deaf, seen.left, seen.oversized, seen.spares,
           seen.shown);
}
