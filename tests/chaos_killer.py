"""Who sends the signals of chaos.py: to workers, to the zygote, to its standby.

Zygote and standby are never hit both: the next of them only when the pool has both again."""

from __future__ import annotations

import collections
import contextlib
import heapq
import os
import random
import signal
import threading
import time

from helpers import asleep, name_of

FATAL = (signal.SIGKILL, signal.SIGSEGV)


class Killer(threading.Thread):
    """Sends `rate` signals a second until it is stopped; whoever it stopped goes on later."""

    def __init__(self, pool, rate, seed):
        super().__init__(name="killer", daemon=True)
        self._pool, self._pause = pool, 1 / rate
        self._draw = random.Random(seed + 1)
        self._over = threading.Event()
        self._stopped: list[tuple[float, int]] = []  # when to go on, whose descriptor
        self._killed = 0  # the zygote or standby that was killed last
        self.sent: collections.Counter[str] = collections.Counter()

    def run(self):
        due = time.monotonic()
        while not self._over.wait(max(0.0, due - time.monotonic())):
            due += self._pause
            self._let_go_on(time.monotonic())
            draw = self._draw.random()
            if draw < 0.04:
                self._hit_family()
            else:
                self._hit_worker()
        self._let_go_on(float("inf"))

    def stop(self):
        """No more signals; everybody goes on."""
        self._over.set()
        self.join()

    def _hit_worker(self):
        """Seldom one that is not up yet: three of those in a row, and the pool takes no tasks."""
        young = ("spawning", "starting") if self._draw.random() < 0.9 else ()
        workers = [one for one in self._pool.workers if one.pid and one.state not in young]
        if workers:
            number = self._draw.choices((*FATAL, signal.SIGSTOP), (60, 15, 25))[0]
            self._send("worker", self._draw.choice(workers).pid, number, "prefork-worker")

    def _hit_family(self):
        stats = self._pool.stats
        family = stats["zygote"], stats["standby"]
        # Whoever was killed must have been replaced, and the standby must wait for its turn.
        if 0 in family or self._killed in family or not asleep(family[1]):
            return
        victim = self._draw.randrange(2)
        number = self._draw.choice((signal.SIGKILL, signal.SIGSTOP))
        sent = self._send(("zygote", "standby")[victim], family[victim], number, "prefork-zygote")
        if sent and number == signal.SIGKILL:
            self._killed = family[victim]

    def _send(self, whom, pid, number, name):
        """By descriptor: a pid could be somebody else's by now."""
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        try:
            if name_of(pid) != name:  # not yet its own
                raise ProcessLookupError
            signal.pidfd_send_signal(fd, number)
        except OSError:
            os.close(fd)
            return False
        if number == signal.SIGSTOP:
            until = time.monotonic() + self._draw.uniform(0.005, 0.3)
            heapq.heappush(self._stopped, (until, fd))
        else:
            os.close(fd)
        self.sent[f"{signal.Signals(number).name} to {whom}"] += 1
        return True

    def _let_go_on(self, now):
        while self._stopped and self._stopped[0][0] <= now:
            fd = heapq.heappop(self._stopped)[1]
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, signal.SIGCONT)
            os.close(fd)
