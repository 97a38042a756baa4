"""Centroids of vectors, and which of them is nearest to one, by faiss: what centroid indexes over tokens are made with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gemkr.progress import progress_bar
from gemkr.vector_index.faiss_library import load_faiss

ITERATIONS = 6
"""Of k-means over token vectors."""


def k_means(
    vectors: np.ndarray,
    k: int,
    *,
    begun: tuple[int, np.ndarray | None] = (0, None),
    keep: Callable[[int, np.ndarray], object] = lambda done, centroids: None,
    progress: bool = False,
) -> np.ndarray:
    """float32[k, width]: centroids of vectors float32[n, width], n >= k; the same every time. After each of ITERATIONS `keep` is given
    how many there were and the centroids, from which a stopped run goes on (`begun`)."""
    faiss = load_faiss()

    vectors = np.ascontiguousarray(vectors, np.float32)
    learner = faiss.Kmeans(
        vectors.shape[1], k, niter=1, seed=0, min_points_per_centroid=1, max_points_per_centroid=len(vectors)
    )  # fmt: skip
    first, centroids = begun
    with progress_bar(
        total=ITERATIONS, initial=first, desc="k-means", unit=" iterations", disable=not progress
    ) as bar:
        for done in range(first + 1, ITERATIONS + 1):
            learner.train(vectors, init_centroids=centroids)
            centroids = learner.centroids.reshape(k, -1)
            keep(done, centroids)
            bar.update()
    return centroids


class Nearest:
    """Which of many centroids is nearest to a vector; among more than FEW, of those in the groups of centroids next to it, or, where
    these are farther than `far`, of all."""

    FEW = 1024
    GROUPS_SEEN = 8

    def __init__(self, centroids: np.ndarray, far: float = np.inf) -> None:
        """`centroids` float32[k, width]; `far` is a squared distance."""
        faiss = load_faiss()

        k, width = centroids.shape
        self.far = far
        self._index = self._all = faiss.IndexFlatL2(width)
        if k > self.FEW:
            groups = faiss.IndexFlatL2(width)
            self._index = faiss.IndexIVFFlat(groups, width, round(k**0.5), faiss.METRIC_L2)
            self._index.cp.min_points_per_centroid = 1
            self._index.nprobe = self.GROUPS_SEEN
            self._index.train(centroids)
            self._index.add(centroids)
        self._all.add(centroids)

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """int64[n] of vectors float32[n, width]."""
        vectors = np.ascontiguousarray(vectors, np.float32)
        squares, found = self._index.search(vectors, 1)
        beyond = np.flatnonzero((squares[:, 0] > self.far) | (found[:, 0] < 0))
        if len(beyond) and self._index is not self._all:
            found[beyond] = self._all.search(vectors[beyond], 1)[1]
        return found[:, 0]
