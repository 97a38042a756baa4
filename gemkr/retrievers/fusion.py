"""Reciprocal rank fusion: several rankings of the same queries made one.

Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods"
(SIGIR 2009). Knows ranks only, so that runs whose scores mean different things can be fused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gemkr.config.ranges import NotNegative, Positive
from gemkr.decoding.watch import watched
from gemkr.errors import ConfigError
from gemkr.interfaces import Allowed, Retriever, Watch
from gemkr.types import Hit, Query, Ranking, Run

if TYPE_CHECKING:
    from gemkr.sources import Sources

RRF_K = 60.0


def fuse_hits(lists: Sequence[Sequence[Hit]], limit: int, *, k: float = RRF_K) -> tuple[Hit, ...]:
    """The best `limit` documents by the sum of 1 / (k + rank) over the lists, ranks from 1.

    A document that a list repeats counts there once, at its best rank. Ties go to the earlier list, then to the
    better rank in it. Evidence is kept, that of the earlier list first.
    """
    scores: dict[str, float] = {}
    evidence: dict[str, tuple] = {}
    for hits in lists:
        ranks: dict[str, int] = {}
        for rank, hit in enumerate(hits, 1):
            if ranks.setdefault(hit.doc_id, rank) == rank:
                scores[hit.doc_id] = scores.get(hit.doc_id, 0.0) + 1.0 / (k + rank)
                evidence[hit.doc_id] = (*evidence.get(hit.doc_id, ()), *hit.evidence)
    best = sorted(scores.items(), key=lambda pair: -pair[1])[:limit]
    return tuple(Hit(doc_id, score, evidence[doc_id]) for doc_id, score in best)


def fuse_runs(
    runs: Sequence[Run], limit: int, *, depth: int | None = None, k: float = RRF_K
) -> Iterator[Ranking]:
    """One fused ranking for each query of any of the runs, in the order of first occurrence.

    Only the first `depth` documents of each list count. A run that lacks a query adds nothing to it.
    """
    for query_id in dict.fromkeys(query_id for run in runs for query_id in run):
        lists = [run.get(query_id, ())[:depth] for run in runs]
        yield Ranking(query_id, fuse_hits(lists, limit, k=k))


class FusionRetriever:
    """Several retrievers as one: each ranks `depth` documents (at least as many as are wanted), and the ranks are fused.

    Rankings keep the clues of all retrievers that write any.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Retrievers, by the names of their sections, fused by rank: `depth` documents of each, with the constant `rrf_k`."""

        of: tuple[str, ...]
        method: str = "rrf"
        depth: Positive = 100
        rrf_k: NotNegative = RRF_K

    def __init__(self, retrievers: Sequence[Retriever], *, depth: int, k: float = RRF_K) -> None:
        """Raises ConfigError for fewer than two retrievers."""
        if len(retrievers) < 2:
            raise ConfigError(
                f"fusion needs at least two retrievers, it was given {len(retrievers)}; name more"
            )
        self.retrievers = retrievers
        self.depth = depth
        self.k = k

    @classmethod
    def from_config(cls, config: Config, sources: Sources) -> FusionRetriever:
        """Over the retrievers that `of` names."""
        if config.method != "rrf":
            raise ConfigError(f"the fusion method {config.method!r} is unknown; known is rrf")
        if len(config.of) < 2:
            raise ConfigError(f"fusion needs at least two retrievers, of names {len(config.of)}; name more")
        return cls([sources.retriever(name) for name in config.of], depth=config.depth, k=config.rrf_k)

    @staticmethod
    def input_files(config: Config) -> dict[str, str | None]:
        """Nothing besides what the fused retrievers read."""
        return {}

    def watched(self, watch: Watch) -> FusionRetriever:
        """The same fusion, over the retrievers looked at."""
        return FusionRetriever(
            [watched(retriever, watch) for retriever in self.retrievers], depth=self.depth, k=self.k
        )

    def retrieve(self, queries: Iterable[Query], k: int, *, allowed: Allowed = None) -> Iterator[Ranking]:
        """One ranking of at most k hits per query, in order."""
        queries = list(queries)
        deep = max(k, self.depth)
        streams = [retriever.retrieve(queries, deep, allowed=allowed) for retriever in self.retrievers]
        for query, *rankings in zip(queries, *streams, strict=True):
            hits = fuse_hits([ranking.hits for ranking in rankings], k, k=self.k)
            clues = tuple(clue for ranking in rankings for clue in ranking.clues)
            yield Ranking(query.query_id, hits, clues, min(ranking.searched for ranking in rankings))
