"""What a mutant is: the library made wrong in one place, and the rows that notice."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    name: str
    file: str  # below python/prefork, or of csrc
    old: str  # is there exactly once
    new: str
    breaks: str
    rows: tuple[str, ...]

    @property
    def path(self) -> str:
        return f"{'csrc' if self.file.endswith(('.c', '.h')) else 'python/prefork'}/{self.file}"

    @property
    def is_built(self) -> bool:
        """It takes a compiler."""
        return not self.file.endswith(".py")
