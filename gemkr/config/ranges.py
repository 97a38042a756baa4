"""Numbers with bounds: part of the annotation of a setting, checked when a file is read."""

from __future__ import annotations

import math
import typing
from dataclasses import dataclass
from typing import Annotated, Any

from gemkr.errors import ConfigError, GemkrError


@dataclass(frozen=True)
class Range:
    """The values that a number may have, ends included unless `open`; part of the annotation of a setting.

    Infinity is a value where `allows_infinity` is set.
    """

    least: float
    most: float = math.inf
    open: bool = False
    allows_infinity: bool = False

    def __contains__(self, number: float) -> bool:
        if self.open:
            return self.least < number < self.most
        return self.least <= number <= self.most

    def __str__(self) -> str:
        if self.most == math.inf:
            return f"{'above' if self.open else 'at least'} {self.least}"
        return f"between {self.least} and {self.most}" + (", without both" if self.open else "")


def require_ranges(settings: Any, error: type[GemkrError] = ConfigError) -> None:
    """Raise `error` for the first number of a dataclass that its annotation does not allow (a section inside is not looked
    at): for settings that did not come from a file."""
    for name, hint in typing.get_type_hints(type(settings), include_extras=True).items():
        value = getattr(settings, name)
        for part in (hint, *typing.get_args(hint)):
            for allowed in getattr(part, "__metadata__", ()):
                if isinstance(allowed, Range) and value is not None and value not in allowed:
                    raise error(f"{name} must be {allowed}, it is {value!r}")


Natural = Annotated[int, Range(0)]
Positive = Annotated[int, Range(1)]
NotNegative = Annotated[float, Range(0)]
OrInfinite = Annotated[float, Range(0, allows_infinity=True)]
AboveZero = Annotated[float, Range(0, open=True)]
Share = Annotated[float, Range(0, 1)]
Decay = Annotated[float, Range(0, 1, open=True)]
"""Of a moving average: at 0 nothing would be averaged, at 1 nothing forgotten."""
Exponent = Annotated[float, Range(-10, 10)]
"""Of numbers above 0: their powers are neither infinite nor 0."""
Power = Annotated[float, Range(0, 10)]
"""An exponent of numbers that may be 0."""
Seed = Annotated[int, Range(0, 2**32 - 1)]
"""What every random generator takes, also a seed made of it and the number of a step."""
