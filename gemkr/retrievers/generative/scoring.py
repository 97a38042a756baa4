"""Ways of ranking documents by clues, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gemkr.errors import ConfigError
from gemkr.retrievers.generative.clue_documents import ClueDocuments
from gemkr.retrievers.generative.coverage import CoverageScorer
from gemkr.retrievers.generative.random_document import RandomDocumentScorer
from gemkr.retrievers.generative.reference import ReferenceScorer
from gemkr.retrievers.generative.seal import SealScorer
from gemkr.types import Clue, Hit, Query


class ClueScorer(Protocol):
    """One way of ranking documents by clues; hits come best first, scores do not rise."""

    def rank(self, query: Query, clues: Sequence[Clue], k: int) -> tuple[Hit, ...]: ...


METHODS = {
    "coverage": CoverageScorer,
    "seal": SealScorer,
    "reference": ReferenceScorer,
    "random_document": RandomDocumentScorer,
}


def scorer_of(lookup: ClueDocuments) -> ClueScorer:
    """The scorer that the lookup's `settings.method` names; ConfigError for an unknown name."""
    method = lookup.settings.method
    if method not in METHODS:
        raise ConfigError(f"the scoring method {method!r} is unknown; known are {', '.join(METHODS)}")
    return METHODS[method](lookup)
