"""The command `prefork`: `map` calls a function for many inputs, `inspect` looks into a pool."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from prefork import __version__

from .inspect import run as run_inspect
from .map import run as run_map
from .streams import prepare, shown

COMMANDS = {"map": run_map, "inspect": run_inspect}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` (default: the process's arguments); the exit status."""
    prepare()
    given = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        "prefork",
        usage="prefork [-h] [--version] {map,inspect} ...",
        description="A process pool that does not break, from the shell.",
        epilog="prefork map --help, prefork inspect --help: what each of them wants",
    )
    add = parser.add_argument
    add("--version", action="version", version=f"prefork {__version__}")
    add(
        "command",
        choices=COMMANDS,
        help="map: call a Python function for each input; "
        "inspect: what the workers of a running pool do, and did last",
    )
    try:
        return COMMANDS[parser.parse_args(given[:1]).command](given[1:])
    except SystemExit:  # from argparse, which may have written a help
        if sys.stdout is not None and not shown():
            return 2
        raise
