"""Which hits of a run are hard negatives of their query: in training, and where they are mined into a run of their own."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from gemkr.training.contrastive.config import Window
from gemkr.types import Hit


def hard_negatives(hits: Sequence[Hit], positives: Collection[str], window: Window) -> list[Hit]:
    """The hits of the window that are none of the positives (document ids), best first, under the score limit of `window`.

    `hits` is the whole list of one query, best first: the best positive may stand outside of the window.
    """
    own = [hit.score for hit in hits if hit.doc_id in positives]
    best = max(own or [hit.score for hit in hits], default=0.0)
    limit = math.inf if window.below is None else window.below * best
    return [
        hit for hit in hits[window.skip : window.depth] if hit.doc_id not in positives and hit.score < limit
    ]
