"""Answers over shards some of which may be lost on the way: each comes from one share of the corpus, and says which."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from gemkr.errors import GemkrError
from gemkr.interfaces import TokenIndex, TokenVectorIndex, VectorIndex
from gemkr.types import Ranking


def from_one_share(
    index: TokenIndex | VectorIndex | TokenVectorIndex, answer: Callable[[], Iterator[Ranking]]
) -> Iterator[Ranking]:
    """What `answer()` yields. Where a shard of `index` is lost meanwhile and partial answers are wanted, all of it is asked for
    again, so that no answer mixes two states of the corpus; ShardError where they are not wanted, or none is left."""
    lost = getattr(index, "lost", None)
    if lost is None:
        yield from answer()
        return
    while True:
        before = len(lost)
        try:
            rankings = list(answer())
        except GemkrError:
            if len(lost) == before:
                raise
            continue
        if len(lost) == before:
            break
    yield from (replace(ranking, searched=index.searched) for ranking in rankings)
