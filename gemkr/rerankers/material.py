"""Training material of rerankers that ask a language model: LamRA's three kinds of samples, drawn from a run over the queries.

Which samples there are follows from the files and the seed alone. Knows no weights.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gemkr.data.documents import DocumentStore
from gemkr.data.queries import read_queries
from gemkr.data.runs import load_run
from gemkr.errors import ConfigError, DataError
from gemkr.rerankers.candidates import Candidate, candidate_of
from gemkr.rerankers.config import SAMPLES, RerankConfig
from gemkr.training.contrastive.negatives import hard_negatives
from gemkr.types import Query

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RerankSample:
    """A query, the documents that it is asked about (numbers), and the right answer: for `listwise` a place among them, counted
    from 0, else 0."""

    kind: str
    query_id: str
    docs: tuple[int, ...]
    place: int = 0


Build = Callable[[Query, Sequence[Candidate], int], Any]
"""(query, what is shown of the documents, place of the right one) -> prompt and answer."""


@dataclass(frozen=True)
class RerankDataset:
    """Sample i is an example for the model: the prompt that reranking would show, and the answer to it. `builds`: by kind;
    `pictures`: those of documents are shown; `tidied`: their texts are."""

    queries: Mapping[str, Query]
    samples: Sequence[RerankSample]
    documents: DocumentStore
    builds: Mapping[str, Build]
    pictures: bool = False
    tidied: bool = False

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, number: int) -> Any:
        sample = self.samples[number]
        query = self.queries[sample.query_id]
        return self.builds[sample.kind](query, self.shown(sample), sample.place)

    def shown(self, sample: RerankSample) -> list[Candidate]:
        """What is shown of a sample's documents; DataError for one of which nothing can be read."""
        query = self.queries[sample.query_id]
        return [
            candidate_of(
                query, self.documents[doc], "of the training data", pictures=self.pictures, tidied=self.tidied
            )
            for doc in sample.docs
        ]

    def lengths(self) -> np.ndarray:
        """int64[n]: each sample's rough length, good enough to sort by: characters, four a token."""
        asked = {key: len(query.question) for key, query in self.queries.items()}
        texts = {doc: len(self.documents[doc].contents) for sample in self.samples for doc in sample.docs}
        found = [asked[s.query_id] + sum(texts[doc] for doc in s.docs) for s in self.samples]
        return np.array(found, np.int64) // 4

    def groups(self) -> np.ndarray:
        """int64[n]: a number for each sample's query."""
        numbers = {key: number for number, key in enumerate(self.queries)}
        return np.array([numbers[sample.query_id] for sample in self.samples], np.int64)


def read_material(
    config: RerankConfig, seed: int, builds: Mapping[str, Build], *, pictures: bool = False
) -> RerankDataset:
    """The samples of the queries that have positives, in the order of their file; with `pictures`, those of documents are shown.

    A query without a hard negative in the run is asked about its positives only. ConfigError for an unknown kind of sample;
    DataError when nothing is left, for a positive or hit that is not in the corpus, and for a document of which nothing can be read.
    """
    unknown = [kind for kind in config.samples if kind not in SAMPLES]
    if unknown or not config.samples:
        raise ConfigError(
            f"rerank.samples has the unknown kind {unknown[0]!r}; there are {', '.join(SAMPLES)}"
            if unknown
            else f"rerank.samples names no kind of sample; name some of {', '.join(SAMPLES)}"
        )
    queries = list(read_queries(config.queries))
    known = {query.query_id: query for query in queries if query.positives}
    if not known:
        raise DataError(
            f"{config.queries}: no query has positives, so that there is nothing to learn; add them"
        )
    documents, run = DocumentStore.open(config.corpus), load_run(config.run, queries, ties="file")
    samples, bare = [], 0
    for query in known.values():
        hits = hard_negatives(run.get(query.query_id, ()), frozenset(query.positives), config)
        negatives = [_number(documents, hit.doc_id, config.run, config) for hit in hits]
        positives = dict.fromkeys(_number(documents, p, config.queries, config) for p in query.positives)
        bare += not negatives
        for positive in positives:
            for draw in range(config.draws):
                rng = random.Random(f"{seed} {draw} {documents.doc_ids[positive]} {query.query_id}")
                samples += _draw(query.query_id, positive, negatives, config, rng)
    if bare == len(known):
        raise DataError(
            f"{config.run} has no hard negative for any of the {len(known)} queries with positives of {config.queries} under "
            f"rerank.skip {config.skip}, depth {config.depth} and below {config.below}; use a run over these queries, or other limits"
        )
    if bare:
        logger.warning("%d of %d queries have no hard negatives in %s", bare, len(known), config.run)
    dataset = RerankDataset(known, samples, documents, builds, pictures, config.tidy)
    for sample in samples:
        dataset.shown(sample)
    return dataset


def _number(documents: DocumentStore, doc_id: str, where: str, config: RerankConfig) -> int:
    if doc_id not in documents:
        raise DataError(
            f"{where} names the document {doc_id!r}, which the corpus {config.corpus} does not hold; give the corpus that it was "
            "made for"
        )
    return documents.number(doc_id)


def _draw(
    query_id: str, positive: int, negatives: Sequence[int], config: RerankConfig, rng: random.Random
) -> Iterator[RerankSample]:
    """The samples of one positive; those that need negatives only where there are some."""
    for kind in config.samples:
        if kind == "yes":
            yield RerankSample(kind, query_id, (positive,))
        elif negatives and kind == "no":
            yield RerankSample(kind, query_id, (rng.choice(negatives),))
        elif negatives:
            others = rng.sample(negatives, min(rng.randint(1, config.list_size - 1), len(negatives)))
            place = rng.randint(0, len(others))
            yield RerankSample(kind, query_id, (*others[:place], positive, *others[place:]), place)
