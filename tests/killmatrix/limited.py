"""Tasks that run too long, die so many times, or ask for more time; initializers that fail."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
import time
from typing import Any

from helpers import hold, lines, note


def spin() -> None:
    while True:
        pass


def sleep() -> None:
    time.sleep(3600)


def work(seconds: float) -> None:
    """For about so long; tests do not depend on it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def tidy_up() -> str:
    try:
        spin()
    except Exception:  # whatever the pool calls it
        return "tidy"
    return "never"


def keep_the_soft_signal_back() -> None:
    """Until it has come."""
    from prefork._core import SOFT_SIGNAL

    signal.pthread_sigmask(signal.SIG_BLOCK, [SOFT_SIGNAL])
    while SOFT_SIGNAL not in signal.sigpending():
        time.sleep(0.001)


def let_the_soft_signal_in() -> str:
    from prefork._core import SOFT_SIGNAL

    signal.pthread_sigmask(signal.SIG_UNBLOCK, [SOFT_SIGNAL])
    return "not told"


def hold_the_gil() -> int:
    return sum(range(10**12))  # one call into C, which never lets go


def spin_in_threads() -> None:
    threading.Thread(target=spin, daemon=True).start()
    time.sleep(3600)


def deaf() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    spin()


def ignore_every_signal() -> None:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    spin()


def extend(path: str) -> Any:
    import prefork

    task = prefork.current_task()
    assert task is not None and task.name == "extend"
    prefork.extend_deadline(60)
    return hold(path, "held")


def die_at_first(path: str, times: int) -> int:
    """Ends its worker as often as wanted, then says how often it was called."""
    note(path)
    calls = len(lines(path))
    if calls <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return calls


def fail() -> None:
    raise ValueError("of the initializer")


def fail_unless(path: str) -> None:
    if not os.path.exists(path):
        fail()


def allocate_and_die(mib: int) -> None:
    memory = bytearray(mib << 20)
    memory[::4096] = b"x" * len(memory[::4096])
    os.kill(os.getpid(), signal.SIGKILL)


kept: list[bytes] = []


def grow_and_hold(mib: int, path: str) -> Any:
    kept.append(b"x" * (mib << 20))
    return hold(path, "held")


# ---- what they write -----------------------------------------------------------------------------


def say_and_die(text: str) -> None:
    os.write(2, text.encode())
    os.kill(os.getpid(), signal.SIGKILL)


def say_and_spin(text: str) -> None:
    os.write(2, text.encode())
    spin()


def say_it_and(then: str) -> None:
    """Descriptor 2 by itself, Python's stdout, a program; then to its end."""
    os.write(2, b"written by C\n")
    print("printed")
    subprocess.run(["sh", "-c", "echo said by a program >&2"], check=True)
    if then == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if then == "close":
        os.closerange(1, 3)


def fail_an_assertion_in_c() -> None:
    ctypes.CDLL(None).__assert_fail(b"x == 1", b"file.c", 7, b"f")


def talk(mib: int, path: str) -> None:
    for _ in range(mib):
        os.write(2, (b"." * 63 + b"\n") * (1 << 14))
    hold(path)
    say_and_die("the end")


def say_and_exit(text: str) -> None:
    os.write(2, text.encode())
    os._exit(3)
