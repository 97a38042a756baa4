"""Pairs of a query and a document that answers it, with hard negatives, and the batches of a contrastive loss."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from gemkr.data.documents import DocumentStore
from gemkr.errors import DataError
from gemkr.models.embedder import Inputs, Reader
from gemkr.training.contrastive.config import EACH, FIRST, ONE, NegativesConfig
from gemkr.training.contrastive.draws import Draws, Pair, data_set
from gemkr.training.contrastive.gather import NONE
from gemkr.training.contrastive.negatives import hard_negatives
from gemkr.types import Document, Hit, Query


@dataclass(frozen=True)
class PairDataset:
    """Sample i is pair i with its documents; with `draws`, sample i of epoch e, whose number is e * len + i, is what is drawn of it
    then."""

    pairs: Sequence[Pair]
    documents: DocumentStore
    draws: Draws | None = None

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, number: int) -> tuple[Pair, list[Document]]:
        """The pair, and its target and negatives."""
        epoch, place = divmod(number, len(self.pairs))
        pair = self.pairs[place]
        if self.draws is not None:
            pair = self.draws.drawn(pair, self.documents, epoch, place)
        return pair, [self.documents[doc] for doc in (pair.target, *pair.negatives)]

    def lengths(self) -> np.ndarray:
        """int64[n]: rough lengths of the documents to find, in characters."""
        return np.array([len(self.documents[pair.target].text) for pair in self.pairs], np.int64)

    def groups(self) -> np.ndarray:
        """int64[n]: a number for each sample's query."""
        return _numbered([pair.query.query_id for pair in self.pairs])

    def data_sets(self) -> np.ndarray:
        """int64[n]: a number for each sample's data set: what stands before ":" in the query id, or else the instruction."""
        return _numbered([data_set(pair.query) for pair in self.pairs])


def _numbered(names: Sequence[Hashable]) -> np.ndarray:
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)


def make_pairs(
    queries: Sequence[Query],
    documents: DocumentStore,
    run: Mapping[str, Sequence[Hit]] | None,
    config: NegativesConfig | None,
    where: str,
    positives: str = EACH,
) -> list[Pair]:
    """A pair for each positive of each query, or with `positives` "one" a pair for each query, with its other positives as
    `others`; queries without one are passed over.

    DataError, which begins with `where`, for a positive or a hit that is not in the corpus, no positive at all, and no hard
    negative at all.
    """
    pairs = []
    for query in queries:
        absent = [doc_id for doc_id in query.positives if doc_id not in documents]
        if absent:
            raise DataError(
                f"{where}: the query {query.query_id!r} has the positive {absent[0]!r}, which the corpus does not hold; use the "
                "corpus that it was made for"
            )
        targets = tuple(dict.fromkeys(documents.number(doc_id) for doc_id in query.positives))
        hits = () if run is None else run.get(query.query_id, ())
        negatives = () if config is None else _negatives(query, hits, documents, config)
        made = [targets] if targets and positives == ONE else [(target,) for target in targets]
        pairs += [Pair(query, first, negatives, frozenset(targets), tuple(others)) for first, *others in made]
    if not pairs:
        raise DataError(f"{where}: no query has positives, so that there is nothing to learn; add them")
    if config is not None and not any(pair.negatives for pair in pairs):
        raise DataError(
            f"{config.run}: no query has a hard negative left under negatives.skip {config.skip}, depth {config.depth} and below "
            f"{config.below}; use a run over these queries, or other limits"
        )
    return pairs


def _negatives(
    query: Query, hits: Sequence[Hit], documents: DocumentStore, config: NegativesConfig
) -> tuple[int, ...]:
    numbers = {hit.doc_id: documents.number(hit.doc_id) for hit in hits}
    chosen = hard_negatives(hits, frozenset(query.positives), config)
    if config.draw == FIRST:
        chosen = chosen[: config.per_query]
    return tuple(numbers[hit.doc_id] for hit in chosen)


@dataclass(frozen=True)
class ContrastiveBatch:
    """B queries and the D distinct documents that they are to find or to keep away from, in chunks of inputs.

    `targets` int64[B] is each query's document, as a row of D. `numbers` int64[D] names the documents, `positives` int64[B, P] those
    that answer a query, filled up with NONE.
    """

    queries: tuple[Inputs, ...]
    documents: tuple[Inputs, ...]
    targets: Tensor
    numbers: Tensor
    positives: Tensor

    def target_count(self) -> int:
        """Over how many queries the loss is a mean."""
        return len(self.targets)

    def to(self, device: Any, non_blocking: bool = False) -> ContrastiveBatch:
        """The same batch on another device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> ContrastiveBatch:
        return self._map(torch.Tensor.pin_memory)

    def _map(self, change: Callable[[Tensor], Tensor]) -> ContrastiveBatch:
        def every(chunks: tuple[Inputs, ...]) -> tuple[Inputs, ...]:
            return tuple({name: change(tensor) for name, tensor in chunk.items()} for chunk in chunks)

        parts = (change(part) for part in (self.targets, self.numbers, self.positives))
        return ContrastiveBatch(every(self.queries), every(self.documents), *parts)


@dataclass(frozen=True)
class Collate:
    """Samples to a batch; a document that several queries share is read and encoded once."""

    reader: Reader
    chunk_size: int | None

    def __call__(self, samples: Sequence[tuple[Pair, list[Document]]]) -> ContrastiveBatch:
        places: dict[int, int] = {}
        documents: list[Document] = []
        for pair, its_documents in samples:
            for number, document in zip((pair.target, *pair.negatives), its_documents, strict=True):
                if places.setdefault(number, len(documents)) == len(documents):
                    documents.append(document)
        return ContrastiveBatch(
            self._chunks(self.reader.queries, [pair.query for pair, _ in samples]),
            self._chunks(self.reader.documents, documents),
            torch.tensor([places[pair.target] for pair, _ in samples]),
            torch.tensor(list(places)),
            pad_sequence(
                [torch.tensor(sorted(pair.positives)) for pair, _ in samples],
                batch_first=True,
                padding_value=NONE,
            ),
        )

    def _chunks(self, read: Callable[[Sequence[Any]], Inputs], items: Sequence[Any]) -> tuple[Inputs, ...]:
        size = self.chunk_size or len(items)
        return tuple(read(items[start : start + size]) for start in range(0, len(items), size))
