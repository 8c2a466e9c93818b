"""One row, in this process: `python -m killmatrix.perform ROW POOL DIRECTORY`.

What came of it goes into DIRECTORY/report: "passed", or why not. A row that hangs has the stacks of
all its threads in DIRECTORY/stacks.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import traceback
from pathlib import Path

from .pools import adapter
from .row import all_rows
from .runner import LIMIT
from .stage import Failure, Stage


def perform(name: str, pool: str, directory: Path) -> int:
    row = all_rows()[name]
    stacks = open(directory / "stacks", "w")  # noqa: SIM115
    faulthandler.dump_traceback_later(float(os.environ[LIMIT]), file=stacks)
    stage = Stage(row, adapter(pool), directory)
    try:
        row.scenario(stage)
        if row.after == "at full strength":
            stage.afterwards()
        elif row.after == "ended":
            stage.ended()
    except Failure as error:
        return say(directory, str(error))
    except BaseException as error:
        traceback.print_exc()
        return say(directory, f"{type(error).__name__}: {error}")
    stage.writes_down()
    return say(directory, "passed")


def say(directory: Path, what: str) -> int:
    (directory / "report").write_text(what.strip().split("\n")[0][:1000])
    return what != "passed"


def program(name: str, row: str, pool: str, directory: Path, *args: str) -> None:
    """An application that a row has launched; it has a stage, and may judge as a row does."""
    from . import programs

    faulthandler.dump_traceback_later(float(os.environ[LIMIT]))
    stage = Stage(all_rows()[row], adapter(pool), directory)
    getattr(programs, name)(stage, *args)
    stage.writes_down()


if __name__ == "__main__":
    if sys.argv[1] == "--program":
        program(*sys.argv[2:5], Path(sys.argv[5]), *sys.argv[6:])
    else:
        status = perform(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # what a broken pool does at exit is no row's matter
