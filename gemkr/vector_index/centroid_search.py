"""One query over coded tokens, in steps that see fewer documents and more of each (after PLAID, and WARP's way of counting what a
vector did not find).

A query vector looks into the `probes` lists next to it, less those far below its best; a document gains what its best centroid there
scores above the vector's last list. Then the best candidates are scored by the centroids of all their tokens, the best of these by
look-up tables of the codes, a third of the query's vectors first, and the best of these by the vectors themselves, or by their decoded
tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
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
FORETOLD = 512
"""Different scores by all of a query's vectors that are known before its first ones decide whether the others are asked: what a rare match
adds has been seen then, and fewer documents take no time."""
SCAN = ByteProducts if _maxsim.multiplies_bytes() else LookupTables
"""How codes are scored: by what this processor is quicker at."""
LAST = 256
"""Documents scored by all their decoded tokens, where there are no vectors to score them by."""
Better = Callable[[np.ndarray], np.ndarray]
"""Documents int64[m] -> their better scores float32[m]."""


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
        scan = SCAN.of(vectors, self.codec, low, step)
        bounds = np.unique([0, _begun(len(vectors), scan.together), len(vectors)])

        def by_centroid(part: Part, own: np.ndarray) -> np.ndarray:
            return _maxsim.by_centroid(levels, bounds, low, step, part.codes, part.offsets, own)

        def scanned(some: np.ndarray, first: int, last: int) -> np.ndarray:
            return self.scores(some, lambda part, own: scan.scores(levels, part, own, first, last))[0]

        docs, looked = _refined(
            docs,
            self.scores(docs, by_centroid, len(bounds) - 1),
            [partial(scanned, first=first, last=last) for first, last in pairwise(bounds.tolist())],
            k,
            max(steps.decoded, k),
        )
        exact = bool(steps.rescored)
        return _refined(
            docs,
            looked[None],
            [lambda some: self.rescored(vectors, some, exact=exact)],
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
                return _maxsim.stored(bits, part.offsets, own, vectors, bounds)
            return _maxsim.coded(
                part.codes, part.residuals, codec.centroids, codec.table, codec.scales, codec.unit, part.offsets, own, vectors,
                bounds,
            )  # fmt: skip

        return self.scores(docs, work)[0]

    def scores(
        self, docs: np.ndarray, work: Callable[[Part, np.ndarray], np.ndarray], rows: int = 1
    ) -> np.ndarray:
        """float32[rows, m]: `work(part, numbers in it)`, float32[rows, those] or of a single row [those], of the documents int64[m]."""
        if len(self.parts) == 1:
            return np.atleast_2d(work(self.parts[0], docs))
        scores = np.empty((rows, len(docs)), np.float32)
        homes = np.searchsorted(self.starts, docs, side="right") - 1
        for number, part in enumerate(self.parts):
            own = np.flatnonzero(homes == number)
            if len(own):
                scores[:, own] = work(part, np.ascontiguousarray(docs[own] - self.starts[number]))
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


def _begun(vectors: int, together: int) -> int:
    """How many of a query's vectors a document is looked at by first: about a third, a multiple of `together`; all where that is no
    fewer."""
    return min(vectors, together * max(1, round(vectors / (3 * together))))


def _refined(
    docs: np.ndarray, scores: np.ndarray, better: Sequence[Better], k: int, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """The first documents by `scores`, no more than `most`, and their better scores: until what these add to the scores, SURE
    deviations above its mean, brings no further document among the k best.

    `scores` float32[1 or 2, n] and `better` are of the query's vectors together, or of the first ones and the others. A document that is
    not likely to come among the k best by what the first ones added is asked no more, and left out.
    """
    whole = scores.sum(axis=0)
    order = _first(whole, most if k else 0)
    docs, whole, begun = docs[order], whole[order], scores[0][order]
    kept, found = [docs[:0]], [whole[:0]]
    refinement, done = _maxsim.Refinement(k), 0
    while done < len(docs):
        some = slice(done, done + CHUNK)
        asked, known, scored, added = docs[some], whole[some], better[0](docs[some]), None
        if len(better) > 1:
            left = refinement.begin(scored, begun[some], known, SURE, FORETOLD)
            asked, known, scored, added = asked[left], known[left], scored[left], (scored - begun[some])[left]
            scored += better[1](asked)
        refinement.learn(scored, known, added)
        kept.append(asked)
        found.append(scored)
        done += CHUNK
        if done < len(docs) and refinement.settled(whole[done], SURE, LEARNED):
            break
    return np.concatenate(kept), np.concatenate(found)


def _first(scores: np.ndarray, most: int) -> np.ndarray:
    """int64[m]: the numbers of the `most` best scores, best first, of equal ones the first first; sorts no more than these."""
    if not most:
        return np.empty(0, np.int64)
    kept = np.arange(len(scores))
    if most < len(scores):
        kept = np.flatnonzero(scores >= np.partition(scores, len(scores) - most)[len(scores) - most])
    return kept[np.argsort(-scores[kept], kind="stable")][:most]
