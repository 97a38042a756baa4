"""Progress bars: frequent on a terminal, rare in a log."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")

TERMINAL_SECONDS = 0.2
LOG_SECONDS = 30.0


def progress_bar(iterable: Iterable[T] | None = None, desc: str = "", **settings: Any) -> tqdm[T]:
    """A tqdm bar on standard error: written five times a second on a terminal, twice a minute where nobody watches.

    `settings` are those of tqdm (`total`, `unit`, `disable`, ...).
    """
    seconds = TERMINAL_SECONDS if sys.stderr.isatty() else LOG_SECONDS
    return tqdm(iterable, desc, file=sys.stderr, mininterval=seconds, **settings)
