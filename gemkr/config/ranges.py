"""Numbers with bounds: part of the annotation of a setting, checked when a file is read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class Range:
    """The values that a number may have, ends included; part of the annotation of a setting."""

    least: float
    most: float = math.inf

    def __str__(self) -> str:
        return f"at least {self.least}" if self.most == math.inf else f"between {self.least} and {self.most}"


Natural = Annotated[int, Range(0)]
Positive = Annotated[int, Range(1)]
NotNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]
Exponent = Annotated[float, Range(-10, 10)]
"""Of numbers above 0: their powers are neither infinite nor 0."""
Power = Annotated[float, Range(0, 10)]
"""An exponent of numbers that may be 0."""
Seed = Annotated[int, Range(0, 2**32 - 1)]
"""What every random generator takes, also a seed made of it and the number of a step."""
