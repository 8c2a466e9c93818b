"""The walk of `prefork map` over its inputs: a bounded number of tasks, retries, records."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from prefork import InitializerError, TaskPool, WorkerLostError

from .call import Call


@dataclass
class Job:
    """One input on its way."""

    text: str
    attempts: int = 0
    task: Any = None
    lost: WorkerLostError | None = None  #: how the latest attempt ended, if it may be repeated
    ended: bool = False
    record: str | None = None  #: the line to print; None after the end: it was never begun


@dataclass
class Walk:
    """Inputs through a pool, at most `window` of them between `submit` and `take`."""

    pool: TaskPool
    call: Call
    window: int
    retries: int = 1
    ordered: bool = True
    fail_fast: bool = False
    done: int = 0
    failed: int = 0
    retried: int = 0
    dropped: int = 0
    draining: bool = False
    jobs: dict[int, Job] = field(default_factory=dict)  #: by number; not yet taken
    _settled: deque[int] = field(default_factory=deque)  # numbers of tasks that ended
    _lost: list[int] = field(default_factory=list)  # numbers of lost calls, to be called again
    _submitted: int = 0
    _turn: int = 0  # the number of the next job to be handed out, if ordered

    @property
    def room(self) -> bool:
        """Whether one more input may be submitted."""
        return not self.draining and len(self.jobs) < self.window

    def submit(self, text: str) -> None:
        """Take an input. Raises InitializerError."""
        number, self._submitted = self._submitted, self._submitted + 1
        job = self.jobs[number] = Job(text)
        self._apply(number, job)

    def drain(self) -> None:
        """Take no more inputs, drop those whose call has not begun, and call no lost one again."""
        if not self.draining:
            self.draining = True
            for job in list(self.jobs.values()):
                if not job.ended:
                    job.task.cancel()

    def take(self) -> Iterator[Job]:
        """What has come to its end since, in order if so wished. Raises InitializerError."""
        while self._settled:
            number = self._settled.popleft()
            if self._settle(number, self.jobs[number]) and not self.ordered:
                yield self.jobs.pop(number)
        # After all others, for one of those may be the failure after which no call is begun.
        lost, self._lost = self._lost, []
        for number in lost:
            if self._again(number, self.jobs[number]) and not self.ordered:
                yield self.jobs.pop(number)
        while self.ordered and self._turn in self.jobs and self.jobs[self._turn].ended:
            yield self.jobs.pop(self._turn)
            self._turn += 1

    def _apply(self, number: int, job: Job) -> None:
        job.attempts += 1
        job.task = self.pool.apply_async(self.call, (job.text,))
        # Out of a callback nothing may be raised: it only takes a note.
        job.task.add_done_callback(lambda _: self._settled.append(number))

    def _settle(self, number: int, job: Job) -> bool:
        """Whether this was the end of it; if not, it is one of `_lost`."""
        if job.task.cancelled():
            if job.lost is None:
                job.ended = True
                self.dropped += 1
            else:  # it was to be called again, and that has not begun
                job.attempts -= 1
                self.retried -= 1
                self._end(job, False, describe(job.lost))
            return True
        error = job.task.exception()
        if isinstance(error, InitializerError):
            raise error
        if isinstance(error, WorkerLostError) and job.attempts <= self.retries:
            job.lost = error
            self._lost.append(number)
            return False
        good, what = job.task.result() if error is None else (False, describe(error))
        self._end(job, good, what)
        return True

    def _again(self, number: int, job: Job) -> bool:
        """Call a lost one again, unless no call is to be begun. Whether this was the end of it."""
        if self.draining:
            assert job.lost is not None
            self._end(job, False, describe(job.lost))
            return True
        self.retried += 1
        self._apply(number, job)
        return False

    def _end(self, job: Job, good: bool, what: Any) -> None:
        job.ended = True
        job.task = None
        job.record = record(job, good, what)
        self.done += good
        self.failed += not good
        if self.fail_fast and self.failed:
            self.drain()


def describe(error: BaseException) -> dict[str, Any]:
    """An exception of the pool's as an error record."""
    found = {name: getattr(error, name, None) for name in ("pid", "signal", "exitcode")}
    return {"type": type(error).__qualname__, "message": str(error), **found}


def record(job: Job, good: bool, what: Any) -> str:
    """The line that is printed for a job."""
    if good:
        return f'{{"input": {json.dumps(job.text)}, "result": {what}}}\n'
    error = {"signal": None, "exitcode": None, **what, "attempts": job.attempts}
    order = ("type", "message", "pid", "signal", "exitcode", "attempts")
    return json.dumps({"input": job.text, "error": {key: error[key] for key in order}}) + "\n"
