"""What is drawn anew for a query in every epoch, as UniIR and LamRA do: one of its positives, hard negatives, an instruction.

A function of seed, epoch and the number of the sample, so that a resumed run draws what an uninterrupted one does.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gemkr.data.documents import DocumentStore
from gemkr.data.mbeir import InstructionProvider, modality
from gemkr.errors import ConfigError
from gemkr.types import Query

DRAWN, FILLED = 1, 2
"""What tells these random numbers from those of the order of an epoch, and from one another."""


@dataclass(frozen=True)
class Pair:
    """A query with the numbers of the document to find and of the documents to keep away from, and of all that answer it; `others`
    may be found in place of `target`."""

    query: Query
    target: int
    negatives: tuple[int, ...]
    positives: frozenset[int]
    others: tuple[int, ...] = ()


@dataclass(frozen=True)
class Draws:
    """Which of its targets a query is given, and at most so many of its `negatives` (None: all); of `instructions`, one of the
    prompts for what it looks for."""

    seed: int
    negatives: int | None = None
    instructions: InstructionProvider | None = None
    where: str = ""

    def drawn(self, pair: Pair, documents: DocumentStore, epoch: int, number: int) -> Pair:
        """Sample `number` as it is in an epoch, without `others`."""
        rng = np.random.default_rng([self.seed, epoch, number, DRAWN])
        target = (pair.target, *pair.others)[rng.integers(1 + len(pair.others))]
        negatives, query = pair.negatives, pair.query
        if self.negatives is not None:
            kept = rng.permutation(len(negatives))[: self.negatives]
            negatives = tuple(negatives[place] for place in sorted(kept))
        if self.instructions is not None:
            prompts = self.instructions.prompts(query, modality(documents[target]), self.where)
            query = replace(query, instruction=prompts[rng.integers(len(prompts))])
        return replace(pair, query=query, target=target, negatives=negatives, others=())

    def require(self, pairs: Collection[Pair], documents: DocumentStore) -> None:
        """DataError, before the first step, for a query whose data set and modalities the instructions do not know."""
        if self.instructions is not None:
            for pair in pairs:
                for target in (pair.target, *pair.others):
                    self.instructions.prompts(pair.query, modality(documents[target]), self.where)


def data_set(query: Query) -> tuple[str, str]:
    """A query's data set: what stands before the first ":" in its id, or else its instruction."""
    name, colon, _ = query.query_id.partition(":")
    return (name, "") if colon else ("", query.instruction or "")


def filled(pairs: Sequence[Pair], least: Mapping[str, int], seed: int) -> list[Pair]:
    """The pairs, and more of the data sets that `least` names, drawn at random among their own, until each has so many.

    ConfigError for a data set of none of the pairs, and a number below 0.
    """
    by_set: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_set.setdefault(data_set(pair.query)[0], []).append(pair)
    found = list(pairs)
    for at, (name, count) in enumerate(sorted(least.items())):
        own = by_set.get(name)
        if own is None:
            known = ", ".join(sorted(filter(None, by_set))) or "none"
            raise ConfigError(
                f"at_least names the data set {name!r}, with which the id of no query with positives begins (known: {known}); correct it"
            )
        if count < 0:
            raise ConfigError(f"at_least.{name} is {count}; use 0 or more samples")
        rng = np.random.default_rng([seed, at, 0, FILLED])
        found += [own[place] for place in rng.integers(len(own), size=max(0, count - len(own)))]
    return found
