/* The whole pool beside a hostile worker, on a simulated machine: an input says what the
 * application and the hostile worker do, and seeds who comes first at every step. */
#define _GNU_SOURCE
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER = 8 };

static const uint8_t *input;
static size_t front, back;
static uint64_t random_state, haste;

/* ---- the input ----------------------------------------------------------------------------- */

bool application_has_more(void)
{
    return front < back;
}

bool hostile_has_more(void)
{
    return front < back && !tamed;
}

uint8_t application_byte(void)
{
    return front < back ? input[front++] : 0;
}

uint8_t hostile_byte(void)
{
    return front < back ? input[--back] : 0;
}

uint64_t draw(uint64_t below) /* splitmix64 */
{
    uint64_t z = random_state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (z ^ z >> 31) % below;
}

_Noreturn void wrong(const char *file, int line, const char *what)
{
    const char *name = strrchr(file, '/');
    fprintf(stderr, "%s:%d: %s\n", name != NULL ? name + 1 : file, line, what);
    bool intact = pool != NULL && !application->dead; /* its memory goes with it */
    for (uint32_t i = 0; intact && i < pool->sup.seat_count; i++) {
        const struct pf__child *child = (const struct pf__child *)pool->seats[i];
        fprintf(stderr, "seat %u: state %d, killed %d, retiring %d, page %llx, %s\n", i,
                child->seat.state, child->seat.killed, child->seat.retiring,
                child->board.segment != NULL ? (unsigned long long)child->board.segment->page : 0,
                child->seat.held.first != NULL ? "holds" : "idle");
    }
    for (struct process *process = processes; process < processes + PROCESSES; process++)
        if (process->role != NOBODY && !process->dead)
            fprintf(stderr, "pid %d: role %d, slot %u, waits %d, until %lld\n", process->pid,
                    process->role, process->slot, process->waits,
                    (long long)(process->until - now));
    abort();
}

/* ---- who runs next ------------------------------------------------------------------------- */

static struct process *next_process(struct process *last)
{
    if (last != NULL && !once_in(haste) && is_runnable(last))
        return last;
    uint64_t from = draw(PROCESSES);
    for (uint64_t i = 0; i < PROCESSES; i++) {
        struct process *process = &processes[(from + i) % PROCESSES];
        if (is_runnable(process))
            return process;
    }
    return NULL;
}

static void run(struct process *process)
{
    if (process->doomed || process->over) {
        process_die(process, process->over ? process->status : SIGKILL);
    } else if (process->role == ZYGOTE) {
        zygote_step(process);
    } else {
        quota = (int)draw(haste * 2);
        fiber_resume(process);
    }
}

/* Nobody can do anything now: time passes. */
static void pass_time(void)
{
    int64_t next = application->ready == poll_is_ready ? poll_deadline() : PF_NEVER;
    for (struct process *process = processes; process < processes + PROCESSES; process++)
        if (process->role != NOBODY && !process->dead && process->waits && process->until < next)
            next = process->until;
    MUST(next != PF_NEVER); /* or it hangs */
    now = next > now ? next : now;
}

static void schedule(void)
{
    struct process *last = NULL;
    for (uint64_t i = 0; !application->over; i++) {
        MUST(i < 2 * PATIENCE);
        if (once_in(64))
            now += (int64_t)draw(50000);
        last = next_process(last);
        if (last != NULL)
            run(last);
        else
            pass_time();
        if (once_in(32))
            forget_the_dead();
    }
}

/* ---- one execution ------------------------------------------------------------------------- */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < HEADER)
        return -1;
    input = data;
    front = HEADER;
    back = size;
    wild = data[0] & 1;
    guest = data[0] & 2;
    haste = (uint64_t)1 << (data[0] >> 2) % 6;
    large = 4;
    random_state = 0;
    memcpy(&random_state, data + 4, 4);
    calm = true; /* of the machine's own accidents */
    kernel_start();
    application = process_new(APPLICATION, NULL);
    quota = 0;
    fiber_start(application, run_application);
    schedule();
    current = NULL;
    kernel_end();
    return 0;
}
