"""A measured process: one pool and one workload, a round for each line on stdin.

    python side.py '{"pool": ..., "workload": ..., "params": {...}}'

Says one line of JSON after each round: its costs, or why there are none.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from typing import Any

from ideal import ideal
from pools import POOLS, Cannot
from workloads import WORKLOADS


def tell(report: dict[str, Any]) -> None:
    os.write(sys.stdout.fileno(), json.dumps(report).encode() + b"\n")


def main() -> None:
    spec = json.loads(sys.argv[1])
    make = (POOLS | {"ideal": ideal})[spec["pool"]]
    rounds = WORKLOADS[spec["workload"]](make, **spec["params"])
    # Not through sys.stdin: its lock would be held whenever a pool forks out of a thread.
    while os.read(sys.stdin.fileno(), 1):
        try:
            report: dict[str, Any] = dict(next(rounds))
        except Cannot as reason:
            report = {"why": str(reason)}
        except Exception as error:
            traceback.print_exc()
            report = {"why": f"{type(error).__name__}: {error}"}
        tell(report)
    with contextlib.suppress(AttributeError):
        rounds.close()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
