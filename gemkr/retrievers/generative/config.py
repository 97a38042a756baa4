"""Settings of ranking documents by clues."""

from __future__ import annotations

from dataclasses import dataclass

from gemkr.config.ranges import Positive, Power


@dataclass(frozen=True)
class ScoringConfig:
    """From clues to documents: reference | coverage | seal, and the second scorer inside a span: bm25 | learned |
    learned+bm25 | random | occurrences.

    With `whole_words` a document counts for a clue only where a word ends with it: `ski` is not in `skiing`.
    """

    method: str = "coverage"
    inside_span: str = "bm25"
    discount: float = 0.3
    second_weight: float = 0.1
    documents_per_clue: Positive = 100
    rows_per_clue: Positive = 50_000
    whole_words: bool = False
    alpha: Power = 2.0
    beta: float = 0.8
