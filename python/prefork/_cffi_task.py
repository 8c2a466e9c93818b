"""A task on its plain way: what it is, and its value. The same in C: _cython_task.pxi."""

from __future__ import annotations

from concurrent.futures._base import FINISHED, PENDING
from typing import TYPE_CHECKING, Any

from . import plain

if TYPE_CHECKING:
    from .submitting import Submitting


class TaskState:
    __slots__ = (
        "_accepted_by", "_correlation_id", "_data", "_exception", "_is_plain", "_limit", "_name",
        "_number", "_pool", "_result", "_slot", "_state",
    )  # fmt: skip

    def __init__(
        self, pool: Submitting, name: str, correlation_id: str | None, limit: float | None = None
    ) -> None:
        self._pool = pool
        self._name = name
        self._correlation_id = correlation_id
        self._limit = limit
        self._state: str = PENDING
        self._is_plain = True
        self._data: bytes | None = None
        self._result: Any = None
        self._exception: BaseException | None = None
        self._slot: list[bool] | None = None
        self._number = 0
        self._accepted_by = 0

    def has_value(self) -> bool:
        # First: who settles it puts the bytes there, and clears _result then.
        if self._state != FINISHED:
            return False
        data = self._data
        if data is None:
            return self._exception is None
        if not plain.is_result(data):
            return False
        try:
            self._result = plain.decode_result(data)
        except Exception:  # task.py says why there is none
            return False
        self._data = None
        return True
