"""Progress bars: lively on a terminal, now and then in a log."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")

LIVELY_SECONDS = 0.2
QUIET_SECONDS = 30.0


def progress_bar(iterable: Iterable[T] | None = None, desc: str = "", **settings: Any) -> tqdm[T]:
    """A tqdm bar on standard error: written five times a second on a terminal, twice a minute where nobody watches.

    `settings` are those of tqdm (`total`, `unit`, `disable`, ...).
    """
    seconds = LIVELY_SECONDS if sys.stderr.isatty() else QUIET_SECONDS
    return tqdm(iterable, desc, file=sys.stderr, mininterval=seconds, **settings)
