"""What this pool does better than Celery's own: one test for each item of the table in
docs/celery.md, whose docstring is the item, in the words of who sees it.

`make test-celery` asks this pool, `make test-celery POOL=stock` Celery's; `make celery-better` asks
both and writes the table. What Celery's own passes is struck from it.

    conftest.py   workers to ask, and what is kept of each answer
    tasks.py      what they are asked to do
    test_*.py     the items, by topic
    table.py      what both have said, and the table
"""
