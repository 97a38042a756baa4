"""A finished run as a retriever: rankings that this program or another one has written into a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gemkr.config.paths import FilePath
from gemkr.data.runs import load_run
from gemkr.errors import DataError
from gemkr.interfaces import Allowed
from gemkr.types import Query, Ranking, Run

if TYPE_CHECKING:
    from gemkr.sources import Sources


class SavedRetriever:
    """Gives each query the hits that a run holds for it; one that the run found nothing for gets none."""

    known_queries_only = True

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The file of a run: TREC, or run.jsonl with its evidence."""

        run: FilePath

    def __init__(self, run: Run) -> None:
        self.run = run

    @classmethod
    def from_config(cls, config: Config, sources: Sources) -> SavedRetriever:
        """DataError for a run that has none of the queries, or a document that the corpus lacks."""
        run = load_run(config.run, sources.queries, "file")
        _require_queries(run, sources.queries, config.run)
        for hits in run.values():
            for hit in hits:
                sources.documents.number(hit.doc_id)
        return cls(run)

    @staticmethod
    def input_files(config: Config) -> dict[str, str | None]:
        """The run."""
        return {"run": config.run}

    def retrieve(self, queries: Iterable[Query], k: int, *, allowed: Allowed = None) -> Iterator[Ranking]:
        """One ranking of at most k hits per query, in order."""
        for query in queries:
            hits = self.run.get(query.query_id, ())
            kept = [hit for hit in hits if allowed is None or hit.doc_id in allowed]
            yield Ranking(query.query_id, tuple(kept[:k]))


def _require_queries(run: Run, queries: Sequence[Query], path: str) -> None:
    if queries and not any(query.query_id in run for query in queries):
        raise DataError(
            f"the run {path} holds none of the {len(queries)} queries, such as {queries[0].query_id!r}; name a run over these"
        )
