"""Looking on while a retriever writes clues: to show them as they grow, and to stop what nobody waits for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from gemkr.interfaces import GrowingClue, Retriever, Watch
from gemkr.types import Query

if TYPE_CHECKING:
    from gemkr.decoding.search import QuerySearch

SearchWatch = Callable[[int, "QuerySearch"], bool]
"""Called with the number of a prompt and its search after each step; False stops that search."""


class Decoder(Protocol):
    """The part of a tokenizer that shows tokens."""

    def decode(self, ids: Iterable[int]) -> str: ...


def watched(retriever: Retriever, watch: Watch) -> Retriever:
    """The retriever, looked at; itself where it writes no clues."""
    make: Callable[[Watch], Retriever] | None = getattr(retriever, "watched", None)
    return retriever if make is None else make(watch)


def search_watch(watch: Watch | None, queries: Sequence[Query], tokenizer: Decoder) -> SearchWatch | None:
    """What beam search over the prompts of `queries` calls; None where nobody looks."""
    if watch is None:
        return None

    def look(number: int, search: QuerySearch) -> bool:
        def growing() -> list[GrowingClue]:
            return [
                GrowingClue(tokens, tokenizer.decode(tokens), log_prob, finished)
                for tokens, log_prob, finished in search.growing()
            ]

        return watch(queries[number], growing)

    return look
