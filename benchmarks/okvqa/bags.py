"""Queries as bags of words with tf-idf weights: the features of the baselines that learn from training questions.

Knows queries only; no document and no answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from gemkr.data.qrels import words
from gemkr.types import Query


class QueryWords:
    """The features of a query, as strings: stemmed words, each marked by the field that it comes from.

    Question words and pairs of neighbours (`q:`, so that "what kind" counts), caption words, and words of the
    detected labels. `shared` gives caption and labels one mark, so that what is learned of a thing named in the one
    holds for the other. Stop words stay: "who" and "where" say what kind of answer is asked for.
    """

    def __init__(self, *, shared: bool) -> None:
        import Stemmer

        self._stemmer = Stemmer.Stemmer("english")
        self._label = "c:" if shared else "d:"

    def __call__(self, query: Query) -> list[str]:
        """All features in the order of the text, repeated as they stand there."""
        question = self._stems(query.question)
        features = [f"q:{word}" for word in question]
        features += [f"q:{first} {second}" for first, second in pairwise(question)]
        features += [f"c:{word}" for word in self._stems(query.caption or "")]
        for label in query.detections:
            features += [self._label + word for word in self._stems(label)]
        return features

    def _stems(self, text: str) -> list[str]:
        return self._stemmer.stemWords(words(text))


class BagVectors:
    """Queries as sparse vectors of length 1, over the features of the queries it was made from.

    Weight of a feature: (1 + ln occurrences in the query) x (ln((1 + queries) / (1 + queries with it)) + 1), as
    scikit-learn's smooth idf with sublinear tf. `least` drops features of fewer queries.
    """

    def __init__(self, queries: Sequence[Query], features: QueryWords, *, least: int = 1) -> None:
        self._features = features
        counts = Counter(feature for query in queries for feature in dict.fromkeys(features(query)))
        kept = [feature for feature, count in counts.items() if count >= least]
        self._numbers = {feature: number for number, feature in enumerate(kept)}
        held = np.array([counts[feature] for feature in kept], dtype=np.float64)
        self._idf = np.log((1 + len(queries)) / (1 + held)) + 1

    def __len__(self) -> int:
        """How many features there are."""
        return len(self._numbers)

    def vector(self, query: Query) -> tuple[np.ndarray, np.ndarray]:
        """(features int64[n] ascending, weights float32[n] of length 1); both empty for a query of unknown words."""
        counts = Counter(self._numbers[f] for f in self._features(query) if f in self._numbers)
        features = np.array(sorted(counts), dtype=np.int64)
        weights = (1 + np.log([counts[f] for f in features.tolist()])) * self._idf[features]
        return features, (weights / max(np.linalg.norm(weights), 1e-12)).astype(np.float32)


class CosineIndex:
    """Cosine similarity of a vector to each of a list of vectors, by inverted lists per feature."""

    def __init__(self, vectors: Iterable[tuple[np.ndarray, np.ndarray]], features: int) -> None:
        columns, rows, weights = [], [], []
        self._length = 0
        for row, (feature, weight) in enumerate(vectors):
            columns.append(feature)
            rows.append(np.full(len(feature), row, dtype=np.int64))
            weights.append(weight)
            self._length = row + 1
        column = np.concatenate(columns) if columns else np.empty(0, dtype=np.int64)
        order = np.argsort(column, kind="stable")
        self._rows = np.concatenate(rows)[order] if rows else column
        self._weights = np.concatenate(weights)[order] if weights else np.empty(0, dtype=np.float32)
        self._starts = np.searchsorted(column[order], np.arange(features + 1))

    def similarities(self, features: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """float32[rows] cosines in [0, 1]."""
        cosines = np.zeros(self._length, dtype=np.float32)
        for feature, weight in zip(features.tolist(), weights):
            at = slice(self._starts[feature], self._starts[feature + 1])
            cosines[self._rows[at]] += self._weights[at] * weight
        return cosines
