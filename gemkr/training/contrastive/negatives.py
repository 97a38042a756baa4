"""Which hits of a run are hard negatives of their query: in training, and where they are mined into a run of their own."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from gemkr.errors import DataError
from gemkr.training.contrastive.config import Window
from gemkr.types import Hit


def hard_negatives(hits: Sequence[Hit], positives: Collection[str], window: Window) -> list[Hit]:
    """The hits of the window that are none of the positives (document ids), best first, under the score limit of `window`.

    `hits` is the whole list of one query, best first: the best positive may stand outside of the window. DataError where `below` is a
    share of a score below 0, such as a rank's or a cross-encoder's: it would leave nothing out.
    """
    own = [hit for hit in hits if hit.doc_id in positives]
    best = max(own or hits, key=lambda hit: hit.score, default=None)
    if window.below is not None and best is not None and best.score < 0:
        raise DataError(
            f"below {window.below} is a share of the score of the document {best.doc_id!r}, which is {best.score:g}, below 0; leave "
            "below out, or use a run whose scores are above it"
        )
    limit = math.inf if window.below is None or best is None else window.below * best.score
    return [
        hit for hit in hits[window.skip : window.depth] if hit.doc_id not in positives and hit.score < limit
    ]
