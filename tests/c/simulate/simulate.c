/* The pool under random schedules: the real pool, ring, supervisor and workers, on a machine where
 * every step of every process can come at any time, or never.
 *
 *   simulate [--steps N] [--seed S] [--seeds FILE] [--failures F]
 *
 * Steps come in episodes, each with a seed of its own: S, S + 1, … A failure names the episode's
 * seed, and `simulate --seed THAT --steps 1` plays that one again. */
#define _GNU_SOURCE
#include "world.h"

#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t random_state, seed_now, haste, switches;
static bool failed;
static jmp_buf scheduler_failed;

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
    printf("seed %llu: %s:%d: %s\n", (unsigned long long)seed_now, name != NULL ? name + 1 : file,
           line, what);
    failed = true;
    if (current == NULL)
        longjmp(scheduler_failed, 1);
    for (;;)
        fiber_yield();
}

/* ---- what goes wrong ----------------------------------------------------------------------- */

static struct process *some_process(enum role role)
{
    uint64_t from = draw(PROCESSES);
    for (uint64_t i = 0; i < PROCESSES; i++) {
        struct process *process = &processes[(from + i) % PROCESSES];
        if (process->role == role && !process->dead)
            return process;
    }
    return NULL;
}

static bool is_loading(const struct process *process)
{
    return process->role == WORKER && process->segment != NULL &&
           pf__word_state(process->page) == PF_LOADING;
}

/* All who hold a claim that has not begun: else no task would be put back three times. */
static void kill_loaders(void)
{
    for (struct process *process = processes; process < processes + PROCESSES; process++)
        if (is_loading(process) && !process->dead)
            process->doomed = true;
}

/* As if the pool had looked at what its zygotes owe for half a minute: so long none is stopped. */
static void silence(void)
{
    for (struct pf__zygote *zygote = pool != NULL ? pool->zygotes : NULL; zygote != NULL;
         zygote = zygote->next)
        zygote->silence = 30;
}

static void accident(void)
{
    struct process *worker = some_process(WORKER), *zygote = some_process(ZYGOTE);
    switch (draw(12)) {
    case 0:
    case 1:
        if (worker != NULL)
            worker->doomed = true;
        break;
    case 2:
    case 3:
        kill_loaders();
        break;
    case 4:
    case 5:
        if (worker != NULL)
            worker->stopped = true;
        break;
    case 6:
        if (zygote != NULL && once_in(4))
            zygote->doomed = true;
        break;
    case 7:
        if (zygote != NULL) {
            zygote->stopped = true;
            silence();
        }
        break;
    case 8:
        if (application->waits)
            application->interrupted = application->ready == poll_is_ready;
        break;
    case 9:
        if (once_in(8) && application->waits) /* the whole family stands still */
            now += (int64_t)draw(3000) * ms;
        break;
    default:
        if (worker != NULL && worker->waits && worker->ready != NULL)
            worker->interrupted = true;
        break;
    }
}

static bool go_on(void)
{
    bool any = false;
    for (struct process *process = processes; process < processes + PROCESSES; process++) {
        any = any || (process->role != NOBODY && process->stopped);
        if (once_in(2) || calm)
            process->stopped = false;
    }
    return any;
}

/* Where it is now it stays, while others go a long way. */
static void hold(struct process *process)
{
    if (!process->waits && once_in(40))
        process->held_until = steps_done + draw(2000);
}

static bool let_go_on(void)
{
    bool any = false;
    for (struct process *process = processes; process < processes + PROCESSES; process++) {
        any = any || (process->role != NOBODY && process->held_until > steps_done);
        process->held_until = 0;
    }
    return any;
}

static void pass_time(void)
{
    now += (int64_t)draw(once_in(4) ? 3000000 : 50000);
}

/* Nobody can do anything now: those who were stopped go on, or time passes. */
static bool wake_somebody(void)
{
    if (let_go_on())
        return true;
    int64_t next = poll_deadline();
    for (struct process *process = processes; process < processes + PROCESSES; process++)
        if (process->role != NOBODY && !process->dead && !process->stopped && process->waits &&
            process->until < next)
            next = process->until;
    if ((next == PF_NEVER || once_in(4)) && go_on())
        return true;
    if (next == PF_NEVER)
        return false;
    now = next > now ? next : now;
    return true;
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
    switches++;
    bool dies =
        process->doomed || (perilous && !calm && is_loading(process) && oracle_is_cursed(process));
    if (process->over || (dies && once_in(2))) {
        process_die(process, process->over ? process->status : SIGKILL);
        return;
    }
    if (process->role == ZYGOTE) {
        steps_done++;
        if (zygote_has_work(process))
            zygote_step(process);
        return;
    }
    quota = (int)draw(haste * 2);
    if (!process->waits || process->interrupted || process->until <= now ||
        (process->ready != NULL && process->ready(process))) {
        fiber_resume(process);
        hold(process);
    }
}

static void schedule(void)
{
    struct process *last = NULL;
    for (uint64_t i = 0; !application->over && !failed; i++) {
        MUST(i < PATIENCE);
        if (!calm && once_in(128))
            accident();
        if (once_in(64))
            pass_time();
        if (calm || once_in(256))
            (void)go_on();
        if (application->ready == poll_is_ready && application->held_until <= steps_done &&
            !is_runnable(application))
            oracle_at_rest();
        last = next_process(last);
        if (last != NULL)
            run(last);
        else
            MUST(wake_somebody()); /* or it hangs */
        if (once_in(32))
            forget_the_dead();
    }
}

static bool episode(uint64_t seed)
{
    seed_now = random_state = seed;
    failed = calm = terminated = false;
    perilous = once_in(2);
    large = 1 + draw(10);
    haste = (uint64_t)1 << draw(6);
    kernel_start();
    oracle_start();
    if (setjmp(scheduler_failed) == 0) {
        application = process_new(APPLICATION, NULL);
        quota = 0;
        fiber_start(application, run_application);
        schedule();
    }
    current = NULL;
    if (failed)
        abandon_pool();
    kernel_end();
    return !failed;
}

/* ---- the command line ---------------------------------------------------------------------- */

static unsigned long passed, bad;

static void play(uint64_t seed)
{
    if (episode(seed))
        passed++;
    else
        bad++;
}

static int play_recorded(const char *name)
{
    FILE *file = fopen(name, "r");
    char line[128];
    if (file == NULL) {
        perror(name);
        return -1;
    }
    while (fgets(line, sizeof line, file) != NULL) {
        char *rest;
        uint64_t recorded = strtoull(line, &rest, 10);
        if (rest != line) /* else it is a comment */
            play(recorded);
    }
    fclose(file);
    return 0;
}

int main(int argc, char **argv)
{
    uint64_t steps = 2000000, seed = (uint64_t)time(NULL), most = 10;
    const char *seeds = NULL;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--steps") == 0)
            steps = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--seed") == 0)
            seed = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--seeds") == 0)
            seeds = argv[i + 1];
        else if (strcmp(argv[i], "--failures") == 0)
            most = strtoull(argv[i + 1], NULL, 10);
    }
    printf("seed %llu\n", (unsigned long long)seed);
    fflush(stdout);
    if (seeds != NULL && play_recorded(seeds) < 0)
        return 1;
    for (steps_done = 0; steps_done < steps && bad < most; seed++)
        play(seed);
    oracle_print();
    printf("%llu steps, %llu switches\n%lu passed, %lu failed\n", (unsigned long long)steps_done,
           (unsigned long long)switches, passed, bad);
    return bad > 0;
}
