"""What tests share: functions for workers, gates to hold them at, and looks at pools and /proc."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PATIENCE = 30.0  # seconds until a state that does not come is a failure


def eventually(predicate: Callable[[], Any], pool: Any = None, within: float = PATIENCE) -> Any:
    """Drive `pool` until `predicate()` is true, and return what it gave."""
    deadline = time.monotonic() + within
    while not (found := predicate()):
        assert time.monotonic() < deadline, f"still not true after {within} s"
        if pool is not None:
            pool.poll(0.005)
        else:
            select.select([], [], [], 0.005)
    return found


# ---- processes -----------------------------------------------------------------------------------


def _stat(pid: int) -> list[str]:
    """comm, state, ppid, pgrp … of a process; [] if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as stat:
            text = stat.read().decode(errors="replace")
    except OSError:
        return []
    comm = text[text.index("(") + 1 : text.rindex(")")]
    return [comm, *text[text.rindex(")") + 2 :].split()]


def all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def alive(pid: int) -> bool:
    """Whether a process runs: a zombie does not."""
    stat = _stat(pid)
    return bool(stat) and stat[1] not in "ZX"


def asleep(pid: int) -> bool:
    """Whether a process waits for something."""
    stat = _stat(pid)
    return bool(stat) and stat[1] == "S"


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def parent_of(pid: int) -> int:
    return int(_stat(pid)[2])


def _stats() -> dict[int, list[str]]:
    return {pid: stat for pid in all_pids() if (stat := _stat(pid))}


def descendants(root: int, stats: dict[int, list[str]] | None = None) -> set[int]:
    parents = {pid: int(stat[2]) for pid, stat in (stats or _stats()).items()}
    found: set[int] = set()
    fresh = {root}
    while fresh:
        fresh = {pid for pid, parent in parents.items() if parent in fresh} - found
        found |= fresh
    return found


def leftovers() -> set[int]:
    """Our descendants, and pool processes of our process group whatever their parent is now."""
    group = str(os.getpgrp())
    stats = _stats()
    lost = {
        pid
        for pid, stat in stats.items()
        if stat[0].startswith("prefork-") and stat[3] == group and stat[1] not in "ZX"
    }
    return lost | descendants(os.getpid(), stats)


def descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # the descriptor of the listing itself
            continue
    return found


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


@contextlib.contextmanager
def memory_group(mib: int) -> Iterator[str | None]:
    """A memory cgroup of that size below our own, as root can make it; None where we cannot."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in ("memory", ""):
            kind = "memory" if controllers else ""
            limit = "memory.limit_in_bytes" if controllers else "memory.max"
            group = os.path.join("/sys/fs/cgroup", kind, path.lstrip("/"), f"prefork-{os.getpid()}")
            try:
                os.mkdir(group)
            except OSError:
                continue
            try:
                if os.path.exists(os.path.join(group, limit)):
                    Path(group, limit).write_text(str(mib << 20))
                    yield group
                    return
            finally:
                os.rmdir(group)
    yield None


# ---- gates ---------------------------------------------------------------------------------------


class Gate:
    """A place where tasks wait until the test lets them go, and say that they have come."""

    def __init__(self, directory: Path, name: str = "gate") -> None:
        self.path = str(directory / name)
        for what in ("here", "go"):
            os.mkfifo(f"{self.path}.{what}")
        self._here = os.open(f"{self.path}.here", os.O_RDWR | os.O_CLOEXEC)
        self._go = os.open(f"{self.path}.go", os.O_RDWR | os.O_CLOEXEC)
        self._unread = b""

    def arrived(self, count: int = 1, pool: Any = None) -> list[int]:
        """Wait until `count` more tasks are at the gate; the pids of their workers."""
        deadline = time.monotonic() + PATIENCE
        while self._unread.count(b"\n") < count:
            assert time.monotonic() < deadline, f"{self._unread!r}: {count} tasks were to come"
            if pool is not None:
                pool.poll(0)
            if select.select([self._here], [], [], 0.005 if pool else 1.0)[0]:
                self._unread += os.read(self._here, 65536)
        *found, rest = self._unread.split(b"\n", count)
        self._unread = rest
        return [int(pid) for pid in found]

    def is_awaited(self, within: float = 0) -> bool:
        """Whether somebody has come whom `arrived` has not told of yet, or comes within that many
        seconds."""
        return bool(self._unread) or bool(select.select([self._here], [], [], within)[0])

    def open(self, count: int = 1) -> None:
        """Let `count` tasks go."""
        os.write(self._go, b"x" * count)

    def close(self) -> None:
        os.close(self._here)
        os.close(self._go)


def hold(path: str, result: Any = None) -> Any:
    """A task that waits at a gate."""
    with open(f"{path}.here", "wb", buffering=0) as here:
        here.write(b"%d\n" % os.getpid())
    with open(f"{path}.go", "rb", buffering=0) as go:
        go.read(1)
    return os.getpid() if result is None else result


def hold_stubbornly(path: str) -> int:
    """As `hold`, and deaf to SIGTERM."""
    import signal

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return hold(path)


class UnpickledAtTheGate:
    """An argument that a worker has only when the gate opens."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return hold, (self.path, 0)


# ---- signal handlers -----------------------------------------------------------------------------


class Interrupt(BaseException):
    """What a signal handler raises that is meant for the program."""


def undisturbed(function: Callable[..., Any], *args: Any) -> Any:
    """The value of a call, tried again when it is interrupted."""
    while True:
        try:
            return function(*args)
        except Interrupt:
            continue


# ---- pools ---------------------------------------------------------------------------------------


def pids(pool: Any) -> set[int]:
    return {worker.pid for worker in pool.workers}


def full(pool: Any, count: int) -> Any:
    """The pool is at strength: every worker has a pid and can take tasks.

    Spares are not counted: one waits for as long as a worker has a task or two of its share left.
    """
    workers = [worker for worker in pool.workers if worker.state != "spare"]
    at_strength = all(w.pid and w.state in ("idle", "running") for w in workers)
    return len(workers) == count and at_strength and workers


def kill_zygote(pool: Any) -> None:
    """And wait until its workers have gone with it: one of them might still begin a task."""
    lost, workers = pool.stats["zygotes_lost"], [w.pid for w in pool.workers if w.pid]
    os.kill(pool.stats["zygote"], signal.SIGKILL)
    eventually(lambda: pool.stats["zygotes_lost"] > lost, pool)
    eventually(lambda: not any(map(alive, workers)), pool)


def kill_both_zygotes(pool: Any) -> None:
    """Zygote and standby. Neither has the time to notice the other's end, and to fork another."""
    standby = eventually(lambda: pool.stats["standby"], pool)
    both = pool.stats["zygote"], standby
    for pid in both:
        os.kill(pid, signal.SIGSTOP)
    for pid in both:
        os.kill(pid, signal.SIGKILL)


def lose_both(pool: Any) -> None:
    """The same, until the core knows; the pool has yet to hear of it. Polls nothing."""
    kill_both_zygotes(pool)
    eventually(lambda: (stats := pool.stats)["zygotes_lost"] and not stats["zygote"])


def drive(pool: Any, until: Callable[[], Any]) -> None:
    """A loop as an application would write it: select, then poll."""
    fd = pool.fileno()
    while not until():
        assert select.select([fd], [], [], PATIENCE)[0], "nothing came to be read"
        pool.poll()


def ended_with_stacks(submit: Callable[[], Any]) -> Any:
    """The error of the first task over its limit that shows its stacks, of ten: a worker has nine
    milliseconds to do that, which a busy machine may not give it."""
    for _ in range(10):
        error = submit().exception()
        if error.stack is not None:
            break
    return error


class Calls:
    """What was called back, in order, and in which threads."""

    def __init__(self) -> None:
        self.entries: list[tuple[Any, ...]] = []
        self.threads: set[int] = set()

    def __call__(self, name: str) -> Callable[..., None]:
        def called(*args: Any) -> None:
            self.threads.add(threading.get_ident())
            self.entries.append((name, *args))

        return called

    def both(self) -> dict[str, list[Callable[..., None]]]:
        """Lists for the pool of Celery 0.3.7."""
        return {"callbacks": [self("back")], "errbacks": [self("err")]}


# ---- tasks ---------------------------------------------------------------------------------------


def square(x: int) -> int:
    return x * x


def add(a: int, b: int, *, c: int = 0) -> int:
    return a + b + c


def pid_of_worker(*_: Any) -> int:
    return os.getpid()


def fail(message: str = "no") -> None:
    raise ValueError(message)


def fail_on_odd(x: int) -> int:
    if x % 2:
        raise ValueError(x)
    return x


def exit_now(code: int) -> None:
    os._exit(code)


def kill_self(number: int) -> None:
    import signal

    signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)
    signal.pause()


def spin() -> None:
    while True:
        pass


def note(path: str, text: str = "") -> None:
    """Append a line to a file, in one write."""
    line = (text or str(os.getpid())) + "\n"
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, line.encode())
    os.close(fd)


def lines(path: Path | str) -> list[str]:
    try:
        return Path(path).read_text().split("\n")[:-1]
    except FileNotFoundError:
        return []


# What an open pool takes, and every other refuses.
CALLS: dict[str, Callable[[Any], Any]] = {
    "apply": lambda pool: pool.apply(square, (1,)),
    "apply_async": lambda pool: pool.apply_async(square, (1,)),
    "map": lambda pool: pool.map(square, [1]),
    "starmap": lambda pool: pool.starmap(square, [(1,)]),
    "imap": lambda pool: pool.imap(square, [1]),
    "imap_unordered": lambda pool: pool.imap_unordered(square, [1]),
    "grow": lambda pool: pool.grow(),
    "shrink": lambda pool: pool.shrink(),
    "restart": lambda pool: pool.restart(),
}


# ---- threads -------------------------------------------------------------------------------------


def in_a_thread(function: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Call it there; the thread, and where its result or error will be."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(function())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, found
