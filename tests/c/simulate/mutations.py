"""What can be wrong with the core in one place: edits of csrc/ that mutants.py tries."""

from dataclasses import dataclass


@dataclass
class Mutant:
    name: str
    file: str
    old: str
    new: str
    breaks: str


MUTANTS = [
    Mutant(
        "permit-kept",
        "supervisor.c",
        "    sup->permitted = false;\n",
        "",
        "more workers are spawned than were permitted",
    ),
    Mutant(
        "events-are-slept-through",
        "pool_poll.c",
        "    if (pool->sup.asks && pool->event_count > pool->event_known)\n",
        "    if (0)\n",
        "what a call has given is not taken before something else happens",
    ),
    Mutant(
        "question-lost",
        "supervisor.c",
        "    sup->asked = false;\n",
        "",
        "one worker is asked for, and no other any more",
    ),
    Mutant(
        "sleep-unchecked",
        "worker_tasks.c",
        "(control & PF_CTL_HOLD || !something_to_claim(worker))",
        "1",
        "a worker does not look again between announcing its sleep and sleeping",
    ),
    Mutant(
        "claim-without-cas",
        "worker_tasks.c",
        """if (atomic_compare_exchange_strong_explicit(
                word, &ready, pf__word(worker->cursor, worker->slot, PF_CLAIMED),
                memory_order_acq_rel, memory_order_acquire)) {""",
        """atomic_store_explicit(word, pf__word(worker->cursor, worker->slot, PF_CLAIMED),
                              memory_order_release);
        {""",
        "two workers claim one task",
    ),
    Mutant(
        "begin-without-cas",
        "worker_tasks.c",
        "if (!swap_page(worker, PF_LOADING, PF_RUNNING)) {",
        "store_page(worker, worker->seq, PF_RUNNING);\n    if (0) {",
        "a call begins although its claim was revoked",
    ),
    Mutant(
        "slot-left-early",
        "worker_tasks.c",
        """memcpy(worker->body, body->bytes, claim->size);
    leave_slot(worker);""",
        """leave_slot(worker);
    memcpy(worker->body, body->bytes, claim->size);""",
        "the slot is given up before its body was copied",
    ),
    Mutant(
        "result-without-bell",
        "worker_tasks.c",
        "store_page(worker, 0, PF_IDLE);\n    ring_if_armed(worker);",
        "store_page(worker, 0, PF_IDLE);",
        "a result is put, and nobody is told",
    ),
    Mutant(
        "start-without-bell",
        "worker_tasks.c",
        """    if (worker->flags & PF_BODY_TELL ||
        atomic_load_explicit(&worker->board.segment->claims_left, memory_order_relaxed) == 0)
        ring_if_armed(worker);
""",
        "",
        "a call that is to be told of begins, and nobody is told",
    ),
    Mutant(
        "idle-before-result",
        "worker_tasks.c",
        "worker->delivering = worker->delivering ? worker->delivering : 1;",
        "if (!worker->delivering)\n        store_page(worker, 0, PF_IDLE);\n"
        "    worker->delivering = worker->delivering ? worker->delivering : 1;",
        "a worker that dies before its result is out seems never to have begun",
    ),
    Mutant(
        "space-unchecked",
        "worker_tasks.c",
        "if (worker->board.cursor - head > ((uint64_t)worker->board.mask + 1) / 2)\n",
        "(void)head;\n",
        "a worker waits for room in its result ring without looking again",
    ),
    Mutant(
        "results-overrun",
        "scoreboard.c",
        "if (tail + need - head > (uint64_t)board->mask + 1)\n        return 0;",
        "(void)head;",
        "a result is put where an older one is still to be taken",
    ),
    Mutant(
        "result-before-its-bytes",
        "scoreboard.c",
        """    copy_in(board, tail, record, sizeof *record);
    if (record->size > 0)
        copy_in(board, tail + sizeof *record, data, record->size);
    board->cursor = tail + need;
    atomic_store_explicit(&segment->results_tail, board->cursor, memory_order_release);
""",
        """    board->cursor = tail + need;
    atomic_store_explicit(&segment->results_tail, board->cursor, memory_order_release);
    copy_in(board, tail, record, sizeof *record);
    if (record->size > 0)
        copy_in(board, tail + sizeof *record, data, record->size);
""",
        "a result is announced before it is there",
    ),
    Mutant(
        "space-without-bell",
        "pool_traffic.c",
        """want_space, 0, memory_order_relaxed);
        pf__child_send(pool, child, PF_FRAME_BELL, 0);""",
        "want_space, 0, memory_order_relaxed);",
        "room was made in a result ring, and its worker is not told",
    ),
    Mutant(
        "cancel-without-cas",
        "ring.c",
        """    return atomic_compare_exchange_strong(pf__ring_word(ring, seq), &ready,
                                          pf__word(seq, PF_NO_WORKER, PF_WITHDRAWN));""",
        """    if (atomic_load(pf__ring_word(ring, seq)) != ready)
        return 0;
    atomic_store(pf__ring_word(ring, seq), pf__word(seq, PF_NO_WORKER, PF_WITHDRAWN));
    return 1;""",
        "a task is cancelled that was claimed in that moment",
    ),
    Mutant(
        "kill-without-cas",
        "pool_tasks.c",
        """!atomic_compare_exchange_strong(&child->board.segment->page, &running,
                                                         pf__word(task->seq, 0, PF_CONDEMNED)))
        return 0;""",
        "atomic_load(&child->board.segment->page) != running)\n        return 0;",
        "a worker is killed that may have delivered, and its task settled twice",
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
        "expire-claimed",
        "pool_orders.c",
        "    if (pf__ring_cancel(&pool->ring, task->seq))",
        "    (void)pf__ring_cancel(&pool->ring, task->seq);\n    if (1)",
        "a task that has just been claimed expires",
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
        "bool begun = state == PF_RUNNING ||",
        "bool begun = state == PF_LOADING || state == PF_RUNNING ||",
        "a task whose call never began is reported lost",
    ),
    Mutant(
        "done-is-unbegun",
        "supervisor_seats.c",
        "state == PF_RUNNING || state == PF_DONE || state == PF_CONDEMNED;",
        "state == PF_RUNNING || state == PF_CONDEMNED;",
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
        "sleeper-without-bell",
        "pool_orders.c",
        """if (pf__supervisor_sleeper_seen(sup, &child->seat, nap_of(child)))
                pf__child_send(pool, child, PF_FRAME_BELL, 0);""",
        "(void)pf__supervisor_sleeper_seen(sup, &child->seat, nap_of(child));",
        "a sleeper counts as called, and nobody rang",
    ),
    Mutant(
        "arm-unchecked",
        "pool_poll.c",
        "return !something_waits(pool);",
        "return 1;",
        "the pool does not look again between arming its bell and sleeping",
    ),
    Mutant(
        "arm-misses-starts",
        "pool_poll.c",
        "(pf__results_pending(&child->board) || start_waits(child))",
        "(pf__results_pending(&child->board) || (0 && start_waits(child)))",
        "... looks for results only",
    ),
    Mutant(
        "bury-undrained",
        "pool_children.c",
        "    pf__child_drain(pool, child);\n    if (child->channel.in >= 0)\n"
        "        pf__child_drain_pipe(pool, child, pf__channel_pending(&child->channel));\n",
        "",
        "what a worker delivered before it died does not count",
    ),
    Mutant(
        "bury-keeps-slot",
        "pool_children.c",
        "    pf__ring_release(&pool->ring, seat->index);\n",
        "",
        "the slot that a dead worker copied from is never used again",
    ),
    Mutant(
        "start-of-the-next",
        "pool_traffic.c",
        "while (page != again && --tries > 0);",
        "while (0 && --tries > 0);",
        "the time of a start is that of the worker's next call",
    ),
    Mutant(
        "closed-while-watched",
        "pool_children.c",
        """        (void)pf__poll_remove(pool->poll, child->watch);
        close(child->watch);
        child->watch = -1;
""",
        """        close(child->watch);
        child->watch = -1;
""",
        "a descriptor is closed that the poll still watches",
    ),
    Mutant(
        "id-used-again",
        "handles.c",
        "    handle->turn++;",
        "    handle->turn = 1;",
        "a stale id names another task",
    ),
    Mutant(
        "spare-claims",
        "worker_tasks.c",
        "if (control & PF_CTL_HOLD || !pf__worker_take_ready(worker))",
        "if (!pf__worker_take_ready(worker))",
        "a spare claims before its turn",
    ),
    Mutant(
        "spare-forgotten",
        "supervisor_seats.c",
        "    seat->succeeded = false;\n    pf__spares_take_turns(sup);\n",
        "    seat->succeeded = false;\n",
        "nobody takes the place of a worker that has ended",
    ),
    Mutant(
        "spare-unreleased",
        "pool_orders.c",
        "atomic_fetch_and(&child->board.segment->control, ~(uint32_t)PF_CTL_HOLD);",
        "(void)child;",
        "a spare is not told that its turn has come",
    ),
    Mutant(
        "forks-wait-for-ever",
        "pool_poll.c",
        "pool->sup.forks_wait = false;",
        "",
        "a worker whose end was told is not replaced",
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
    Mutant(
        "orders-left",
        "pool_poll.c",
        "if (pf__supervisor_has_orders(sup))",
        "if (sup->settled.first != NULL)",
        "what follows from claims that were noted on the way to sleep is not carried out",
    ),
    Mutant(
        "limit-from-when-it-was-seen",
        "pool_poll.c",
        """    if (pf__supervisor_deadline(&pool->sup) <= now)
        pf__pool_note_claims(pool);
""",
        "",
        "the limit of a task whose claim was seen late is up late",
    ),
    Mutant(
        "a-look-makes-work",
        "pool_facts.c",
        "    pf__pool_pass_on(pool);\n    pthread",
        "    pthread",
        "what follows from a claim that was noted by who only wanted to know is left undone",
    ),
    Mutant(
        "output-of-the-task-before",
        "worker_tasks.c",
        "    pf__output_begin(&worker->output);\n",
        "",
        "a lost task is shown what another has written",
    ),
    Mutant(
        "output-before-it-began",
        "pool_orders.c",
        "if (task->started != 0) /* else what stands there is another task's */",
        "",
        "a task that never began is shown what another has written",
    ),
    Mutant(
        "output-of-the-next",
        "pool_children.c",
        "if (size > 0 && still_holds(child, seq)) {",
        "if (size > 0) {",
        "a task shows what the one after it has written",
    ),
    Mutant(
        "output-of-the-dead",
        "pool_children.c",
        "    int fd = child->left != NULL ? child->output_left : child->output;\n",
        "    int fd = child->output;\n",
        "what a worker wrote before its end is not shown",
    ),
]
