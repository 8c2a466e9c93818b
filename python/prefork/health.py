"""Whether workers can start, and what is to be said when they cannot."""

from __future__ import annotations

import time

from .errors import InitializerError, shown

PATIENCE = 3  # starts that must fail in a row before the waiting tasks are failed
ENDURANCE = 10.0  # and seconds for which they must, where workers have come up before


class Health:
    """What a pool knows of its workers' beginnings; kept by its Delivery."""

    def __init__(self) -> None:
        self._up: set[int] = set()  # pids of workers whose initializer has returned
        self._failed: set[int] = set()  # and of those who said that it has failed
        self._gone: set[int] = set()  # of those whose end was heard before that they were up
        self.start_afresh()

    def start_afresh(self) -> None:
        """There is a new zygote: what the old one's workers suffered from counts no more."""
        self.is_well = True
        self.failed_starts = 0  #: in a row
        self.zygote_missing = ""  #: why there is none, and will be none by itself
        self._were_up = False
        self._since = 0.0
        self._cause: Exception | None = None

    def worker_up(self, pid: int) -> None:
        """Its initializer has returned."""
        self._up.add(pid)
        self._forget_who_is_gone(pid)
        self._were_up = True
        self.failed_starts = 0
        self._cause = None
        self.is_well = not self.zygote_missing

    def worker_exited(self, pid: int, was_up: bool) -> bool:
        """Whether that was a worker of which nothing had been heard. That it was up may still be
        in the hand of another thread."""
        known = was_up or pid in self._failed
        self._failed.discard(pid)
        if was_up:
            self._gone.add(pid)
            self._forget_who_is_gone(pid)
        return not known

    def _forget_who_is_gone(self, pid: int) -> None:
        """Each of two threads adds to its own set first, so one of them at least sees both."""
        if pid in self._up and pid in self._gone:
            self._up.discard(pid)
            self._gone.discard(pid)

    def start_failed(self, pid: int, cause: Exception) -> bool:
        """Whether the tasks that wait shall wait no longer: no worker is there to do them, nor will
        one be soon."""
        now = time.monotonic()
        if self.failed_starts == 0:
            self._since = now
        self.failed_starts += 1
        if self.failed_starts < PATIENCE or self._up:
            return False
        if self._were_up and now - self._since < ENDURANCE:
            return False
        self._cause = cause
        self.is_well = False
        return True

    def worker_failed(self, pid: int) -> None:
        """It has said that its initializer failed; its exit is no news then."""
        self._failed.add(pid)

    def zygote_lost(self, why: str) -> None:
        """And there is no standby, nor a new one, and why."""
        self.zygote_missing = why
        self.is_well = False

    def error(self, pool: object) -> Exception | None:
        """Why no worker can start: an exception of its own for everybody who is to raise it."""
        missing, cause = self.zygote_missing, self._cause  # a restart() elsewhere forgets them
        if missing:
            return RuntimeError(
                f"{pool} has lost its zygote and its standby, and has no new one: "
                f"{missing}. Call restart()."
            )
        if cause is None:
            return None
        # What we have made ourselves is a sentence, and may end in lines that a worker has written.
        ours = type(cause) is InitializerError
        error = InitializerError(f"no worker can start: {cause if ours else shown(cause)}")
        error.__cause__ = cause
        return error
