"""Every way in which something can fail, for docs/failures.md: what the error looks like, what
fails, what the pool does then, and what is certain. Whatever a row has shown is of one kind."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Kind:
    """`error` and `words`: regular expressions for an error's class and the whole of its message.
    `cause`: the class of its cause; None: whichever. `at_call`: raised by the call itself; None:
    by that or by the wait."""

    title: str
    error: str
    words: str
    fails: str
    then: str
    sure: str
    facts: str = ""
    cause: str | None = None
    at_call: bool | None = False

    def fits(self, error: dict[str, Any]) -> bool:
        return (
            re.fullmatch(self.error, error["error"]) is not None
            and re.search(self.words, error["message"]) is not None
            and self.cause in (None, error["cause"])
            and self.at_call in (None, error["at_call"])
        )

    @property
    def anchor(self) -> str:
        """As GitHub makes it of a heading."""
        return re.sub(r"[^\w -]", "", self.title.lower()).replace(" ", "-")


THAT_ONE = "The one task that this worker ran; no other."
REPLACED = 'Goes on; the worker is replaced. With `on_lost="retry"` the task is called again.'
BEGUN = (
    "Its call had begun. How far it came nobody can say: it may have done all its work, and died "
    "before the result was out. It is not called again by itself."
)

LOST = [
    Kind(
        "`WorkerKilled`: a worker was ended by a signal",
        r"prefork\.WorkerKilled",
        r"was killed by \w",
        THAT_ONE,
        REPLACED,
        BEGUN + " A crash (SIGSEGV, SIGABRT …) brings its Python stack along; SIGKILL cannot.",
    ),
    Kind(
        "`WorkerExited`: a worker ended by itself",
        r"prefork\.WorkerExited",
        r"exited with code",
        THAT_ONE,
        REPLACED,
        BEGUN + " `sys.exit` is no such end: that is an exception (RemoteError).",
    ),
    Kind(
        "`WorkerKilled`: a worker went down with its zygote",
        r"prefork\.WorkerKilled",
        r"went down with its zygote",
        "Every task that ran when the zygote was killed; none that waited.",
        "The standby forks new workers, and a new standby is forked, not from the application.",
        BEGUN + " Results that were out before count.",
    ),
    Kind(
        "`WorkerLostError`: a worker ended, how is unknown",
        r"prefork\.WorkerLostError",
        r"how is unknown",
        THAT_ONE,
        "As after any other loss. The zygote, who knows, has not answered within a second: it is "
        "stopped or has no time. One that owes a worker and is silent for 5 s is replaced by its "
        "standby.",
        BEGUN,
    ),
    Kind(
        "`OutOfMemory`: a worker was killed by the kernel",
        r"prefork\.OutOfMemory",
        r"by the kernel, out of memory",
        THAT_ONE,
        REPLACED,
        "It ended by SIGKILL, and the kernel's counter of such kills for our cgroup went up: so "
        "it is likely, but not certain, that it was this one. The counter has no times, and is "
        "looked at when a worker comes or goes: if a program that a task has started was killed "
        "for memory since then, and then somebody kills a worker, the pool cannot tell. Workers "
        "offer themselves before the application does (`oom_score_adj`).",
    ),
    Kind(
        "`OutOfMemory`: a worker was above `memory_limit`",
        r"prefork\.OutOfMemory",
        r"its limit is",
        THAT_ONE,
        REPLACED,
        "The pool has killed it, after asking it for its stacks. Memory is looked at ten times a "
        "second: what grows faster is the kernel's affair.",
        "`memory` and `memory_limit` are KiB",
    ),
    Kind(
        "`QuarantinedTask`: lost as often as it may be",
        r"prefork\.QuarantinedTask",
        r"times, and each time its worker was lost",
        "The one task, after `1 + retries` calls.",
        "Goes on; it does not call this task again.",
        "Each call had lost its worker before the next began. It is a WorkerLostError, and tells "
        "of the last loss what that would tell.",
        "`attempts` counts the calls",
    ),
]
ENDED = [
    Kind(
        "`TimeLimitExceeded`: a task ran longer than its `timeout`",
        r"prefork\.TimeLimitExceeded",
        r"ran longer than its limit",
        THAT_ONE,
        "Kills the worker (SIGKILL, no grace) and replaces it. It is not called again, whatever "
        "`on_lost` says.",
        "The call was going on when its time was up: a result that was ready by then is the "
        "task's result (unless for five seconds nothing of it comes). Time in the queue does not "
        "count. `stack` shows where all threads were, if "
        "the worker answered within 10 ms.",
    ),
    Kind(
        "`SoftTimeLimitExceeded`: a task did not catch its `soft_timeout`",
        r"prefork\.SoftTimeLimitExceeded",
        r"ran longer than",
        "The one task; it was raised inside it, and came out.",
        "Goes on, with the same worker.",
        "It is raised in the main thread of its own call and of no other. A call into C that does "
        "not return to Python has it late; `timeout` ends that one too.",
        "the cause is a RemoteError with the traceback",
        cause="RemoteError",
    ),
    Kind(
        "`QueueTimeout`: no worker began the task in time",
        r"prefork\.QueueTimeout",
        r"no worker began",
        "The one task.",
        "Goes on; nothing was touched.",
        "It was never called, and will not be.",
        "`pid` and `runtime` are None",
    ),
    Kind(
        "`WorkerKilled`: a task was ended with the pool, or by `terminate()`",
        r"prefork\.WorkerKilled",
        r"was terminated by the pool",
        "The task that was meant (`Task.terminate`, `terminate_job`), or every task that ran when "
        "the pool was terminated.",
        "After `Task.terminate` and `terminate_job` goes on, with a new worker. With the pool: "
        "SIGTERM, and SIGKILL after the grace.",
        "Its call had begun. It is not called again, whatever `on_lost` says.",
        "`signal` and `exitcode` are None: it was the pool's doing",
    ),
    Kind(
        "`WorkerKilled`: a task had not begun when the pool was terminated",
        r"prefork\.WorkerKilled",
        r"had not begun when the pool was terminated",
        "Every task that waited.",
        "Ends.",
        "It was never called, and can be submitted elsewhere; but one with "
        '`on_lost="retry"` may have lost a worker, and have waited for its next call.',
        "`pid` and `runtime` are None",
    ),
    Kind(
        "`CancelledError`: a task was cancelled",
        r"CancelledError",
        r"",
        "The task of which `cancel()` or `flush()` said so.",
        "Goes on.",
        "It was never called; but one with "
        '`on_lost="retry"` may have lost a worker, and have waited for its next call. '
        "(concurrent.futures' class; `callback` and `error_callback` are not called, those of "
        "`add_done_callback` are.)",
    ),
]
DEGRADED = [
    Kind(
        "`InitializerError`: no worker can start",
        r"prefork\.InitializerError",
        r"no worker can start",
        "Every task that waits, and every new one at its call, until a worker comes up.",
        "`state` is `degraded`. It goes on trying, ever later (at most 6.4 s apart); the first "
        "worker that comes up ends that. `restart()` begins anew.",
        "None of these tasks was called, but for what "
        '`on_lost="retry"` was to call again. '
        "Three starts failed in a row, no worker was there, and, "
        "if some had come up before, that lasted for ten seconds.",
        "the cause is what the initializer raised, with its traceback, or how the process ended",
        at_call=None,
    ),
    Kind(
        "`RuntimeError`: zygote and standby are lost",
        r"RuntimeError",
        r"has lost its zygote and its standby",
        "Every task that waits, and every new one at its call.",
        "`state` is `degraded`: no worker can be forked. `restart()` is the way out; `stop()` and "
        "`terminate()` work as ever.",
        "None of these tasks was called, but for what "
        '`on_lost="retry"` was to call again. '
        "Those that ran end as WorkerKilled with `zygote_lost`. By "
        '`start_method="exec"`, and by `"fork"` where the application has a single thread, it does '
        "not come to this: the pool has a new zygote by itself, three times in a minute at most.",
        at_call=None,
    ),
]
VALUES = [
    Kind(
        "An exception of the task itself",
        r"(?!prefork\.).*",
        r"^(?!the result \()",
        "The one task: it raised this.",
        "Goes on, with the same worker.",
        "It is of the class that was raised, and has the worker's traceback as its cause; `args`, "
        "attributes and notes are as they pickle. The first line of the cause's text is "
        "`Traceback (most recent call last):`.",
        "its own; the cause is a RemoteError with `text` and `type_name`",
        cause="RemoteError",
    ),
    Kind(
        "`RemoteError`: an exception that cannot be had here",
        r"prefork\.RemoteError",
        r"",
        "The one task: it raised something that does not pickle, does not unpickle here, or is no "
        "Exception and might end this process (SystemExit, KeyboardInterrupt, GeneratorExit, "
        "asyncio.CancelledError).",
        "Goes on, with the same worker.",
        "The first line of the message, `reason`, says why the original is not here; then comes "
        "the traceback as text, and the last line names what was raised.",
        "`type_name` is that of the original",
    ),
    Kind(
        "`TypeError`: a result cannot be pickled",
        r"TypeError",
        r"^the result \(.* cannot be pickled",
        "The one task: it has returned.",
        "Goes on, with the same worker.",
        "The call has ended in good order; only its result is lost.",
        "the cause is a RemoteError with the traceback of the pickling",
        cause="RemoteError",
    ),
    Kind(
        "`TypeError`: what came from the worker cannot be unpickled",
        r"TypeError",
        r"cannot be unpickled: ",
        "The one task: what it returned or raised raises where it is unpickled, here.",
        "Goes on, with the same worker.",
        "Also SystemExit and KeyboardInterrupt, raised by unpickling, end nothing else. Ctrl-C "
        "that comes meanwhile is the program's, and the task keeps its result.",
        "of a result the cause is what was raised",
    ),
    Kind(
        "`MemoryError`: no room for a result",
        r"MemoryError",
        r"there is no room for what",
        "The one task: it has returned.",
        "Goes on; the result is read and dropped.",
        "The call has ended in good order. (A MemoryError with a RemoteError as its cause is the "
        "task's own.)",
        cause="",
    ),
    Kind(
        "An argument cannot be pickled",
        r"(?!prefork\.|OSError|RuntimeError).*",
        r"",
        "None: the call that was to submit the task raises what pickling raises. Of `imap` the "
        "one item: the rest of the input follows.",
        "Goes on; no slot was taken.",
        "No task has come into being.",
        cause="",
        at_call=True,
    ),
]
CALLS = [
    Kind(
        "`PoolClosed`: the pool takes no more tasks",
        r"prefork\.PoolClosed",
        r"takes no more tasks",
        "None: the call is refused.",
        "Ends, as it was told to.",
        "No task has come into being. It is a RuntimeError and a ValueError.",
        at_call=True,
    ),
    Kind(
        "`PoolClosed`: the pool of another process",
        r"prefork\.PoolClosed",
        r"is a fork of the one that started the pool",
        "None: the call, in a forked copy of the application, is refused.",
        "In the application itself it goes on as if nothing had been.",
        "Ending calls do nothing there. The copy may have a pool of its own.",
        at_call=True,
    ),
    Kind(
        "`RuntimeError`: a call before `start()`, or a second `start()`",
        r"RuntimeError",
        r"was not started|was started already",
        "None: the call is refused.",
        "Stays as it is.",
        "No task has come into being.",
        at_call=True,
    ),
    Kind(
        "`OSError`: too few descriptors to start",
        r"OSError",
        r"^\[Errno 24\] .* more workers want",
        "None: `start()` or `grow()` is refused, before anything was forked.",
        "Is as it was before; the same call may succeed later.",
        "Nothing is left behind.",
        "`errno` is EMFILE",
        at_call=True,
    ),
    Kind(
        "`OSError`: the pool's descriptors were closed under it",
        r"OSError",
        r"^\[Errno 9\]",
        "Every wait: somebody has closed descriptors that are not theirs.",
        "Cannot be driven any more. `terminate()` returns, and no process is left.",
        "No call hangs.",
        "`errno` is EBADF",
    ),
    Kind(
        "`ResourceWarning`: a pool was not ended",
        r"ResourceWarning",
        r"was collected while it was running|was still running at exit",
        "Every task that had not ended.",
        "Is terminated, when it is collected or the interpreter exits.",
        "No process is left.",
    ),
]
KINDS = [*LOST, *ENDED, *DEGRADED, *VALUES, *CALLS]
