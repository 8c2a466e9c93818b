"""What tasks do to their own process."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from typing import Any

from helpers import hold, note


def stop_itself(path: str) -> str:
    note(path + ".new")
    os.rename(path + ".new", path)
    os.kill(os.getpid(), signal.SIGSTOP)
    return "went on"


def ignore_sigterm(path: str) -> Any:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return hold(path)


def block_signals(path: str) -> Any:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    return hold(path)


def close_descriptors(fail: bool = False) -> None:
    os.closerange(0, 4096)
    if fail:
        raise ValueError("all closed")


def write_garbage() -> None:
    """On descriptors above stdio, all that can be written; then waits for what comes."""
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        with contextlib.suppress(OSError):
            if fd > 2 and "gate" not in os.readlink(f"/proc/self/fd/{fd}"):
                os.set_blocking(fd, False)
                os.write(fd, b"\xff\x00garbage" * 100)
    signal.pause()


def fork_and_return() -> int:
    """The child returns as the task does; who it is shall show."""
    return os.fork()


def fork_and_raise_in_the_child() -> int:
    pid = os.fork()
    if pid == 0:
        raise ValueError("of the child")
    return pid


def leave_a_grandchild(path: str) -> None:
    if os.fork() == 0:
        hold(path)
        os._exit(0)
    os._exit(3)


def leave_a_writing_grandchild(path: str) -> None:
    """When its worker is gone it writes what it can on all that it has inherited."""
    worker = os.getpid()
    if os.fork() == 0:
        while os.getppid() == worker:
            os.sched_yield()
        for name in os.listdir("/proc/self/fd"):
            fd = int(name)
            with contextlib.suppress(OSError):
                if fd > 2 and os.readlink(f"/proc/self/fd/{fd}").startswith(("pipe:", "socket:")):
                    os.set_blocking(fd, False)
                    os.write(fd, b"\x01" * 1000)
        hold(path)
        os._exit(0)
    os._exit(3)


def leave_threads() -> None:
    for daemon in (True, False):
        for _ in range(3):
            threading.Thread(target=threading.Event().wait, daemon=daemon).start()


def leave_a_crashing_thread(path: str) -> None:
    from . import tasks

    def wait_and_crash() -> None:
        hold(path)
        tasks.read_nothing()

    threading.Thread(target=wait_and_crash, daemon=True).start()


def close_stdio() -> None:
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.close()
    os.closerange(0, 3)


def read_stdin() -> bytes:
    return os.read(0, 100)


def change_directory() -> None:
    os.chdir("/")


def remove_directory() -> None:
    import tempfile

    os.chdir(path := tempfile.mkdtemp())
    os.rmdir(path)


def change_umask() -> None:
    os.umask(0o777)


def change_locale() -> None:
    import locale

    for name in ("", "POSIX", "C"):
        locale.setlocale(locale.LC_ALL, name)


def change_masks() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def change_handlers() -> None:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_IGN)


def lower_limits(down: bool) -> None:
    """Nothing may be opened, written to files, forked or locked; or all that is allowed again."""
    import resource

    for kind, least in (
        (resource.RLIMIT_NOFILE, 3),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        most = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (least if down else most, most))


def clear_environment() -> None:
    os.environ.clear()
