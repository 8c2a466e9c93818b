"""Arguments of the command: numbers within bounds."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any


def number(kind: type, least: float, most: float = float("inf")) -> Callable[[str], Any]:
    """For `type=`: an int or a float that is neither too small nor too large."""

    def convert(text: str) -> Any:
        value = kind(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is out of range")
        return value

    convert.__name__ = kind.__name__
    return convert
