"""What the log says (loggers `prefork` and `prefork.worker`), and what it means: for
docs/failures.md. Whatever a row has had logged is one of these."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class LogLine:
    text: str  # of the beginning, with "..." for what may be anything
    means: str

    def fits(self, line: str) -> bool:
        parts = map(re.escape, self.text.split("..."))
        return re.match(".*".join(parts), line, re.DOTALL) is not None


LOG_LINES = [
    LogLine(
        "WARNING worker PID (slot N) was ended by ...",
        "Nobody of ours did it, and nobody asked it to end. If it ran a task, that one is lost; it "
        "is replaced. One line for each worker.",
    ),
    LogLine(
        "WARNING worker PID (slot N) exited with code ...",
        "The same; `os._exit` in a task, or a worker that could not go on (its pipes are closed).",
    ),
    LogLine(
        "WARNING worker PID (slot N) went down with its zygote",
        "The zygote was killed, and the kernel has killed its workers. If this one ran a task, it "
        "is lost; the worker is replaced.",
    ),
    LogLine(
        "WARNING worker PID (slot N) ended, how is unknown",
        "Its zygote is stopped, or somebody else has reaped it.",
    ),
    LogLine(
        "WARNING worker PID (slot N) ...: it was to end in good order, and did not in ten seconds",
        "`on_process_exit`, or a thread that it waits for, takes too long; it was killed, with no "
        "task.",
    ),
    LogLine(
        "INFO worker PID (slot N) ...; it had N KiB of memory of its own, which was too much",
        "Above `max_memory_per_child` (it ended after its task) or `memory_limit` (by SIGKILL; its "
        "task is lost).",
    ),
    LogLine(
        "ERROR worker PID failed to start (N in a row): ...",
        "The initializer raised (its traceback follows), or the worker ended before it was up. "
        "Waiting tasks wait; see InitializerError.",
    ),
    LogLine(
        "ERROR no worker could be forked for slot N (errno ...); trying again",
        "11 (EAGAIN): too many processes; 12 (ENOMEM): no memory; 24 (EMFILE): no descriptors, in "
        "the application or the zygote; 100 (ENETDOWN): its zygote had gone. Tasks wait; it is "
        "tried again, ever later (at most 6.4 s apart).",
    ),
    LogLine(
        "ERROR zygote PID died; zygote PID has taken over",
        "The tasks that ran are lost, no other.",
    ),
    LogLine(
        "ERROR zygote PID does not answer; zygote PID has taken over",
        "It owed a worker and was silent for five seconds. Its workers live, and end with their "
        "tasks.",
    ),
    LogLine(
        "ERROR zygote PID died, and there is no standby",
        "Both were killed. The next line says whether there is a new one.",
    ),
    LogLine(
        "ERROR zygote PID does not answer, and there is no standby",
        "It owed a worker and was silent for thirty seconds. The next line says whether there is a "
        "new one.",
    ),
    LogLine(
        "WARNING ... has a new zygote, PID, started by itself (at most N in N seconds)",
        "Zygote and standby were killed or do not answer. Tasks that ran went down with the killed "
        "one, and are lost; no other.",
    ),
    LogLine(
        "ERROR no new zygote is started: ...; restart() is the way out",
        "The pool is degraded: call `restart()`.",
    ),
    LogLine(
        "ERROR worker PID wrote nonsense into the pool and is killed",
        "Its task has written on descriptors or memory that are the pool's. Its task is lost.",
    ),
    LogLine(
        "ERROR a callback of ... raised; it is dropped",
        "The traceback follows. Other callbacks are called.",
    ),
    LogLine(
        "ERROR the pool's semaphore could not be released",
        "One that was passed in; the traceback follows. The task has its outcome.",
    ),
    LogLine(
        "ERROR before_spawn raised; the worker is forked all the same",
        "The traceback follows.",
    ),
    LogLine(
        "ERROR the delivery thread of ... met an error",
        "The traceback follows; the thread goes on.",
    ),
    LogLine(
        "WARNING signal N tells of soft limits: what worker PID found for it, ..., is replaced",
        "By `prefork.worker`, in the worker: an initializer or a task has put a handler of its own "
        "where the pool's is.",
    ),
    LogLine(
        "ERROR on_process_exit failed in worker PID",
        "By `prefork.worker`, in the worker; it ends all the same.",
    ),
    LogLine(
        "WARNING a callback of ... does not end; it is left to its thread",
        "`terminate()` has waited for it as long as it may.",
    ),
    LogLine(
        "WARNING the zygote is forked from a process with threads (...",
        "A lock that one of them held at that instant would stay locked in every worker.",
    ),
    LogLine(
        "WARNING the zygote has ... threads, started by a fork hook or an import",
        "The same, of threads in the zygote.",
    ),
    LogLine(
        "WARNING the pool is started by a thread with a stack of ...",
        "Deep recursion in tasks will end workers by SIGSEGV.",
    ),
    LogLine(
        "INFO ... restarts: a new zygote is started from the application",
        "`restart()` was called.",
    ),
]


def is_known(line: str) -> bool:
    return any(known.fits(line) for known in LOG_LINES)
