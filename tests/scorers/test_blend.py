"""Two scorers blended: both scaled over the documents that are scored."""

from __future__ import annotations

import numpy as np

from gemkr.scorers.blend import Blend
from gemkr.types import Query


def test_a_blend_scales_both_over_what_is_asked() -> None:
    class Fixed:
        def __init__(self, *scores: float) -> None:
            self.scores = np.array(scores, dtype=np.float32)

        def __len__(self) -> int:
            return len(self.scores)

        def score(self, query: Query, docs: np.ndarray) -> np.ndarray:
            return self.scores[docs]

    blend = Blend(Fixed(-100, 100, 0, 100), Fixed(1, 2, 3, 9), 0.25)
    np.testing.assert_allclose(blend.score(Query("q"), np.array([0, 1, 2])), [0.0, 0.875, 0.625])
    np.testing.assert_allclose(blend.score(Query("q"), np.array([1, 3])), [0.0, 0.25])
    assert blend.score(Query("q"), np.array([], dtype=np.int64)).shape == (0,)
