"""Maps by a clock that stands still: what items cost, and which of them went together."""

from __future__ import annotations

import prefork

NAMES = ["imap", "imap_unordered"]


class Clock:
    """Time that passes only where somebody says so."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


clock = Clock()


def task_of(seconds):
    """A call that takes so long; the number of the task that made it."""
    clock.now += seconds
    return prefork.current_task().id


def sizes(ids):
    """Of the batches, in their order."""
    return [ids.count(one) for one in dict.fromkeys(ids)]


def note(call):
    """Write what is called into a file, then do it."""
    path, function, arg = call
    with open(path, "a") as notes:
        notes.write(f"{arg}\n")
    return function(arg)


def noted(path):
    return sorted(map(int, path.read_text().split()))


def call(what):
    function, arg = what
    return function(arg)


def slow_on_sevens(x):
    clock.now += x % 7 == 0
    return x
