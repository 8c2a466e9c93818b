/* Signals in our children: nothing that the application set up may run there.
 *
 * Every signal is blocked from before the fork until pf_worker_unblock, so no handler of the
 * application gets a chance between birth and reset. */
#define _GNU_SOURCE
#include "worker.h"

#include <string.h>

static void on_child(int number)
{
    (void)number; /* being interrupted is all that the zygote's poll needs */
}

static void set_handler(int number, void (*handler)(int))
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    sigaction(number, &action, NULL); /* KILL, STOP and the C library's own refuse; so be it */
}

void pf__signals_deafen(sigset_t *ignored)
{
    struct sigaction action;
    sigemptyset(ignored);
    for (int number = 1; number < NSIG; number++) {
        if (sigaction(number, NULL, &action) < 0)
            continue;
        /* Tasks that start processes need SIGCHLD, whatever the application thinks of it. */
        if (action.sa_handler == SIG_IGN && number != SIGCHLD)
            sigaddset(ignored, number);
        set_handler(number, number == SIGCHLD ? on_child : SIG_IGN);
    }
}

void pf__signals_restore(const sigset_t *ignored)
{
    for (int number = 1; number < NSIG; number++)
        set_handler(number, sigismember(ignored, number) == 1 ? SIG_IGN : SIG_DFL);
    set_handler(SIGINT, SIG_IGN);
    set_handler(SIGHUP, SIG_IGN);
}

static void on_stacks(int number)
{
    (void)number;
    pf__worker_answered();
}

int pf_worker_answer_stacks_signal(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_stacks;
    action.sa_flags = SA_RESTART;
    return sigaction(PF_STACKS_SIGNAL, &action, NULL);
}

void pf_worker_unblock(pf_worker *worker)
{
    (void)worker;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}
