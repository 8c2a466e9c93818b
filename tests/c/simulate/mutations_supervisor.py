"""What can be wrong in one place with the judgement: edits of csrc/supervisor*.c for mutants.py."""

from mutations import Mutant

MUTANTS = [
    Mutant(
        "permit-kept",
        "supervisor.c",
        "    sup->permitted = false;\n",
        "",
        "more workers are spawned than were permitted",
    ),
    Mutant(
        "question-lost",
        "supervisor.c",
        "    sup->asked = false;\n",
        "",
        "one worker is asked for, and no other any more",
    ),
    Mutant(
        "limit-settles-anyway",
        "supervisor_limits.c",
        "    if (!done) {\n",
        "    if (0 && !done) {\n",
        "a task whose result is out already is condemned",
    ),
    Mutant(
        "limit-from-publication",
        "supervisor_limits.c",
        "if (task->limit > 0 && begun + task->limit <= sup->now) {",
        "if (task->limit > 0) {",
        "the limit counts from the publication",
    ),
    Mutant(
        "soft-from-publication",
        "supervisor_limits.c",
        "!task->softened && begun + task->soft <= sup->now) {",
        "!task->softened) {",
        "the soft limit counts from the publication",
    ),
    Mutant(
        "condemned-is-lost",
        "supervisor_seats.c",
        "        if (seat->condemned && !seat->oversized)\n",
        "        if (0)\n",
        "a worker that dies while it shows its stacks makes of a time limit a loss",
    ),
    Mutant(
        "expire-early",
        "supervisor_limits.c",
        "task->expires == 0 || task->expires > sup->now",
        "task->expires == 0",
        "a task expires when its limit could first be up",
    ),
    Mutant(
        "limit-lost-after-expiry",
        "supervisor_tasks.c",
        """    pf__seat_claimed(sup, seat);
    pf__task_arm(sup, task);
""",
        "    pf__seat_claimed(sup, seat);\n",
        "a task that was claimed while it should expire has no limit any more",
    ),
    Mutant(
        "retry-for-ever",
        "supervisor_seats.c",
        "    task->attempts++;\n",
        "",
        "a task that loses every worker is called again for ever",
    ),
    Mutant(
        "retry-too-late",
        "supervisor_seats.c",
        "    if (task->attempts == task->retries) {",
        "    if (task->attempts + 1 >= task->retries) {",
        "a task that may be called again is reported lost",
    ),
    Mutant(
        "loading-is-begun",
        "supervisor_seats.c",
        "bool begun = pf__state_has_begun(pf__word_state(page));",
        "bool begun = pf__word_state(page) >= PF_LOADING;",
        "a task whose call never began is reported lost",
    ),
    Mutant(
        "done-is-unbegun",
        "supervisor_seats.c",
        "bool begun = pf__state_has_begun(pf__word_state(page));",
        "uint32_t state = pf__word_state(page);\n"
        "        bool begun = state == PF_RUNNING || state == PF_CONDEMNED;",
        "a task whose worker died while delivering is run a second time",
    ),
    Mutant(
        "put-back-for-ever",
        "supervisor_seats.c",
        "if (begun || task->put_back == PF_MAX_PUT_BACK)",
        "if (begun)",
        "a task that kills whoever loads it is put back without end",
    ),
    Mutant(
        "put-back-behind",
        "supervisor_tasks.c",
        "    pf__tasks_prepend(&sup->queue, task);",
        "    pf__tasks_append(&sup->queue, task);",
        "a task that is put back waits behind all others",
    ),
    Mutant(
        "publish-over-claim",
        "supervisor_tasks.c",
        "        sup->slot_is_held = true;",
        "        sup->slot_is_free = true;",
        "a slot is published over while a worker copies from it",
    ),
    Mutant(
        "deaf-still-counts",
        "supervisor_seats.c",
        "seat->deaf_nap = seat->called_nap;\n        pf__seat_forget_call(sup, seat);",
        "seat->deaf_nap = seat->called_nap;",
        "one that was called and does not come keeps others from being called",
    ),
    Mutant(
        "old-nap-counts",
        "supervisor_seats.c",
        "if (seat->called && nap != 0 && nap != seat->called_nap)",
        "if (0 && nap != 0)",
        "one that was called, came too late and sleeps again still counts as called",
    ),
    Mutant(
        "dead-still-called",
        "supervisor_seats.c",
        "    pf__seat_forget_call(sup, seat);\n    pf__timer_stop(&sup->timers, &seat->timer);\n",
        "    pf__timer_stop(&sup->timers, &seat->timer);\n",
        "a dead worker still counts as called",
    ),
    Mutant(
        "spare-forgotten",
        "supervisor_seats.c",
        "    seat->succeeded = false;\n    pf__spares_take_turns(sup);\n",
        "    seat->succeeded = false;\n",
        "nobody takes the place of a worker that has ended",
    ),
    Mutant(
        "forks-wait-asleep",
        "supervisor.c",
        "(!awaits_permit(sup) && seat_to_fill(sup) != NULL);",
        "(0 && seat_to_fill(sup) != NULL);",
        "the pool sleeps although a replacement is still to be ordered",
    ),
    Mutant(
        "down-for-ever",
        "supervisor_seats.c",
        """    } else if (seat->down || seat->retiring) {
        pf__supervisor_kill(sup, seat, sigkill);
""",
        "    } else if (seat->down) {\n",
        "a worker that does not end in time is not killed",
    ),
    Mutant(
        "down-still-claims",
        "supervisor_seats.c",
        "    seat->down = true;\n    sup->down++;\n",
        "    seat->down = true;\n",
        "a worker that is about to end keeps its successor waiting",
    ),
    Mutant(
        "spent-for-ever",
        "supervisor_recycling.c",
        "if (seat->spent == PF_SPENT) {",
        "if (seat->spent == PF_SPENT_SOON) {",
        "a worker that is spent goes on beside its successor",
    ),
    Mutant(
        "oversized-timed-out",
        "supervisor_seats.c",
        "if (seat->condemned && !seat->oversized)",
        "if (seat->condemned)",
        "a task that was ended for its memory, and died of it, is said to have run too long",
    ),
]
