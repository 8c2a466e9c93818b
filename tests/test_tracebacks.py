"""Real traceback objects, where tblib is installed; and without it all that there was before."""

from __future__ import annotations

import builtins
import copyreg
import gc
import linecache
import pickle
import sys
import threading
import traceback
import weakref

import pytest

import prefork
from helpers import fail, square
from prefork import codec, tracebacks
from scripts import run_script


class Custom(Exception):
    pass


class Unpicklable(Exception):
    def __init__(self):
        super().__init__(threading.Lock())


class BreaksElsewhere(Exception):
    """It pickles, and does not unpickle."""

    def __reduce__(self):
        return int, ("none",)


def inner(kind):
    raise kind("the cause") if kind is KeyError else kind()


def outer(kind=Custom, above=ValueError):
    try:
        inner(kind)
    except Exception as error:
        raise above("the effect") from error


def fail_while_handling():
    try:
        inner(KeyError)
    except KeyError:
        fail("the effect")


def fail_and_hide():
    try:
        inner(KeyError)
    except KeyError:
        raise ValueError("the effect") from None


def recurse(depth):
    return recurse(depth - 1) if depth else fail("deep down")


def leave():
    raise SystemExit("of a task")


def raise_unpicklable():
    raise Unpicklable


def raise_chain_in_a_circle():
    try:
        inner(KeyError)
    except KeyError as error:
        effect = ValueError("the effect")
        error.__cause__ = effect
        raise effect from error


def names(error):
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


def shown(error):
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))


# ---- with it -------------------------------------------------------------------------------------


@pytest.mark.parametrize("start_method", ["fork", "exec"])
def test_an_exception_has_the_frames_of_the_worker(pool, start_method):
    error = pool(1, start_method=start_method).apply_async(outer).exception()
    assert names(error) == ["outer"]  # and none of those that called the task
    (frame,) = traceback.extract_tb(error.__traceback__)
    assert frame.filename == outer.__code__.co_filename
    assert frame.line == 'raise above("the effect") from error'
    assert isinstance(error.__cause__, prefork.RemoteError)
    assert "in outer" in str(error.__cause__) and "Custom" in str(error.__cause__)


def test_the_frames_here_come_first_and_those_of_the_worker_last(pool):
    with pytest.raises(ValueError) as caught:
        pool(1).apply(recurse, (3,))
    found = names(caught.value)
    assert found[0] == "test_the_frames_here_come_first_and_those_of_the_worker_last"
    assert found[-5:] == ["recurse"] * 4 + ["fail"]
    assert caught.traceback[-1].frame.code.name == "fail"  # what pytest shows


def test_a_debugger_finds_the_frame_that_raised(pool):
    import pdb

    error = pool(1).apply_async(recurse, (1,)).exception()
    debugger = pdb.Pdb()
    debugger.reset()
    stack, _ = debugger.get_stack(None, error.__traceback__)
    assert [frame.f_code.co_name for frame, _ in stack] == ["recurse", "recurse", "fail"]
    frame, line = stack[-1]
    assert "raise ValueError(message)" in linecache.getline(frame.f_code.co_filename, line)


def test_what_is_shown_says_everything_once_as_text_and_its_own_frames_again(pool):
    text = shown(pool(1).apply_async(outer, (KeyError,)).exception())
    assert text.count("KeyError: 'the cause'") == 1
    assert text.count("ValueError: the effect") == 2
    assert text.index("RemoteError") < text.rindex("direct cause") < text.rindex("in outer")
    assert "tblib" not in text and "__generator__" not in text


@pytest.mark.parametrize("target", [outer, fail_while_handling])
def test_what_it_came_from_has_frames_too(pool, target):
    args = (KeyError,) if target is outer else ()
    error = pool(1).apply_async(target, args).exception()
    origin = error.__context__
    assert type(origin) is KeyError and origin.args == ("the cause",)
    assert names(origin) == [target.__name__, "inner"]
    assert origin.__cause__ is None and origin.__context__ is None


def three_levels():
    try:
        outer(KeyError)
    except ValueError:
        raise Custom("at the top")


def test_a_chain_keeps_its_links(pool):
    error = pool(1).apply_async(three_levels).exception()
    middle = error.__context__
    assert (type(middle), names(middle)) == (ValueError, ["three_levels", "outer"])
    assert type(middle.__cause__) is KeyError and names(middle.__cause__) == ["outer", "inner"]


def test_what_the_task_hides_stays_hidden(pool):
    error = pool(1).apply_async(fail_and_hide).exception()
    assert error.__context__ is None and names(error) == ["fail_and_hide"]


def test_what_it_came_from_need_not_pickle(pool):
    one = pool(1)
    for kind in (Unpicklable, BreaksElsewhere):
        error = one.apply_async(outer, (kind,)).exception()
        assert (type(error), names(error), error.__context__) == (ValueError, ["outer"], None)
        assert kind.__name__ in str(error.__cause__)


def test_a_circle_ends(pool):
    error = pool(1).apply_async(raise_chain_in_a_circle).exception()
    assert type(error.__context__) is KeyError
    assert error.__context__.__cause__ is None


@pytest.mark.parametrize(("target", "args"), [(leave, ()), (raise_unpicklable, ())])
def test_an_error_in_the_place_of_another_has_its_frames(pool, target, args):
    error = pool(1).apply_async(target, args).exception()
    assert type(error) is prefork.RemoteError
    assert names(error) == [target.__name__]
    assert error.__cause__ is None


def test_only_the_innermost_frames_of_many_are_brought(pool):
    error = pool(1).apply_async(recurse, (500,)).exception()
    assert names(error) == ["recurse"] * (tracebacks.MOST_FRAMES - 1) + ["fail"]
    error = pool(1).apply_async(recurse, (10**6,)).exception()
    assert type(error) is RecursionError
    assert names(error) == ["recurse"] * tracebacks.MOST_FRAMES


def raise_group(count):
    errors = []
    for number in range(count):
        try:
            outer(KeyError)
        except ValueError as error:
            error.number = number
            errors.append(error)
    group = builtins.ExceptionGroup("some", [errors[0], builtins.ExceptionGroup("of", errors[1:])])
    raise group


@pytest.mark.skipif(sys.version_info < (3, 11), reason="there are no groups")
def test_members_of_a_group_have_frames(pool):
    group = pool(1).apply_async(raise_group, (3,)).exception()
    assert names(group) == ["raise_group"]
    first, rest = group.exceptions
    for number, member in enumerate((first, *rest.exceptions)):
        assert member.number == number
        assert names(member) == ["raise_group", "outer"]
        assert names(member.__cause__) == ["outer", "inner"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="there are no groups")
def test_a_large_group_brings_frames_for_some_and_arrives(pool):
    group = pool(1).apply_async(raise_group, (5000,)).exception()
    members = group.exceptions[1].exceptions
    assert len(members) == 4999
    having = [bool(names(member)) for member in members]
    assert having[0] and not having[-1] and sum(having) < tracebacks.MOST_EXCEPTIONS


def test_each_item_of_a_map_has_frames(pool):
    with pytest.raises(ValueError) as caught:
        pool(2).map(outer, [Custom] * 6, chunksize=3)
    assert names(caught.value)[-1] == "outer"


def broken_initializer():
    raise KeyError("broken")


def test_what_an_initializer_raised_has_frames(pool):
    error = pool(1, initializer=broken_initializer).apply_async(square, (1,)).exception()
    assert names(error.__cause__) == ["broken_initializer"]


def test_nobody_elses_pickling_is_changed(pool):
    before = dict(copyreg.dispatch_table)
    error = pool(1).apply_async(outer).exception()
    assert error.__traceback__ is not None
    assert copyreg.dispatch_table == before
    assert pickle.loads(pickle.dumps(error)).__traceback__ is None


class Large:
    pass


def test_an_exception_keeps_nothing_of_who_waited_for_it(pool):
    one = pool(1)

    def wait():
        large = Large()
        return one.apply_async(outer).exception(), weakref.ref(large)

    error, large = wait()
    gc.collect()
    assert names(error) == ["outer"]
    assert large() is None
    frame, seen = error.__traceback__.tb_frame, []
    while frame is not None:
        seen.append(frame.f_code.co_filename)
        frame = frame.f_back
    assert __file__ not in seen[1:]


# ---- when it fails, or is not there --------------------------------------------------------------


class Broken:
    def __getattr__(self, name):
        raise OSError(name)


def encoded(target=outer):
    try:
        target()
    except Exception as error:
        return codec.encode_exception(error)


def test_a_failure_of_tblib_costs_nothing(monkeypatch):
    data = encoded()
    monkeypatch.setattr(tracebacks, "_tblib", Broken)
    for sent in (data, encoded()):
        error = codec.decode_exception(sent)
        assert (type(error), str(error)) == (ValueError, "the effect")
        assert error.__traceback__ is None and "in outer" in str(error.__cause__)


def test_frames_that_cannot_be_read_cost_nothing():
    pickled, name, text, _ = pickle.loads(encoded())
    for frames in (b"", b"nonsense", pickle.dumps(None), pickle.dumps(({}, None, []))):
        error = codec.decode_exception(pickle.dumps((pickled, name, text, frames)))
        assert (type(error), str(error)) == (ValueError, "the effect")
        assert str(error.__cause__) == text


WITHOUT = """
    import os, sys, traceback
    from prefork import RemoteError, TaskPool

    def forbid():
        sys.modules["tblib"] = None  # its import is an ImportError now

    def fail():
        try:
            {}["the cause"]
        except KeyError as error:
            raise ValueError("the effect") from error

    def look():
        return sys.modules.get("tblib") is not None

    if __name__ == "__main__":
        where, method = sys.argv[1:]
        if where != "worker":
            forbid()
        with TaskPool(1, initializer=forbid if where != "application" else None,
                      start_method=method) as pool:
            error = pool.apply_async(fail).exception()
            print(pool.apply(look))
        assert (type(error), str(error)) == (ValueError, "the effect")
        assert type(error.__cause__) is RemoteError
        assert "in fail" in str(error.__cause__) and "the cause" in str(error.__cause__)
        print(error.__traceback__, error.__context__)
"""


@pytest.mark.parametrize(
    ("where", "method", "imported"),
    [
        ("both", "fork", False),
        ("worker", "fork", False),
        ("worker", "exec", False),
        ("application", "exec", True),
    ],
)
def test_without_tblib_there_is_the_text(tmp_path, where, method, imported):
    done = run_script(tmp_path, WITHOUT, where, method)
    assert done.stdout == f"{imported}\nNone None\n", done.stderr


LAZY = """
    import sys
    from prefork import TaskPool

    def look():
        return "tblib" in sys.modules

    def fail():
        raise ValueError

    with TaskPool(1) as pool:
        print(pool.apply(look), "tblib" in sys.modules)
        pool.apply_async(fail).exception()
        print(pool.apply(look), "tblib" in sys.modules)
"""


def test_tblib_is_imported_by_the_first_exception(tmp_path):
    done = run_script(tmp_path, LAZY)
    assert done.stdout == "False False\nTrue True\n", done.stderr
