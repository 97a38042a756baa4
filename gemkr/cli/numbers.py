"""Numbers of the command line: argparse types that refuse a value out of range as a usage error."""

from __future__ import annotations

import argparse
import math

LARGEST = 2**31 - 1


def positive(text: str) -> int:
    """A whole number from 1."""
    return _whole(text, 1)


def natural(text: str) -> int:
    """A whole number from 0."""
    return _whole(text, 0)


def share(text: str) -> float:
    """A number from 0 to 1."""
    value = not_negative(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"must be at most 1, it is {text}")
    return value


def not_negative(text: str) -> float:
    """A finite number from 0."""
    value = float(text)
    if not math.isfinite(value) or value < 0:
        raise argparse.ArgumentTypeError(f"must be a number of at least 0, it is {text}")
    return value


def positive_number(text: str) -> float:
    """A finite number above 0."""
    value = not_negative(text)
    if value == 0:
        raise argparse.ArgumentTypeError(f"must be above 0, it is {text}")
    return value


def _whole(text: str, least: int) -> int:
    value = int(text)
    if not least <= value <= LARGEST:
        bound = f"at least {least}" if value < least else f"at most {LARGEST}"
        raise argparse.ArgumentTypeError(f"must be {bound}, it is {value}")
    return value
