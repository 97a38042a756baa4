"""Figures of the clues themselves: a metric of documents rewards answer strings wherever they come from.

Knows rankings and answers, nothing of how clues were written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gemkr.data.qrels import AnswerMatcher
from gemkr.types import Query, Ranking


@dataclass(frozen=True, slots=True)
class ClueFigures:
    """Means over queries, and over clues where it says so.

    `hold_answer`: share of clues whose text holds an answer; `any_holds`, `first_holds`: share of queries with such a
    clue, and whose most probable clue is one; `tokens`, `occurrences`: mean length and span of a clue.
    """

    per_query: float
    hold_answer: float
    any_holds: float
    first_holds: float
    tokens: float
    occurrences: float

    def __str__(self) -> str:
        written = f"{self.per_query:.1f} clues a query of {self.tokens:.1f} tokens with {self.occurrences:,.0f} occurrences"
        if not self.any_holds:
            return f"{written}; they name documents without holding an answer"
        return (
            f"{written}; {100 * self.hold_answer:.1f} % of the clues hold an answer, {100 * self.first_holds:.1f} % of the "
            f"first ones, {100 * self.any_holds:.1f} % of the queries have one that does"
        )


def clue_figures(rankings: Mapping[str, Ranking], queries: Iterable[Query], match: str) -> ClueFigures | None:
    """The figures over all queries with answers, under a kind of match; None when no clue was written for them."""
    shares: list[list[bool]] = []
    lengths: list[int] = []
    counts: list[int] = []
    for query in queries:
        matcher = AnswerMatcher(query.answers, match)
        if not matcher or query.query_id not in rankings:
            continue
        clues = sorted(rankings[query.query_id].clues, key=lambda clue: -clue.log_prob)
        shares.append([matcher.matches(clue.text) for clue in clues])
        lengths += [len(clue.tokens) for clue in clues]
        counts += [clue.occurrences for clue in clues]
    if not lengths:
        return None
    return ClueFigures(
        per_query=len(lengths) / len(shares),
        hold_answer=sum(map(sum, shares)) / len(lengths),
        any_holds=sum(map(any, shares)) / len(shares),
        first_holds=sum(share[0] for share in shares if share) / len(shares),
        tokens=sum(lengths) / len(lengths),
        occurrences=sum(counts) / len(counts),
    )
