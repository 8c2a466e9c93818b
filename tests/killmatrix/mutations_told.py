"""What can be wrong in what is told of lost tasks: their last events, what they wrote, the frames
of what they raised; and the rows that would notice."""

from __future__ import annotations

from .mutant import Mutant

MUTANTS = [
    # ---- flight recorder ----
    Mutant(
        "a-dead-workers-history-too",
        "verdicts.py",
        "    history = last_life(history_of(notes, {number: task.id}))",
        "    history = history_of(notes, {number: task.id})",
        "the error shows what happened to the slot's earlier workers, too",
        ("the-last-events-are-told",),
    ),
    Mutant(
        "exits-are-not-noted",
        "pool_children.c",
        "    pf__child_note(pool, child, PF_NOTE_EXITED, (uint64_t)(int64_t)event.status);",
        "",
        "the recorder does not say that a worker has ended",
        ("the-last-events-are-told", "a-slot-shows-what-happened-to-its-dead"),
    ),
    Mutant(
        "inspect-misreads",
        "cli/inspect.py",
        '            return "running", event.value, event.at',
        '            return "idle", None, event.at',
        "prefork inspect shows no running task",
        ("inspected-while-the-application-is-stopped",),
    ),
    # ---- output ----
    Mutant(
        "frames-are-not-restored",
        "codec.py",
        "    tracebacks.restore(error, frames)\n",
        "",
        "an exception has no remote frames",
        ("the-remote-frames-are-a-traceback",),
    ),
    Mutant(
        "output-is-not-shown",
        "verdicts.py",
        '    output = last_lines(written or b"")\n    history',
        '    output = ""\n    history',
        "what a task wrote last does not come with its loss",
        (
            "the-last-lines-are-told",
            "the-last-lines-of-what-ran-too-long",
            "the-last-words-of-c",
            "the-last-lines-are-its-own",
            "a-talkative-task-does-not-fill-memory",
        ),
    ),
    Mutant(
        "streams-are-left-as-they-are",
        "worker.py",
        "        streams = _captured_streams() if core.captures else ()\n",
        "        streams = ()\n",
        "what Python prints is not there when the worker ends",
        ("the-last-lines-are-told",),
    ),
    Mutant(
        "output-is-never-trimmed",
        "pool_orders.c",
        "    pf__output_trim(child->output);\n",
        "",
        "a talkative task fills memory",
        ("a-talkative-task-does-not-fill-memory",),
    ),
    Mutant(
        "output-is-never-emptied",
        "worker_tasks.c",
        "    pf__output_begin(&worker->output);\n",
        "",
        "a task shows what others wrote",
        ("the-last-lines-are-its-own",),
    ),
    Mutant(
        "exits-before-up-show-nothing",
        "pool_children.c",
        "    if (seat->state != PF_SEAT_UP && !seat->up_early)\n"
        "        pf__child_show_output(child, 0, &event);\n",
        "",
        "what keeps a worker from coming up is not shown",
        ("the-last-lines-of-a-worker-that-is-not-up",),
    ),
]
