"""What the error of a lost task says: the facts, the stack, memory and limits."""

import ctypes
import math
import os
import resource
import signal

import pytest

import prefork
from helpers import eventually, exit_now, memory_group, square
from prefork import machine
from prefork.errors import WorkerEnd, lost_error, readable_stack
from prefork.machine import OomKills
from scripts import run_script


def read_nothing():
    ctypes.string_at(0)


def allocate_and_die(mib):
    memory = bytearray(mib << 20)
    memory[::4096] = b"x" * len(memory[::4096])
    os.kill(os.getpid(), signal.SIGKILL)


def burn_until_the_limit():
    resource.setrlimit(resource.RLIMIT_CPU, (1, 2))
    while True:
        pass


@pytest.mark.parametrize(("deed", "number"), [(read_nothing, 11), (os.abort, 6)])
def test_a_crash_brings_the_python_stack(pool, capfd, deed, number):
    error = pool(1).apply_async(deed).exception()
    assert type(error) is prefork.WorkerKilled
    assert (error.signal, error.exitcode) == (number, -number)
    assert error.signal_name == signal.Signals(number).name
    assert error.stack.startswith("Fatal Python error") and error.stack in str(error)
    assert "_serve" not in error.stack and "Extension modules" not in error.stack
    if deed is read_nothing:
        assert error.stack.endswith("in read_nothing")
    assert capfd.readouterr().err == ""


def test_the_stack_is_that_of_the_worker_that_crashed(pool):
    one = pool(1)
    for _ in range(3):
        assert "read_nothing" in one.apply_async(read_nothing).exception().stack
        assert one.apply_async(signal.raise_signal, (signal.SIGKILL,)).exception().stack is None
        assert one.apply(square, (3,)) == 9


def test_the_peak_of_memory_is_told(pool):
    one = pool(1)
    small = one.apply_async(allocate_and_die, (1,)).exception()
    large = one.apply_async(allocate_and_die, (200,)).exception()
    assert large.peak_rss - small.peak_rss > 150 << 10
    assert small.peak_rss > 1 << 10


def test_a_resource_limit_is_named(pool):
    error = pool(1).apply_async(burn_until_the_limit).exception()
    assert (error.signal_name, error.rlimit) == ("SIGXCPU", "RLIMIT_CPU")
    assert "RLIMIT_CPU" in str(error)


# ---- out of memory -------------------------------------------------------------------------------


def write_events(root, count, where="sys/fs/cgroup/memory.events", text="low 0\noom_kill {}\n"):
    path = root / where
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.format(count))


@pytest.mark.parametrize(
    ("groups", "where"),
    [
        ("0::/\n", "sys/fs/cgroup/memory.events"),
        ("0::/a/b\n", "sys/fs/cgroup/a/b/memory.events"),
        ("4:cpu,memory:/x\n0::/\n", "sys/fs/cgroup/memory/x/memory.oom_control"),
        ("4:memory:/docker/1\n", "sys/fs/cgroup/memory/memory.oom_control"),
        (None, "proc/vmstat"),
    ],
)
def test_each_kill_by_the_kernel_is_claimed_once(tmp_path, monkeypatch, groups, where):
    monkeypatch.setattr(machine, "OOM_KILL_LASTS", math.inf)
    (tmp_path / "proc/self").mkdir(parents=True)
    if groups is not None:
        (tmp_path / "proc/self/cgroup").write_text(groups)
    write_events(tmp_path, 5, where)
    kills = OomKills(tmp_path)
    assert not kills.claim()
    write_events(tmp_path, 7, where)
    assert [kills.claim() for _ in range(4)] == [True, True, False, False]


def test_a_kill_that_nobody_claims_is_forgotten(tmp_path, monkeypatch):
    """It was of a program that a task had started, say."""
    now = [100.0]
    monkeypatch.setattr(machine, "monotonic", lambda: now[0])
    write_events(tmp_path, 5, "proc/vmstat")
    kills = OomKills(tmp_path)
    write_events(tmp_path, 7, "proc/vmstat")
    kills.look()
    now[0] += 0.9
    assert kills.claim()
    now[0] += 0.2
    assert not kills.claim()
    write_events(tmp_path, 8, "proc/vmstat")
    assert [kills.claim() for _ in range(2)] == [True, False]


def test_a_pool_looks_for_kills_whenever_a_worker_goes(pool, tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(machine, "monotonic", lambda: now[0])
    write_events(tmp_path, 5, "proc/vmstat")
    one = pool(1)
    one._delivery._oom_kills = OomKills(tmp_path)
    write_events(tmp_path, 6, "proc/vmstat")
    assert type(one.apply_async(exit_now, (3,)).exception()) is prefork.WorkerExited
    eventually(lambda: one._delivery._oom_kills._unclaimed == 1, one)
    now[0] += 15
    assert type(one.apply_async(allocate_and_die, (1,)).exception()) is prefork.WorkerKilled


def test_without_any_counter_nothing_is_out_of_memory(tmp_path):
    assert not OomKills(tmp_path).claim()


def test_a_sigkill_that_the_kernel_counted_is_out_of_memory(pool, tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "OOM_KILL_LASTS", math.inf)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    write_events(tmp_path, 0)
    one = pool(1)
    one._delivery._oom_kills = OomKills(tmp_path)
    write_events(tmp_path, 1)
    crashed = one.apply_async(read_nothing).exception()
    assert type(crashed) is prefork.WorkerKilled  # by another signal
    killed = one.apply_async(allocate_and_die, (1,)).exception()
    assert type(killed) is prefork.OutOfMemory
    assert "out of memory" in str(killed) and f"{killed.peak_rss} KiB" in str(killed)
    assert type(one.apply_async(allocate_and_die, (1,)).exception()) is prefork.WorkerKilled


OUT_OF_MEMORY = """
    import os, sys
    from pathlib import Path
    from prefork import OutOfMemory, TaskPool

    def eat():
        hoard = []
        while True:
            hoard.append(bytearray(1 << 20))

    group = Path(sys.argv[1])
    (group / "cgroup.procs").write_text(str(os.getpid()))
    with TaskPool(1) as pool:
        error = pool.apply_async(eat).exception()
        assert pool.apply(abs, (-3,)) == 3
        print(type(error).__name__, error.peak_rss > 10_000)
"""


@pytest.fixture
def small_group():
    with memory_group(64) as group:
        yield group


def test_a_worker_that_the_kernel_kills_for_memory(tmp_path, small_group):
    if small_group is None:  # without the right to make one, the counters above must do
        assert os.getuid() != 0 or not os.access("/sys/fs/cgroup", os.W_OK)
        return
    done = run_script(tmp_path, OUT_OF_MEMORY, small_group)
    assert done.stdout == "OutOfMemory True\n", done.stderr


# ---- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ours",
    [
        '_cffi_worker.py", line 3 in _call',
        'worker.py", line 3 in _serve',
    ],
)
def test_a_stack_is_told_without_the_frames_that_are_ours(ours):
    text = (
        "Fatal Python error: Aborted\n\n"
        'Thread 0x1 (most recent call first):\n  File "a.py", line 1 in f\n\n'
        'Current thread 0x2 (most recent call first):\n  File "b.py", line 2 in g\n'
        f'  File "/x/prefork/{ours}\n  File "c.py", line 4 in <module>\n\n'
        "Extension modules: x (total: 1)\n"
    )
    told = readable_stack(text)
    assert 'a.py", line 1' in told and told.endswith('b.py", line 2 in g')
    assert ours not in told and "c.py" not in told and "Extension" not in told


@pytest.mark.parametrize(
    ("end", "kind", "words"),
    [
        (WorkerEnd(5, 9), prefork.WorkerKilled, "killed by SIGKILL"),
        (WorkerEnd(5, 9, out_of_memory=True), prefork.OutOfMemory, "out of memory"),
        (WorkerEnd(5, 25), prefork.WorkerKilled, "SIGXFSZ (RLIMIT_FSIZE)"),
        (WorkerEnd(5, 3 << 8), prefork.WorkerExited, "exited with code 3"),
        (WorkerEnd(5, 0), prefork.WorkerExited, "exited with code 0"),
        (WorkerEnd(5, -1), prefork.WorkerLostError, "how is unknown"),
        (WorkerEnd(5, -1, zygote_lost=True), prefork.WorkerKilled, "with its zygote"),
        (WorkerEnd(5, 9, 1.5), prefork.WorkerKilled, "after 1.500 s"),
        (WorkerEnd(0, -1, terminated=True), prefork.WorkerKilled, "had not begun"),
        (WorkerEnd(5, -1, terminated=True), prefork.WorkerKilled, "terminated by the pool"),
    ],
)
def test_each_end_has_its_class_and_words(end, kind, words):
    error = lost_error("f", end)
    assert type(error) is kind
    assert words in str(error)
    assert error.pid == (end.pid or None)
