"""A signal handler that raises at any instruction of the binding in Python: what was taken from the
core is delivered, and what was given to it is known. The other binding has none to come between."""

from __future__ import annotations

import pytest

from scripts import run_script

STRUCK = """
    import os, sys
    import prefork
    from helpers import Interrupt, drive, eventually, square
    from prefork import TaskPool, _core

    BINDING = os.path.join(os.path.dirname(prefork.__file__), "_cffi")
    assert _core.NAME == "cffi"

    def struck_at(turn, call):
        "Whether `call` comes to so many instructions of the binding: there, a handler raises."
        left = [turn]

        def strike(frame, event, _):
            if not frame.f_code.co_filename.startswith(BINDING):
                return None
            frame.f_trace_opcodes = True
            left[0] -= event == "opcode"
            if left[0] == 0:
                sys.settrace(None)
                left[0] = -1
                raise Interrupt
            return strike

        sys._getframe().f_trace_opcodes = True  # 3.12 must know of one before settrace
        sys.settrace(strike)
        try:
            call()
        except Interrupt:
            pass
        finally:
            sys.settrace(None)
        return left[0] < 0

    class Counted:
        "A semaphore that may be released too often, and says so."

        def __init__(self, value):
            self.value = value

        def acquire(self, blocking=True):
            self.value -= 1
            return True

        def release(self):
            self.value += 1

    def everywhere(call, check):
        turn = 1
        while struck_at(turn, call):
            check()
            turn += 1
        return turn
"""


def struck(tmp_path, monkeypatch, text, *args):
    monkeypatch.setenv("PREFORK_CORE", "cffi")
    done = run_script(tmp_path, STRUCK + text, *args)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("args", [(), ("passed in",)])
def test_no_task_and_no_slot_is_lost(tmp_path, monkeypatch, args):
    turns, tasks = struck(
        tmp_path,
        monkeypatch,
        """
    semaphore = Counted(2) if sys.argv[1:] else None
    with TaskPool(2, semaphore=semaphore) as pool:
        delivery = pool._delivery

        def check():
            eventually(lambda: not (delivery.tasks or delivery.events), pool)
            assert not (delivery.early or delivery.hand or pool._core._taken)
            assert (semaphore.value if semaphore else len(pool._semaphore.free)) == 2

        turns = everywhere(lambda: pool.apply(square, (3,)), check)
        assert pool.stats["tasks_submitted"] == pool.stats["tasks_succeeded"]
        print(turns, pool.stats["tasks_submitted"])
    """,
        *args,
    )
    assert int(turns) > 200
    assert int(turns) > int(tasks) > 100


def test_every_callback_is_called_once(tmp_path, monkeypatch):
    turns, seen, done, different = struck(
        tmp_path,
        monkeypatch,
        """
    with TaskPool(2, putlocks=False) as pool:
        pool.fileno()
        seen, done = [], []

        def call():
            task = pool.apply_async(square, (len(seen),), callback=seen.append)
            task.add_done_callback(done.append)
            drive(pool, lambda: task.done() and task in done)

        def check():
            drive(pool, lambda: not (pool._delivery.tasks or pool._delivery.callbacks))
            assert not pool._core._taken

        turns = everywhere(call, check)
        print(turns, len(seen), len(done), len(set(done)))
        assert len(seen) == pool.stats["tasks_succeeded"]
    """,
    )
    assert int(turns) > 200
    assert int(done) == int(different) <= int(seen)


def test_a_handler_may_wait_for_what_it_keeps_from_being_passed_on(tmp_path, monkeypatch):
    """It interrupts the poll that has taken the end of the very task."""
    (seen,) = struck(
        tmp_path,
        monkeypatch,
        """
    from prefork._cffi import CorePool

    with TaskPool(1) as pool:
        pool.fileno()
        convert, waited = prefork._cffi._as_tuple, []

        def struck(event):
            found = convert(event)
            if found[0] == _core.DONE and not waited:
                waited.append(None)
                waited[:] = [task.wait(20)]
            return found

        prefork._cffi._as_tuple = struck
        task = pool.apply_async(square, (3,))
        assert task.get() == 9
        print(*waited)
    """,
    )
    assert seen == "True"
