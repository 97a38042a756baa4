"""What a file of training pairs holds: queries, their gold documents and hard negatives, as contrastive training takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gemkr.types import Document, Query


@dataclass(slots=True)
class TrainingPairs:
    """Queries with their `positives`, the documents of both kinds, and query id -> `doc_id` of its hard negative."""

    queries: list[Query] = field(default_factory=list)
    documents: dict[str, Document] = field(default_factory=dict)
    negatives: dict[str, str] = field(default_factory=dict)

    def run_lines(self) -> str:
        """The hard negatives as a TREC run, which `negatives.run` of a training takes."""
        return run_lines({query_id: (doc_id,) for query_id, doc_id in self.negatives.items()})


def run_lines(negatives: Mapping[str, Sequence[str]]) -> str:
    """A TREC run of query id -> `doc_id`s, best first."""
    return "".join(
        f"{query_id} Q0 {doc_id} {rank} {1 / rank} given\n"
        for query_id, listed in negatives.items()
        for rank, doc_id in enumerate(listed, 1)
    )
