"""The table in docs/celery.md, of what the pools have said."""

from . import table

table.write()
