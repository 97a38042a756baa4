"""What a reader is shown of a passage: all of it, or the words around the clue that found it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from gemkr.text.clue_places import clue_place

MARK = "**"


def shown_text(text: str, clues: Iterable[str], window: int | None, mark: str = MARK) -> str:
    """The text itself without a `window`, or where none of the clues (likeliest first) occurs in it.

    Else up to `window` words on each side of the first clue that does, which stands between two `mark`s.
    """
    place = None if window is None else clue_place(text, clues)
    if place is None:
        return text
    start, stop = place
    before = [word.start() for word in re.finditer(r"\S+", text[:start])]
    after = [stop + word.end() for word in re.finditer(r"\S+", text[stop:])]
    first = before[-window] if len(before) > window else 0
    last = after[window - 1] if len(after) > window else len(text)
    return f"{text[first:start]}{mark}{text[start:stop]}{mark}{text[stop:last]}"
