"""The flight recorder: what happened last in a slot of a pool, also after its worker was killed."""

from __future__ import annotations

import signal as signals
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from ._binding import Notes

TOLD = {  # in the order of the core's pf_note_type
    "spawned": "spawned as process {} of the pool",
    "born": "born with pid {}",
    "ready": "ready",
    "failed": "failed in its initializer",
    "claimed": "claimed task {}",
    "returned": "returned from task {}",
    "raised": "raised from task {}",
    "soft limit": "told that the soft limit of task {} is up",
    "condemned": "condemned for a limit of task {}",
    "signalled": "sent {} by the pool",
    "retired": "told to end after its present task",
    "exited": "{}",
}
NAMES = tuple(TOLD)
OF_TASKS = ("claimed", "returned", "raised", "soft limit", "condemned")


class HistoryEvent(NamedTuple):
    """One thing that happened in a slot of the pool.

    `what` is one of: spawned (value: the how-manieth process of the pool it is), born (its pid),
    ready, failed (its initializer: 0), claimed, returned, raised, soft limit, condemned (the task's
    id; the last means that the pool has ended it for a limit), signalled (by the pool: the signal's
    number), retired (told to end after its present task: 0), exited (status as of os.waitpid, -1 if
    unknown).
    """

    at: float  #: seconds, of time.monotonic(), which is the same in all processes
    what: str
    value: Any

    def __str__(self) -> str:
        value = self.value
        if self.what == "signalled":
            value = signal_name(value)
        elif self.what == "exited":
            value = how_it_ended(value)
        return TOLD[self.what].format(value)


def signal_name(number: int) -> str:
    """The name of a signal, or its number where it has none."""
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"signal {number}"


def how_it_ended(status: int) -> str:
    """A status as of os.waitpid, -1 for none, in words."""
    if status < 0:
        return "ended, how is unknown"
    if status & 0x7F:
        return f"was ended by {signal_name(status & 0x7F)}"
    return f"exited with code {status >> 8}"


def history_of(
    notes: Notes | None, ids: Mapping[int, Any] | None = None
) -> tuple[HistoryEvent, ...]:
    """The events of a slot, oldest first. `ids`: what tasks are called by those who know it."""
    events = []
    for kind, at, value in () if notes is None else notes[3]:
        known: Any = value
        if NAMES[kind] in OF_TASKS:
            known = (ids or {}).get(value, value)
        elif NAMES[kind] == "exited" and value >> 63:
            known = -1
        events.append(HistoryEvent(at, NAMES[kind], known))
    return tuple(events)


def last_life(events: tuple[HistoryEvent, ...]) -> tuple[HistoryEvent, ...]:
    """Of these the ones of the slot's newest process."""
    for index in range(len(events) - 1, -1, -1):
        if events[index].what == "spawned":
            return events[index:]
    return events


def told(events: tuple[HistoryEvent, ...], now: float | None = None, most: int = 8) -> str:
    """The last `most` events, one a line, in seconds before `now` (default: the last of them)."""
    if not events:
        return ""
    now = events[-1].at if now is None else now
    return "\n".join(f"  {event.at - now:10.3f} s  {event}" for event in events[-most:])
