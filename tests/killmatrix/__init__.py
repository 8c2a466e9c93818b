"""The kill matrix: everything that may befall a pool, as data, each row in a process of its own.

clauses.py   what is promised, clause by clause; what is still to come
row.py       what a row is: name, clause, expectation, scenario
rows_*.py    the rows, by topic
stage.py     what a scenario has in hand: a pool, tasks, gates, and the judgement at the end
pools.py     the adapter that a scenario sees of a pool, and prefork's
rivals.py    the same for other pools, and what they do not have
perform.py   one row in this process
runner.py    every row in its own, with a limit; what is left behind is a failure
heard.py     what a row makes the pool say: errors, lines of the log
record.py    what is kept of the last runs: verdicts.json, ends.json
table.py     README.md's and docs/killmatrix.md's tables
failures.py  docs/failures.md, of what was heard, kinds.py, loglines.py and guarantees.md
mutants.py   the library made wrong in one place (mutations*.py): some row notices

python -m killmatrix --list                       the rows
python -m killmatrix [ROW ...]                    prefork, strictly
python -m killmatrix --failures                   docs/failures.md, with what these runs have shown
python -m killmatrix --mutants [MUTANT ...]       whether the rows notice
python -m killmatrix --pool pebble [ROW ...]      another pool, by what any pool could keep
"""
