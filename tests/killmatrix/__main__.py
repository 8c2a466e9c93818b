"""The command: `python -m killmatrix [--list] [--pool NAME] [--python PATH] [ROW ...]`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from . import compare, failures, mutants, record, runner, table
from .row import FAILING, TOPICS, Row, all_rows

ROOT = Path(__file__).parents[2]


def print_rows(rows: list[Row]) -> None:
    for topic, title in TOPICS.items():
        print(f"\n{title}")
        for one in rows:
            if one.topic == topic:
                print(f"  {one.name:34} {one.clause}: {one.expect}; the pool: {one.after}")
    print(f"\n{len(rows)} rows")


def write_tables(rows: list[Row], results: Path, python: str) -> int:
    """Whether a row is left that nothing fails: no rival, and no mutant of ours."""
    versions = compare.versions(python)
    verdicts = record.keep_verdicts(rows, compare.by_row(results), versions)
    table.write_readme(ROOT / "README.md", table.summary(rows, verdicts, versions))
    (ROOT / "docs" / "killmatrix.md").write_text(table.full(rows, verdicts, versions))
    unproved = table.uncaught(rows, verdicts)
    print(f"{len(unproved)} rows that neither a rival nor a mutant fails: {', '.join(unproved)}")
    return bool(unproved)


def write_failures(rows: list[Row], ends: Path, fresh: bool) -> int:
    """docs/failures.md, of what was kept and what the last runs have added to it."""
    said = record.keep_ends(rows, record.load(ends), fresh)
    (ROOT / "docs" / "failures.md").write_text(failures.full(rows, said))
    missing = [row.name for row in rows if row.name not in said]
    print(f"docs/failures.md: {len(said)} rows; never run: {', '.join(missing) or 'none'}")
    return bool(missing)


def main() -> int:
    parser = argparse.ArgumentParser(prog="killmatrix")
    parser.add_argument("rows", nargs="*", help="names of rows, or topics")
    parser.add_argument("--list", action="store_true", help="print the rows, run none")
    parser.add_argument("--pool", default="prefork")
    parser.add_argument("--python", default=sys.executable, help="the interpreter of rows")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--compare", action="store_true", help="run the other pools, save verdicts")
    parser.add_argument("--results", type=Path, default=Path("build/killmatrix.json"))
    parser.add_argument("--table", action="store_true", help="write README.md's and docs/'s tables")
    parser.add_argument("--failures", action="store_true", help="write docs/failures.md")
    parser.add_argument("--fresh", action="store_true", help="forget what rows said before")
    parser.add_argument("--slowest", type=int, default=0, help="print so many of the slowest")
    parser.add_argument("--mutants", action="store_true", help="try the mutants that are named")
    given = parser.parse_args()
    if given.mutants:
        return mutants.main(given.rows, given.jobs)
    rows = [
        r
        for r in all_rows().values()
        if not given.rows or any(part in (r.name, r.topic) for part in given.rows)
    ]
    if given.list:
        print_rows(rows)
        return 0
    if given.compare:
        only = given.pool if given.pool != "prefork" else ""
        compare.main(rows, given.results, given.python, only)
        return 0
    ends = given.results.with_name("ends.json")
    if given.table:
        return write_tables(list(all_rows().values()), given.results, given.python)
    if given.failures:
        return write_failures(list(all_rows().values()), ends, given.fresh)
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
        rows * given.times,
        given.pool,
        heard,
        given.jobs,
        python=given.python,
        strict=given.pool == "prefork",
    )
    passed = sum(result.passed for result in results)
    for slow in sorted(results, key=lambda r: -r.seconds)[: given.slowest]:
        print(f"{slow.seconds:6.1f} s  {slow.row}")
    print(f"{given.pool}: {passed} of {len(results)} rows, {time.monotonic() - begun:.0f} s")
    if given.pool == "prefork":
        verdicts = {r.row: [compare.PASSES if r.passed else compare.FAILS, r.why] for r in results}
        compare.save(given.results, given.pool, verdicts)
        record.save(ends, {**record.load(ends), **{r.row: r.said for r in results if r.passed}})
    failed = {result.row for result in results if not result.passed}
    return given.pool != "prefork" or bool(failed - set(FAILING))


if __name__ == "__main__":
    sys.exit(main())
