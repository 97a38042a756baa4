"""Which segments of a collection are worth merging: size-tiered, as in log-structured stores.

Segments follow each other as their documents do, so only neighbours are merged. Where each is more than FACTOR times all after it,
n tokens lie in O(log n) segments, and a document is written anew O(log n) times. Knows sizes, not segments.
"""

from __future__ import annotations

from collections.abc import Sequence

FACTOR = 2
SMALL_TOKENS = 1 << 16
"""Segments up to this size are merged whatever follows."""
LARGEST_OF_ADD = 1 << 20
"""Tokens of a merge that adding does by itself; larger ones are for `compact`."""
MOST_DELETED = 1 / 3
"""The share of a segment's documents beyond which it is written anew without the deleted ones."""


def tail(tokens: Sequence[int], most: int | None = None, beside: Sequence[int] = ()) -> range:
    """The segments at the end that become one; fewer than two: none are to be merged.

    Their merge writes at most so many tokens, `beside` being what it writes anew beside each segment.
    """
    start = len(tokens) - 1
    size = tokens[-1] if tokens else 0
    while start > 0 and tokens[start - 1] <= max(FACTOR * size, SMALL_TOKENS):
        size += tokens[start - 1]
        if most is not None and size + (beside[start - 1] if beside else 0) > most:
            break
        start -= 1
    return range(max(start, 0), len(tokens))


def due(tokens: Sequence[int], documents: Sequence[int], deleted: Sequence[int]) -> range | None:
    """The neighbours to merge next, maybe one with many deleted documents; None where all is well."""
    last = tail(tokens)
    if len(last) > 1:
        return last
    for at, (count, gone) in enumerate(zip(documents, deleted, strict=True)):
        if gone > MOST_DELETED * count:
            return range(at, at + 1)
    return None
