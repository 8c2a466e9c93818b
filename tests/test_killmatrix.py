"""The kill matrix as data: every clause has a row, and every row says what it is for."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from killmatrix import failures, mutants, record, rivals, table
from killmatrix.clauses import CLAUSES
from killmatrix.kinds import KINDS
from killmatrix.loglines import LOG_LINES, is_known
from killmatrix.pools import Prefork
from killmatrix.row import FAILING, TOPICS, all_rows

ROOT = Path(__file__).parents[1]
ROWS = list(all_rows().values())


def test_every_clause_has_a_row_and_every_row_a_clause():
    assert {row.clause for row in all_rows().values()} == set(CLAUSES)


def test_rows_are_well_formed():
    for name, row in all_rows().items():
        assert name == row.name and row.topic in TOPICS
        assert row.after in ("at full strength", "ended", "none")
        assert set(row.needs) <= Prefork.features & set(rivals.WHY_NOT)
        assert set(FAILING) <= set(all_rows())
        assert str(row.expect)


# ---- docs/failures.md ----------------------------------------------------------------------------


def test_the_document_of_failures_says_what_the_rows_have_said():
    """`make failures` writes it; a new row alone: `python -m killmatrix ROW`, then `--failures`."""
    text = (ROOT / "docs" / "failures.md").read_text()
    assert text == failures.full(ROWS, record.load(record.ENDS))


def test_every_row_has_its_place_among_the_failures():
    text = (ROOT / "docs" / "failures.md").read_text()
    assert [row.name for row in ROWS if text.count(f"`{row.name}`") != 1] == []


def test_every_error_that_was_seen_is_of_one_kind():
    unclear, seen = [], set()
    for name, said in record.load(record.ENDS).items():
        for error in said["errors"]:
            kinds = [kind.title for kind in KINDS if kind.fits(error)]
            seen.update(kinds)
            if len(kinds) != 1:
                unclear.append((name, error["error"], error["message"], kinds))
    assert unclear == []
    assert {kind.title for kind in KINDS} == seen


def test_every_line_of_the_log_that_was_seen_is_explained():
    unclear = []
    for name, said in record.load(record.ENDS).items():
        for line in said["log"]:
            if not is_known(line):
                unclear.append((name, line))
    assert unclear == []


def test_every_line_that_the_library_logs_is_explained():
    """By some words that no value stands in."""
    known = "\n".join(line.text for line in LOG_LINES)
    for path in (ROOT / "python" / "prefork").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if level_of(node) in LEVELS:
                words = re.split(r"%[drs]", ast.literal_eval(node.args[0]))
                assert any(len(w) > 8 and w.strip()[:25] in known for w in words), words


LEVELS = ("info", "warning", "error", "exception")


def level_of(node):
    """Of a call of a logger."""
    call = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args
    return node.func.attr if call and "logger" in ast.unparse(node.func.value) else ""


# ---- what each row is worth ----------------------------------------------------------------------


def test_every_row_fails_against_a_rival_or_a_mutant_of_ours():
    """`make killmatrix` and `make killmatrix MUTANTS=1` see to it that both lists are true."""
    verdicts, _ = record.verdicts()
    assert table.uncaught(ROWS, verdicts) == []


def test_the_tables_say_what_the_last_runs_have_shown():
    verdicts, versions = record.verdicts()
    assert (ROOT / "docs" / "killmatrix.md").read_text() == table.full(ROWS, verdicts, versions)
    assert table.summary(ROWS, verdicts, versions) in (ROOT / "README.md").read_text()


def test_every_mutant_can_be_made_and_names_rows():
    for mutant in mutants.MUTANTS:
        mutants.edited((ROOT / mutant.path).read_text(), mutant)
        assert mutant.rows and set(mutant.rows) <= set(all_rows()), mutant.name


def test_mutants_have_names_of_their_own():
    names = [mutant.name for mutant in mutants.MUTANTS]
    assert len(names) == len(set(names))
