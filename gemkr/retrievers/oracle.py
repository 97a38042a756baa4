"""A control: of another retriever's documents only those that hold an answer, what a perfect choice among them would be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gemkr.config.ranges import Positive
from gemkr.data.documents import DocumentStore
from gemkr.data.qrels import AnswerMatcher
from gemkr.interfaces import Allowed, Retriever
from gemkr.types import Query, Ranking

if TYPE_CHECKING:
    from gemkr.sources import Sources


class OracleRetriever:
    """The first k documents with an answer among the first `depth` of a retriever, in its order; none for a query without."""

    known_queries_only = True

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The retriever `of`, of whose first `depth` documents those that hold an answer (under `match`) are kept."""

        of: str
        depth: Positive = 200
        match: str = "word"

    def __init__(self, retriever: Retriever, documents: DocumentStore, *, depth: int, match: str) -> None:
        AnswerMatcher((), match)  # which raises for an unknown kind of match
        self.retriever, self.documents = retriever, documents
        self.depth, self.match = depth, match

    @classmethod
    def from_config(cls, config: Config, sources: Sources) -> OracleRetriever:
        """Over the retriever that `of` names."""
        return cls(sources.retriever(config.of), sources.documents, depth=config.depth, match=config.match)

    @staticmethod
    def input_files(config: Config) -> dict[str, str | None]:
        """Nothing beside what the retriever `of` reads."""
        return {}

    def retrieve(self, queries: Iterable[Query], k: int, *, allowed: Allowed = None) -> Iterator[Ranking]:
        """One ranking of at most k hits per query, in order."""
        queries = list(queries)
        rankings = self.retriever.retrieve(queries, self.depth, allowed=allowed)
        for query, ranking in zip(queries, rankings, strict=True):
            matcher = AnswerMatcher(query.answers, self.match)
            hits = [
                hit
                for hit in ranking.hits
                if matcher and matcher.matches(self.documents.by_id(hit.doc_id).contents)
            ]
            yield replace(ranking, hits=tuple(hits[:k]))
