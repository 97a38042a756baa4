"""Where the clues of a passage stand in its text, by their letters alone: no index and no tokenizer is asked."""

from __future__ import annotations

import re
from collections.abc import Iterable

from gemkr.text.normalize import normalize, normalize_with_offsets


def clue_place(text: str, clues: Iterable[str]) -> tuple[int, int] | None:
    """The characters [start, stop) of the first occurrence of the first clue that occurs, in any case, as a vocabulary may fold it.

    A clue that stands there as whole words goes before one that only stands inside a word. None where no clue occurs.
    """
    read, places = normalize_with_offsets(text)
    patterns = [re.escape(normal) for clue in clues if (normal := normalize(clue).strip())]
    for pattern in (*(rf"(?<!\w){pattern}(?!\w)" for pattern in patterns), *patterns):
        if place := re.search(pattern, read, re.IGNORECASE):
            start, stop = int(places[place.start()]), int(places[place.end()])
            return start, start + len(text[start:stop].rstrip())
    return None
