"""Reranking as a retriever: another retriever's best documents, in the order of a reranker."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from gemkr.config.ranges import Positive
from gemkr.config.section import Section, section_files
from gemkr.decoding.watch import watched
from gemkr.interfaces import Allowed, Reranker, Retriever, Watch
from gemkr.rerankers import RERANKERS
from gemkr.types import Query, Ranking

if TYPE_CHECKING:
    from gemkr.sources import Sources


class RerankedRetriever:
    """Reranks the first `depth` hits of a retriever and keeps the best k, so a ranking has at most `depth` hits."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The retriever `of`, by the name of its section, whose first `depth` hits the reranker orders."""

        of: str
        reranker: Annotated[Section, RERANKERS]
        depth: Positive = 50

    def __init__(self, retriever: Retriever, reranker: Reranker, *, depth: int) -> None:
        self.retriever, self.reranker, self.depth = retriever, reranker, depth

    @classmethod
    def from_config(cls, config: Config, sources: Sources) -> RerankedRetriever:
        """Over the retriever that `of` names."""
        return cls(sources.retriever(config.of), sources.part(config.reranker), depth=config.depth)

    @staticmethod
    def input_files(config: Config) -> dict[str, str | None]:
        """What the reranker reads; the retriever's own files are added by composition."""
        return section_files(config.reranker)

    def watched(self, watch: Watch) -> RerankedRetriever:
        """The same reranking, over the retriever looked at."""
        return RerankedRetriever(watched(self.retriever, watch), self.reranker, depth=self.depth)

    def retrieve(self, queries: Iterable[Query], k: int, *, allowed: Allowed = None) -> Iterator[Ranking]:
        """One ranking of at most min(k, depth) hits per query, in order."""
        queries = list(queries)
        rankings = self.retriever.retrieve(queries, self.depth, allowed=allowed)
        for query, ranking in zip(queries, rankings, strict=True):
            reranked = self.reranker.rerank(query, ranking)
            yield replace(reranked, hits=reranked.hits[:k])
