"""How tasks are ended from outside: cancelled, interrupted, killed with their worker."""

from __future__ import annotations

import errno
import signal as signals
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .sizing import Sized

if TYPE_CHECKING:
    from .task import Task


class Ending(Sized):
    """The part of a TaskPool that ends tasks by name."""

    def flush(self) -> int:
        """Cancel every task that has not begun, or that has lost its worker and waits to be called
        again; how many that were."""
        self._check_own()
        return sum(task.cancel() for task in list(self._delivery.tasks.values()))

    def terminate_job(self, pid: int, signal: int | None = None) -> bool:
        """End the task that worker `pid` runs now, and the worker, by `signal` (SIGTERM, SIGQUIT,
        SIGABRT or SIGKILL; default SIGTERM). Whether it ran one. Raises ValueError for a signal
        that does not end a worker."""
        self._check_own()
        return self._kill_by(self._core.kill_job, pid, signal)

    def _kill(self, number: int, signal: int | None) -> bool:
        self._check_own()
        return not self._finished and self._kill_by(self._core.kill_task, number, signal)

    def _kill_by(self, kill: Callable[[int, int], bool], whom: int, signal: int | None) -> bool:
        try:
            done = kill(whom, signals.SIGTERM if signal is None else signal)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise ValueError(f"signal {signal} does not end a worker") from None
        self._look()
        return done

    def _interrupt(self, number: int) -> bool:
        self._check_own()
        return not self._finished and self._core.interrupt_task(number)

    def _cancel(self, task: Task[Any]) -> bool:
        self._check_own()
        if self._finished or not self._core.cancel(task._number):
            return False
        self._look()
        return True

    def _find(self, number: int) -> int:
        return 0 if self._finished or self._is_copy() else self._core.find_task(number)

    def _fail_waiting(self) -> None:
        """Every task that has not begun fails, for no worker can start."""
        for number, task in list(self._delivery.tasks.items()):
            task._cancelled_by = self._delivery.health.error(self)
            self._core.cancel(number)
