"""The kill matrix as data: every clause has a row, and every row says what it is for."""

from __future__ import annotations

from killmatrix import rivals
from killmatrix.clauses import CLAUSES, PENDING
from killmatrix.pools import Prefork
from killmatrix.row import FAILING, TOPICS, all_rows


def test_every_clause_has_a_row_and_every_row_a_clause():
    assert {row.clause for row in all_rows().values()} == set(CLAUSES)


def test_what_is_still_to_come_is_not_there():
    assert not set(PENDING) & set(CLAUSES)


def test_rows_are_well_formed():
    for name, row in all_rows().items():
        assert name == row.name and row.topic in TOPICS
        assert row.after in ("at full strength", "ended", "none")
        assert set(row.needs) <= Prefork.features & set(rivals.WHY_NOT)
        assert set(FAILING) <= set(all_rows())
        assert str(row.expect)
