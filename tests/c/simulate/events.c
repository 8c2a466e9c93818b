/* What the application is told, beside what is true: every event is compared with what really
 * happened.
 *
 *   a task is settled exactly once, by what really became of it
 *   one whose call did not begin is never reported lost, unless it was put back twice
 *   only who had too much memory loses its task for it */
#define _GNU_SOURCE
#include "oracle.h"

#include <string.h>

/* ---- what the application does ------------------------------------------------------------- */

uint64_t oracle_submit(const pf_task_options *options)
{
    if (truth_count + 1 == TASKS)
        return 0;
    truths[++truth_count] = (struct truth){.options = *options, .submitted_at = now};
    return truth_count;
}

void oracle_submitted(uint64_t number, uint64_t id)
{
    truths[number].id = id;
}

static struct truth *truth_of(uint64_t id)
{
    for (uint64_t number = truth_count; number > 0; number--)
        if (truths[number].id == id)
            return &truths[number];
    MUST(!"an event for a task that was never submitted");
    return NULL;
}

uint64_t oracle_some_task(void)
{
    const struct pf__task *next = pool->sup.slots[pool->sup.head % SLOTS];
    if (next != NULL && once_in(3)) /* which is about to be claimed, or was */
        return next->id;
    const struct process *process = &processes[draw(PROCESSES)];
    if (process->role == WORKER && pf__word_seq(process->page) != 0)
        return truth_of_seq(pf__word_seq(process->page))->id;
    if (truth_count == 0)
        return 0;
    uint64_t back = draw(truth_count < 32 ? truth_count : 32);
    return truths[truth_count - back].id;
}

void oracle_cancelled(uint64_t id)
{
    struct truth *truth = truth_of(id);
    MUST(!truth->begun || truth->losses < truth->options.retries);
    truth->begun = truth->condemned = false; /* that call is forgotten, with its worker */
    truth->cancelled = true;
}

int64_t oracle_called(uint64_t number, uint64_t id)
{
    oracle_observe(current);
    MUST(number > 0 && number <= truth_count);
    MUST(truths[number].begun && truths[number].pid == current->pid);
    MUST(truths[number].id == id || truths[number].id == 0);
    return truths[number].options.limit;
}

/* Not when it is condemned or the pool is terminated, for its end may have been told by then. */
void oracle_wrote(uint64_t number)
{
    truths[number].wrote |= !truths[number].condemned && !terminated;
}

void oracle_waited_for_space(void)
{
    seen.full++;
}

/* ---- what it is told ----------------------------------------------------------------------- */

static void check_result(const pf_event *event, uint64_t number)
{
    const unsigned char *data = event->data;
    uint64_t named;
    MUST(event->outcome == (number % 5 == 0 ? PF_ERROR : PF_OK) && event->size >= sizeof named);
    memcpy(&named, data, sizeof named);
    MUST(named == number);
    for (size_t i = sizeof named; i < event->size; i++)
        MUST(data[i] == pattern_at(number, i));
}

/* What it has written is shown if its worker ended with it, and nothing that another has. A pool
 * that is terminated may not have known that it had begun, nor that it had ended, and its worker
 * has begun another. */
static void check_output(const pf_event *event, const struct truth *truth)
{
    uint64_t number = (uint64_t)(truth - truths);
    bool shown = event->outcome == PF_LOST || event->outcome == PF_TIMED_OUT ||
                 event->outcome == PF_TERMINATED;
    MUST(event->output == NULL || (shown && event->output_size == sizeof number));
    MUST(event->output == NULL || memcmp(event->output, &number, sizeof number) == 0);
    bool known = event->outcome != PF_TERMINATED || (event->at != 0 && !truth->delivered);
    MUST(event->output != NULL || !shown || !known || !truth->begun || !truth->wrote);
    seen.shown += event->output != NULL;
}

static void task_ended(const pf_event *event, struct truth *truth)
{
    MUST(!truth->settled);
    truth->settled = true;
    seen.outcomes[event->outcome]++;
    MUST(event->softened == truth->softenings);
    MUST(!truth->cancelled || event->outcome == PF_CANCELLED);
    MUST(!truth->condemned || event->outcome == PF_TIMED_OUT || event->outcome == PF_TERMINATED ||
         (event->outcome == PF_LOST && event->memory > MEMORY_LIMIT));
    MUST(event->memory == 0 || (event->outcome == PF_LOST && truth->oversized));
    MUST(!truth->options.tell || truth->told || !truth->begun || terminated || event->at != 0);
    check_output(event, truth);
    switch (event->outcome) {
    case PF_OK:
    case PF_ERROR:
        MUST(truth->ended && event->at == truth->begun_at);
        check_result(event, (uint64_t)(truth - truths));
        break;
    case PF_LOST:
        MUST(truth->begun || truth->published == 1 + PF_MAX_PUT_BACK);
        MUST(truth->losses == truth->options.retries);
        MUST(!truth->delivered);
        MUST(!truth->begun || event->pid == truth->pid);
        seen.given_up += !truth->begun;
        seen.oversized += event->memory > 0;
        break;
    case PF_TIMED_OUT:
        MUST(truth->condemned && truth->options.limit > 0 &&
             now - truth->begun_at >= truth->options.limit);
        MUST(event->pid == truth->pid);
        break;
    case PF_CANCELLED:
        MUST(!truth->begun);
        break;
    case PF_EXPIRED:
        MUST(!truth->begun && truth->losses == 0);
        MUST(truth->options.queue_limit > 0 &&
             now - truth->submitted_at >= truth->options.queue_limit);
        break;
    default:
        MUST(event->outcome == PF_TERMINATED && (truth->condemned || terminated));
        break;
    }
}

void oracle_event(const pf_event *event)
{
    struct truth *truth;
    oracle_observe(current);
    switch (event->type) {
    case PF_EVENT_ACCEPTED:
        truth = truth_of(event->task);
        MUST(truth->options.tell && !truth->told && !truth->settled);
        MUST(truth->losses > 0 || truth->cancelled ||
             (event->at == truth->begun_at && event->pid == truth->pid));
        MUST(truth->losses > 0 || truth->begun || truth->cancelled);
        truth->told = true;
        break;
    case PF_EVENT_SOFT_LIMIT:
        truth = truth_of(event->task);
        MUST(truth->options.soft_limit > 0 && !truth->settled);
        MUST(event->softened == ++truth->softenings);
        if (truth->losses > 0 || truth->cancelled) /* it may be of the call before */
            break;
        MUST(truth->begun && !truth->softened);
        MUST(event->pid == truth->pid && event->at == truth->begun_at);
        MUST(now - truth->begun_at >= truth->options.soft_limit);
        truth->softened = true;
        seen.softened++;
        break;
    case PF_EVENT_DONE:
        task_ended(event, truth_of(event->task));
        break;
    case PF_EVENT_OUTSIDER:
        MUST(!"a worker that did nothing wrong was killed for it");
        break;
    default:
        break;
    }
}
