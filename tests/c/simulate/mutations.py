"""What can be wrong in one place with what pool and workers do: edits of csrc/ for mutants.py."""

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
        "events-are-slept-through",
        "pool_poll.c",
        "    if (pool->sup.asks && pool->event_count > pool->event_known)\n",
        "    if (0)\n",
        "what a call has given is not taken before something else happens",
    ),
    Mutant(
        "start-told-by-an-old-clock",
        "worker_tasks.c",
        "pf__now() >= atomic_load",
        "worker->started >= atomic_load",
        "a start that the guest's look has just missed is not rung for",
    ),
    Mutant(
        "left-asleep-for-ever",
        "pool_poll.c",
        "    return pool->calls.again_at < at ? pool->calls.again_at : at;\n",
        "    return at;\n",
        "sleepers who were left for later are not called if nothing else happens",
    ),
    Mutant(
        "none-called-of-all",
        "pool_waking.c",
        "(uint32_t)all_sleep(pool);\n",
        "0;\n",
        "all sleep, and what is READY waits for a timer",
    ),
    Mutant(
        "starts-not-looked-for",
        "pool_orders.c",
        "    pf__timer_set(&pool->timers, &pool->start_timer, at);\n",
        "",
        "workers do not ring for a start that the guest does not look for either",
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
        "store_page(worker, 0, PF_IDLE);\n    show_news(worker);\n    ring_if_armed(worker);",
        "store_page(worker, 0, PF_IDLE);\n    show_news(worker);",
        "a result is put, and nobody is told",
    ),
    Mutant(
        "result-is-no-news",
        "worker_tasks.c",
        "store_page(worker, 0, PF_IDLE);\n    show_news(worker);\n    ring_if_armed(worker);",
        "store_page(worker, 0, PF_IDLE);\n    ring_if_armed(worker);",
        "a result is put where the pool does not look",
    ),
    Mutant(
        "start-is-no-news",
        "worker_tasks.c",
        "        return;\n    show_news(worker);\n    if (last ||",
        "        return;\n    if (last ||",
        "a call that is to be told of begins where the pool does not look",
    ),
    Mutant(
        "news-taken-late",
        "pool_traffic.c",
        """                pf__child_drain(pool, (struct pf__child *)pool->seats[slot]);
        }""",
        """                pf__child_drain(pool, (struct pf__child *)pool->seats[slot]);
        }
        atomic_store(news, 0);""",
        "what came while the pool looked is no news any more",
    ),
    Mutant(
        "start-without-bell",
        "worker_tasks.c",
        "    tell_start(worker);\n",
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
        "expire-claimed",
        "pool_orders.c",
        "    if (pf__ring_cancel(&pool->ring, task->seq))",
        "    (void)pf__ring_cancel(&pool->ring, task->seq);\n    if (1)",
        "a task that has just been claimed expires",
    ),
    Mutant(
        "sleeper-without-bell",
        "pool_waking.c",
        "    pf__child_send(pool, child, PF_FRAME_BELL, 0);\n",
        "",
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
        "arm-misses-news",
        "pool_poll.c",
        "return pf__supervisor_has_orders(&pool->sup) || pf__pool_has_news(pool);",
        "return pf__supervisor_has_orders(&pool->sup);",
        "... looks for orders only",
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
        "            if (control & PF_CTL_HOLD)\n",
        "            if (0)\n",
        "a spare claims before its turn",
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
        "orders-left",
        "pool_poll.c",
        "return pf__supervisor_has_orders(&pool->sup) || pf__pool_has_news(pool);",
        "return pool->sup.settled.first != NULL || pf__pool_has_news(pool);",
        "what follows from claims that were noted on the way to sleep is not carried out",
    ),
    Mutant(
        "limit-from-when-it-was-seen",
        "pool_poll.c",
        """    if (pf__supervisor_deadline(sup) <= now)
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
