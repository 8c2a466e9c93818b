"""What can be wrong in the core and the binding: edits of csrc and of the binding, which have to be
built, and the rows that would notice."""

from __future__ import annotations

from .mutant import Mutant

MUTANTS = [
    Mutant(
        "poll-closed-unnoticed",
        "pool_poll.c",
        "    if (pool->by_driver && pf__poll_wake(pool->poll) < 0)\n        return -1;",
        "    if (pool->by_driver)\n        (void)pf__poll_wake(pool->poll);",
        "who waits for a driver that cannot be woken waits for ever",
        ("all-descriptors-are-closed-under-the-pool",),
    ),
    Mutant(
        "workers-outlive-the-zygote",
        "process_linux.c",
        "prctl(PR_SET_PDEATHSIG, SIGKILL)",
        "prctl(PR_SET_PDEATHSIG, 0)",
        "workers live on when application and zygote are gone",
        (
            "zygote-killed-while-workers-run",
            "fresh-zygote-killed-while-workers-run",
        ),
    ),
    Mutant(
        "start-is-not-looked-up",
        "supervisor_limits.c",
        "        if (pf__state_has_begun(state))",
        "        if (0)",
        "a task over its memory limit does not know how long it ran",
        ("killed-when-it-takes-far-too-much",),
    ),
    Mutant(
        "no-standby",
        "pool_zygotes.c",
        "    if (active != NULL && pf__zygote_with_role(pool, PF_ZYGOTE_STANDBY) == NULL &&",
        "    if (0 && active != NULL && pf__zygote_with_role(pool, PF_ZYGOTE_STANDBY) == NULL &&",
        "no standby is forked",
        (
            "zygote-killed-while-idle",
            "standby-killed",
            "zygotes-killed-one-after-the-other",
            "zygote-killed-without-pidfds",
            "zygote-stopped-and-killed",
            "another-thread-reaps-the-zygote",
        ),
    ),
    Mutant(
        "stopped-is-ended",
        "process_linux.c",
        "WEXITED | WNOHANG | WNOWAIT",
        "WEXITED | WSTOPPED | WNOHANG | WNOWAIT",
        "a worker that is stopped is taken to have ended",
        ("stops-itself-and-is-continued", "group-gets-sigtstp"),
    ),
    Mutant(
        "zygotes-outlive-the-application",
        "zygote.c",
        "return errno == EPIPE ? OVER : BROKEN;",
        "return errno == EPIPE ? ON : BROKEN;",
        "a zygote does not notice that its application is gone",
        ("killed-while-its-zygote-is-stopped",),
    ),
    Mutant(
        "copies-keep-the-lock",
        "pool_atfork.c",
        "        pool->poll = NULL;\n        pthread_mutex_unlock(&pool->lock);\n    }\n"
        "    pthread_mutex_unlock(&registry);\n",
        "        pool->poll = NULL;\n        pthread_mutex_unlock(&pool->lock);\n    }\n",
        "a fork of the application can neither free a pool nor make one",
        (
            "forks-and-the-child-has-a-pool-of-its-own",
            "forks-and-the-child-forgets-the-pool",
        ),
    ),
    Mutant(
        "the-application-stays-deaf",
        "pool_zygotes.c",
        "    pthread_sigmask(SIG_SETMASK, &mask, NULL);\n",
        "",
        "who has started a pool hears no signal any more",
        (
            "interrupted-when-idle",
            "stopped-in-a-signal-handler",
            "submits-and-waits-in-a-signal-handler",
        ),
    ),
    Mutant(
        "an-end-waits-for-the-zygotes-word",
        "pool_children.c",
        "        bury(pool, child);\n    else\n"
        "        pf__timer_set(&pool->timers, &child->timer, pool->sup.now + STATUS_PATIENCE);\n",
        "        bury(pool, child);\n",
        "a worker is not dead before its zygote says so",
        ("a-worker-dies-while-the-zygote-is-stopped",),
    ),
    Mutant(
        "who-cannot-be-watched-lives-on",
        "pool_zygotes.c",
        "    else if (message->type == PF_MESSAGE_EXITED && message->pid == child->pid)",
        "    else if (message->type == PF_MESSAGE_EXITED && message->pid == child->pid &&\n"
        "             child->watch >= 0)",
        "the zygote's word is not enough for a worker to be dead",
        ("worker-killed-without-pidfds", "many-exits-without-pidfds"),
    ),
    Mutant(
        "zygotes-without-descriptors-give-up",
        "zygote.c",
        "        reply(zygote, PF_MESSAGE_FAILED, &request, 0, EMFILE);\n        return ON;\n",
        "        return BROKEN;\n",
        "a zygote that is out of descriptors ends, and its workers with it",
        ("zygote-out-of-descriptors",),
    ),
    Mutant(
        "failed-forks-are-not-told",
        "zygote.c",
        "    if (pid < 0) {\n        reply(zygote, PF_MESSAGE_FAILED, request, 0, error);\n",
        "    if (pid < 0) {\n        (void)error;\n",
        "the pool waits for a worker that could not be forked",
        ("zygote-fails-to-fork",),
    ),
    Mutant(
        "condemned-without-asking",
        "pool_orders.c",
        "    bool done = child->board.segment != NULL &&\n"
        "                atomic_compare_exchange_strong(&child->board.segment->page, &running,\n"
        "                                               pf__word(seq, 0, PF_CONDEMNED));\n",
        "    bool done = true;\n    (void)running;\n",
        "a worker is killed for a limit whatever it runs by now",
        ("hard-limit-never-hits-the-next-task",),
    ),
    Mutant(
        "the-unborn-are-not-told",
        "pool_orders.c",
        "static void retire(pf_pool *pool, struct pf__child *child)\n{\n"
        "    if (child->board.segment == NULL)\n",
        "static void retire(pf_pool *pool, struct pf__child *child)\n{\n"
        "    if (child->board.segment == NULL || child->seat.state == PF_SEAT_SPAWNING)\n",
        "a worker that is being forked when the pool stops does not hear of it",
        ("ended-at-once-after-the-start",),
    ),
]
