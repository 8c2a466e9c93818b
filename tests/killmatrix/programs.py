"""Applications of their own, which rows launch and do harm to."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from . import tasks
from .stage import Stage


def busy(stage: Stage, gate: str, workers: str = "2") -> None:
    """Waits for tasks that wait at a gate, with more of them queued."""
    stage.start(int(workers))
    held = [stage.submit(tasks.hold_here, gate) for _ in range(int(workers))]
    for _ in range(20):
        stage.submit(tasks.echo, 1)
    if stage.strict:
        while not stage.native.stats["standby"]:
            stage.native.poll(0.01)
        print(stage.native.stats["zygote"], flush=True)
    else:
        print(0, flush=True)
    stage.outcome(held[0])


def busy_and_leaves(stage: Stage, gate: str, how: str) -> None:
    """Leaves with tasks running and queued, as programs do."""
    stage.start()
    for _ in range(2):
        stage.submit(tasks.hold_here, gate)
    for _ in range(20):
        stage.submit(tasks.echo, 1)
    print("ready", flush=True)
    sys.stdin.readline()
    if how == "_exit":
        os._exit(0)
    if how == "raise":
        raise ValueError("of the program")
    if how == "exit":
        sys.exit(7)


def in_a_group(stage: Stage, gate: str, handled: str) -> None:
    """A scenario in a process group of its own, which is about to get a signal."""
    os.setpgrp()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    stage.start()
    for _ in range(2):
        stage.victim(tasks.hold_here, gate, "held", value="held")
    if stage.strict:
        for handle in stage.victims:
            stage.accepted(handle)
    stage.others()
    print(os.getpid(), flush=True)
    stage.afterwards()
    print("passed", flush=True)


def in_a_small_memory(stage: Stage, group: str) -> None:
    """A scenario in a memory cgroup, with a task that takes all there is."""
    Path(group, "cgroup.procs").write_text(str(os.getpid()))
    stage.start()
    stage.others()
    stage.victim(tasks.eat)
    stage.others()
    stage.afterwards()
    stage.writes_down()
    print("passed", flush=True)
    os._exit(0)


def interrupted(stage: Stage, gate: str) -> None:
    """Ctrl-C, as a terminal sends it, while it waits for a task; then it goes on."""
    os.setpgrp()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    stage.start()
    held = stage.victim(tasks.hold_here, gate, "held", value="held")
    print(os.getpid(), flush=True)
    try:
        stage.pool.wait(held.native)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    stage.afterwards()
    print("passed", flush=True)
