"""One query over coded tokens, in steps that see fewer documents and more of each (after PLAID, and WARP's way of counting what a
vector did not find).

A query vector looks into the `probes` lists next to it, less those far below its best; a document gains what its best centroid there
scores above the vector's last list. Then the best candidates are scored by the centroids of all their tokens, the best of these by
look-up tables of the codes, and the best of these by the vectors themselves, or by their decoded tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from gemkr.vector_index import _maxsim
from gemkr.vector_index.byte_products import ByteProducts
from gemkr.vector_index.lookup_tables import LookupTables
from gemkr.vector_index.token_codec import ResidualCodec
from gemkr.vector_index.token_parts import Part

CHUNK = 128
"""Documents that are scored before what is left is looked at again."""
SURE = 3.25
"""How far above the mean what a better score adds is thought possible, in standard deviations."""
LEARNED = 32
"""Different scores that are known before anything is thought of others: copies of a document say it once."""
SCAN = ByteProducts if _maxsim.multiplies_bytes() else LookupTables
"""How codes are scored: by what this processor is quicker at."""
LAST = 256
"""Documents scored by all their decoded tokens, where there are no vectors to score them by."""


@dataclass(frozen=True)
class Steps:
    """How many lists a vector looks into, which it passes over, and how many documents each step scores at most (`CentroidIndex.Config`)."""

    probes: int
    prune: float
    candidates: int
    decoded: int
    rescored: int


class Parts:
    """The documents of parts one after another."""

    def __init__(self, codec: ResidualCodec, parts: Sequence[Part]) -> None:
        self.codec, self.parts = codec, parts
        self.starts = np.cumsum([0, *map(len, parts)])

    def found(
        self, vectors: np.ndarray, k: int, mask: np.ndarray, steps: Steps
    ) -> tuple[np.ndarray, np.ndarray]:
        """Documents (int64[m], no more than the last step scores, k or more where so many are found) that `mask` bool[n] marks, and
        their scores float32[m], of a query's vectors float32[v, width]."""
        products = _maxsim.products(self.codec.half_centroids, vectors)
        docs, gains = self._candidates(products, len(vectors), mask, steps)
        docs = _best(docs, gains, max(steps.candidates, k))
        levels, low, step = _maxsim.leveled(products)
        codes = self.scores(
            docs,
            lambda part, own: _maxsim.by_centroid(
                levels, len(vectors), low, step, part.codes, part.offsets, own
            ),
        )
        scan = SCAN.of(vectors, self.codec, low, step)
        docs, looked = _refined(
            docs,
            codes,
            lambda some: self.scores(some, lambda part, own: scan.scores(levels, part, own)),
            k,
            max(steps.decoded, k),
        )
        exact = bool(steps.rescored)
        return _refined(
            docs,
            looked,
            lambda some: self.rescored(vectors, some, exact=exact),
            k,
            max(steps.rescored or LAST, 2 * k),
        )

    def rescored(self, vectors: np.ndarray, docs: np.ndarray, *, exact: bool) -> np.ndarray:
        """float32[m]: MaxSim by the vectors of documents, where they are at hand and `exact`, or else by their decoded tokens."""
        bounds = np.array([0, len(vectors)])
        codec = self.codec

        def work(part: Part, own: np.ndarray) -> np.ndarray:
            if exact and part.stored is not None:
                bits = part.stored.values.view(np.uint16)
                return _maxsim.stored(bits, part.offsets, own, vectors, bounds)[0]
            return _maxsim.coded(
                part.codes, part.residuals, codec.centroids, codec.table, codec.scales, codec.unit, part.offsets, own, vectors,
                bounds,
            )[0]  # fmt: skip

        return self.scores(docs, work)

    def scores(self, docs: np.ndarray, work: Callable[[Part, np.ndarray], np.ndarray]) -> np.ndarray:
        """float32[m]: `work(part, numbers in it)` of the documents int64[m]."""
        if len(self.parts) == 1:
            return work(self.parts[0], docs)
        scores = np.empty(len(docs), np.float32)
        homes = np.searchsorted(self.starts, docs, side="right") - 1
        for number, part in enumerate(self.parts):
            own = np.flatnonzero(homes == number)
            if len(own):
                scores[own] = work(part, np.ascontiguousarray(docs[own] - self.starts[number]))
        return scores

    def _candidates(
        self, products: np.ndarray, vectors: int, mask: np.ndarray, steps: Steps
    ) -> tuple[np.ndarray, np.ndarray]:
        probes, gains = _probes(products, vectors, steps)
        docs, scores = [], []
        bounds = zip(self.parts, pairwise(self.starts.tolist()), strict=True)
        for part, (start, stop) in bounds:
            allowed = np.ascontiguousarray(mask[start:stop]).view(np.uint8)
            found, own = _maxsim.candidates(
                part.list_offsets, part.list_docs, probes, gains, len(part), allowed
            )
            docs.append(found + start)
            scores.append(own)
        return np.concatenate(docs), np.concatenate(scores)


def _probes(products: np.ndarray, vectors: int, steps: Steps) -> tuple[np.ndarray, np.ndarray]:
    """Centroids int64[vectors, p], best first, -1 where pruned, and what each scores above the vector's last one."""
    chosen, scores = _maxsim.probes(products, vectors, min(steps.probes, len(products)))
    best = scores[:, :1]
    kept = scores >= best - (1 - steps.prune) * abs(best)  # as far below a best one that is below 0
    kept[:, 0] = True
    return np.where(kept, chosen, -1), scores - scores[:, -1:]


def _best(docs: np.ndarray, scores: np.ndarray, most: int) -> np.ndarray:
    """The documents with the `most` best scores, by number: their codes are read in the order that they lie in."""
    if len(docs) > most:
        docs = docs[np.argpartition(scores, len(scores) - most)[-most:]]
    return np.sort(docs)


def _refined(
    docs: np.ndarray, scores: np.ndarray, better: Callable[[np.ndarray], np.ndarray], k: int, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """The first documents by `scores`, no more than `most`, and their `better` scores: until what these add to the scores, SURE
    deviations above its mean, brings no further document among the k best."""
    order = _first(scores, most if k else 0)
    docs, scores = docs[order], scores[order]
    found = np.empty(len(docs), np.float32)
    refinement, done = _maxsim.Refinement(k), 0
    while done < len(docs):
        stop = min(done + CHUNK, len(docs))
        found[done:stop] = better(docs[done:stop])
        refinement.learn(found[done:stop], scores[done:stop])
        done = stop
        if done < len(docs) and refinement.settled(scores[done], SURE, LEARNED):
            break
    return docs[:done], found[:done]


def _first(scores: np.ndarray, most: int) -> np.ndarray:
    """int64[m]: the numbers of the `most` best scores, best first, of equal ones the first first; sorts no more than these."""
    if not most:
        return np.empty(0, np.int64)
    kept = np.arange(len(scores))
    if most < len(scores):
        kept = np.flatnonzero(scores >= np.partition(scores, len(scores) - most)[len(scores) - most])
    return kept[np.argsort(-scores[kept], kind="stable")][:most]
