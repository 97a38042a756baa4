"""Pointwise reranking: each hit gets a score of its own, mixed with that of retrieval."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import numpy as np

from gemkr.config.ranges import Share
from gemkr.config.section import Section, section_files
from gemkr.data.documents import DocumentStore
from gemkr.interfaces import DocumentScorer
from gemkr.scorers import SCORERS
from gemkr.scorers.blend import scaled
from gemkr.types import Query, Ranking

if TYPE_CHECKING:
    from gemkr.sources import Sources


class PointwiseReranker:
    """Orders hits by a document scorer.

    With `retrieval_weight` a > 0, a hit's score is a * retrieval + (1 - a) * scorer, both scaled to [0, 1] over the ranking, or as
    they come where not `scaled`; without, it is the scorer's own. Hits with equal scores keep their order. Costs the scorer's score of each hit.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Any document scorer; `retrieval_weight` is the share of the score that the hits come with, both scaled to [0, 1] over the
        ranking if `scaled`. LamRA's `cos + w * yes` orders hits as a weight of 1 / (1 + w) does, not scaled."""

        scorer: Annotated[Section, SCORERS]
        retrieval_weight: Share = 0.0
        scaled: bool = True

    def __init__(
        self,
        scorer: DocumentScorer,
        documents: DocumentStore,
        *,
        retrieval_weight: float = 0.0,
        scaled: bool = True,
    ) -> None:
        self.scorer, self.documents = scorer, documents
        self.retrieval_weight, self.scaled = retrieval_weight, scaled

    @classmethod
    def from_config(cls, config: Config, sources: Sources) -> PointwiseReranker:
        return cls(
            sources.part(config.scorer),
            sources.documents,
            retrieval_weight=config.retrieval_weight,
            scaled=config.scaled,
        )

    @staticmethod
    def input_files(config: Config) -> dict[str, str | None]:
        """What the scorer is read from."""
        return section_files(config.scorer)

    def rerank(self, query: Query, ranking: Ranking) -> Ranking:
        """The same hits in another order; DataError for a hit that is not in the corpus."""
        docs = np.array([self.documents.number(hit.doc_id) for hit in ranking.hits], np.int64)
        scores = self.scorer.score(query, docs)
        if self.retrieval_weight > 0:
            retrieval = np.array([hit.score for hit in ranking.hits], np.float32)
            scores = mixed(retrieval, scores, self.retrieval_weight, scale=self.scaled)
        order = np.argsort(-scores, kind="stable").tolist()
        hits = tuple(replace(ranking.hits[i], score=float(scores[i])) for i in order)
        return replace(ranking, hits=hits)


def mixed(retrieval: np.ndarray, scores: np.ndarray, weight: float, *, scale: bool = True) -> np.ndarray:
    """float32[n]: weight * retrieval + (1 - weight) * scores, both scaled to [0, 1] over these n hits if `scale`."""
    share = np.float32(weight)
    if scale:
        retrieval, scores = scaled(retrieval), scaled(scores)
    return share * retrieval + (1 - share) * scores
