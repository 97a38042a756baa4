"""Settings of the generative retriever."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from gemkr.config.paths import FilePath
from gemkr.config.ranges import Positive, Power
from gemkr.config.section import Section
from gemkr.decoding.config import DecodingConfig
from gemkr.models.writers.config import WriterConfig
from gemkr.scorers import SCORERS


def _bm25() -> Section:
    return SCORERS.read("bm25", "scoring: inside_span")


@dataclass(frozen=True)
class ScoringConfig:
    """From clues to documents: coverage | seal | reference | random_document, and the document scorer inside a clue's span;
    with `inside_span: null` the number of occurrences decides there. Under `decoding.end_at_word` a document counts for a clue
    only where a word ends with it: `ski` is not in `skiing`.
    """

    method: str = "coverage"
    inside_span: Annotated[Section | None, SCORERS] = field(default_factory=_bm25)
    discount: float = 0.3
    second_weight: float = 0.1
    documents_per_clue: Positive = 100
    rows_per_clue: Positive = 50_000
    alpha: Power = 2.0
    beta: float = 0.8

    @staticmethod
    def explain_unknown(key: str) -> str | None:
        """What became of a setting that ranking had before decoding."""
        return (
            "whole_words is no setting of scoring, but of decoding: write end_at_word there (true where length_penalty is 0)"
            if key == "whole_words"
            else None
        )


@dataclass(frozen=True, kw_only=True)
class GenerativeConfig:
    """A model that writes clues under an index, and how documents are ranked by them.

    `ensemble` are further models of the same tokenizer, whose probabilities of a clue are averaged with `model`'s; each reads
    the query in its own way. `form` requests a clue form (short, long) that the model was trained with.
    """

    index: FilePath
    model: WriterConfig
    ensemble: tuple[WriterConfig, ...] = ()
    decoding: DecodingConfig = DecodingConfig()
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    form: str | None = None
    max_prompt_tokens: Positive | None = None
