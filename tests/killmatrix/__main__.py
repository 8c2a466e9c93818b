"""The command: `python -m killmatrix [--list] [--pool NAME] [--python PATH] [ROW ...]`."""

from __future__ import annotations

import argparse
import sys
import time

from . import runner
from .row import FAILING, TOPICS, Row, all_rows


def print_rows(rows: list[Row]) -> None:
    for topic, title in TOPICS.items():
        print(f"\n{title}")
        for one in rows:
            if one.topic == topic:
                print(f"  {one.name:34} {one.clause}: {one.expect}; the pool: {one.after}")
    print(f"\n{len(rows)} rows")


def main() -> int:
    parser = argparse.ArgumentParser(prog="killmatrix")
    parser.add_argument("rows", nargs="*", help="names of rows, or topics")
    parser.add_argument("--list", action="store_true", help="print the rows, run none")
    parser.add_argument("--pool", default="prefork")
    parser.add_argument("--python", default=sys.executable, help="the interpreter of rows")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--slowest", type=int, default=0, help="print so many of the slowest")
    given = parser.parse_args()
    rows = [r for r in all_rows().values()
            if not given.rows or any(part in (r.name, r.topic) for part in given.rows)]  # fmt: skip
    if given.list:
        print_rows(rows)
        return 0
    begun = time.monotonic()

    def heard(result: runner.Result) -> None:
        if result.passed:
            return
        known = result.pool == "prefork" and result.row in FAILING
        print(f"{'known' if known else 'FAILED'} {result.row}: {result.why}", flush=True)
        if known:
            return
        for line in result.details.strip().splitlines()[-40:]:
            print(f"    {line}", flush=True)

    results = runner.run_all(
        rows * given.times, given.pool, heard, given.jobs, python=given.python,
        strict=given.pool == "prefork",
    )  # fmt: skip
    passed = sum(result.passed for result in results)
    for slow in sorted(results, key=lambda r: -r.seconds)[: given.slowest]:
        print(f"{slow.seconds:6.1f} s  {slow.row}")
    print(f"{given.pool}: {passed} of {len(results)} rows, {time.monotonic() - begun:.0f} s")
    failed = {result.row for result in results if not result.passed}
    return given.pool != "prefork" or bool(failed - set(FAILING))


if __name__ == "__main__":
    sys.exit(main())
