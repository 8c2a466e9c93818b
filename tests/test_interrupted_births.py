"""Signal handlers that raise while a zygote is born: no signal stays blocked, another may come."""

from __future__ import annotations

import contextlib
import dis
import os
import signal
import sys

import pytest

from helpers import Interrupt, square
from prefork import boot


def blocked():
    return signal.pthread_sigmask(signal.SIG_BLOCK, [])


@contextlib.contextmanager
def struck(function, turn, within=True):
    """Interrupt is raised where `function`, with all signals blocked or not (`within`), has called
    something: there the interpreter runs the handlers that are due. The `turn`th time."""
    steps = list(dis.get_instructions(function))
    places = {
        after.offset
        for step, after in zip(steps, steps[1:], strict=False)
        if step.opname.startswith("CALL")
    }
    us, seen = os.getpid(), []

    def strike(frame, event, _):
        frame.f_trace_opcodes = True
        if event == "opcode" and frame.f_lasti in places and os.getpid() == us:
            seen.extend([frame.f_lineno] * (bool(blocked()) is within))
            if len(seen) == turn:
                raise Interrupt
        return strike

    previous = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # 3.12 must know of one before settrace
    sys.settrace(lambda frame, *_: strike if frame.f_code is function.__code__ else None)
    try:
        yield
    finally:
        sys.settrace(previous)


@pytest.mark.parametrize(
    ("method", "turn"), [("fork", 1), ("fork", 2), ("fork", 3), ("fork", 4), ("exec", 1)]
)
def test_a_handler_that_raises_in_restart_leaves_no_signal_blocked(pool, method, turn):
    one = pool(1, start_method=method)
    with struck(getattr(boot, f"_{method}"), turn), pytest.raises(Interrupt):
        one.restart()
    assert blocked() == set()
    assert one.apply(square, (2,)) == 4
    one.restart()
    assert one.apply(square, (3,)) == 9


@pytest.mark.parametrize("method", ["fork", "exec"])
def test_a_handler_that_raises_before_or_after_loses_no_descriptor(pool, method):
    one = pool(1, start_method=method)
    for turn in range(1, 100):
        try:
            with struck(getattr(boot, f"_{method}"), turn, within=False):
                one.restart()
        except Interrupt:
            continue
        break
    assert 5 < turn < 99
    assert one.apply(square, (3,)) == 9
