/* Processes as coroutines: each has a stack of its own, and only one of them runs at a time. A
 * process that is killed is simply never resumed. */
#define _GNU_SOURCE
#include "world.h"

#ifdef __SANITIZE_ADDRESS__ /* the one thing that a sanitizer must be told */
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define LEAVE(fake, stack, size) __sanitizer_start_switch_fiber(fake, stack, size)
#define ARRIVE(fake, from, size) __sanitizer_finish_switch_fiber(fake, from, size)
#define CLEAN(stack, size)       __asan_unpoison_memory_region(stack, size)
#else
#define LEAVE(fake, stack, size) ((void)(fake), (void)(stack), (void)(size))
#define ARRIVE(fake, from, size) ((void)(fake), (void)(from), (void)(size))
#define CLEAN(stack, size)       ((void)(stack), (void)(size))
#endif

enum { STACK = 128 << 10 };

static _Alignas(64) unsigned char stacks[PROCESSES][STACK];
static ucontext_t scheduler;
static void *scheduler_fake;
static const void *scheduler_stack;
static size_t scheduler_size;
static void (*to_run)(void);

static unsigned char *stack_of(const struct process *process)
{
    return stacks[process - processes];
}

static void enter(void)
{
    ARRIVE(NULL, &scheduler_stack, &scheduler_size);
    to_run();
    current->over = true;
    for (;;)
        fiber_yield();
}

void fiber_start(struct process *process, void (*run)(void))
{
    CLEAN(stack_of(process), STACK);
    getcontext(&process->context);
    process->context.uc_stack.ss_sp = stack_of(process);
    process->context.uc_stack.ss_size = STACK;
    process->fake_stack = NULL;
    makecontext(&process->context, enter, 0);
    to_run = run;
    quota = 0;
    fiber_resume(process); /* which takes it to its first step */
}

void fiber_resume(struct process *process)
{
    current = process;
    LEAVE(&scheduler_fake, stack_of(process), STACK);
    swapcontext(&scheduler, &process->context);
    ARRIVE(scheduler_fake, NULL, NULL);
    current = NULL;
}

void fiber_yield(void)
{
    struct process *self = current;
    LEAVE(&self->fake_stack, scheduler_stack, scheduler_size);
    swapcontext(&self->context, &scheduler);
    ARRIVE(self->fake_stack, NULL, NULL);
}
