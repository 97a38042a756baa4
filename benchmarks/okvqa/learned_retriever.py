"""A document scorer as a retriever of its own: what it finds in a whole corpus, without a clue."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np

from gemkr.config.section import Section, section_files
from gemkr.data.documents import allowed_documents
from gemkr.interfaces import Allowed, DocumentScorer
from gemkr.scorers import SCORERS
from gemkr.types import Hit, Query, Ranking

if TYPE_CHECKING:
    from gemkr.sources import Sources


class ScorerRetriever:
    """Ranks all documents of a corpus by a document scorer."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """A document scorer over the whole corpus."""

        scorer: Annotated[Section, SCORERS]

    def __init__(self, scorer: DocumentScorer, doc_ids: Sequence[str]) -> None:
        """`doc_ids[i]` names document i of the scorer."""
        self.scorer, self.doc_ids = scorer, doc_ids

    @classmethod
    def from_config(cls, config: Config, sources: Sources) -> ScorerRetriever:
        """Over the corpus of the configuration."""
        return cls(sources.scorer(config.scorer), sources.documents.doc_ids)

    @staticmethod
    def input_files(config: Config) -> dict[str, str | None]:
        """What the scorer is read from."""
        return section_files(config.scorer)

    def retrieve(self, queries: Iterable[Query], k: int, *, allowed: Allowed = None) -> Iterator[Ranking]:
        """One ranking of at most k hits per query, in order; ties go to the smaller document number."""
        docs = np.arange(len(self.doc_ids))
        if allowed is not None:
            docs = docs[allowed_documents(self.doc_ids, allowed)]
        for query in queries:
            scores = self.scorer.score(query, docs)
            best = np.argsort(-scores, kind="stable")[:k]
            hits = zip(docs[best].tolist(), scores[best].tolist(), strict=True)
            yield Ranking(query.query_id, tuple(Hit(self.doc_ids[doc], score) for doc, score in hits))
