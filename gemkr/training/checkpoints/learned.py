"""What a checkpoint records of the clues that it learned, held against the decoding and the index that it is used with.

Imports no torch.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gemkr.models.writers.config import WriterConfig
from gemkr.training.checkpoints.folder import read_state

if TYPE_CHECKING:
    from gemkr.data.clues import MinedClue
    from gemkr.fm_index import FMIndex, SegmentedIndex

CLUE_LENGTHS, CLUE_SAMPLE = "clue_lengths", "clue_sample"
"""In the state of a final checkpoint: how many of the clues it learned have 0, 1, 2, ... tokens; and some of these clues."""
SAMPLED = 64
LONG_SHARE = 0.01
"""Of the clues: from this part on, those that decoding cannot finish are worth a word."""

logger = logging.getLogger(__name__)


def notes_on(clues: Sequence[MinedClue]) -> dict[str, Any]:
    """What a checkpoint keeps of the clues it learned: their lengths, and the tokens, text and number of occurrences of `SAMPLED`
    of them, spread over the file."""
    lengths = [0] * (1 + max((len(clue.tokens) for clue in clues), default=-1))
    for clue in clues:
        lengths[len(clue.tokens)] += 1
    chosen = clues[:: max(1, len(clues) // SAMPLED)][:SAMPLED]
    sample = [{"tokens": list(clue.tokens), "text": clue.text, "count": clue.count} for clue in chosen]
    return {CLUE_LENGTHS: lengths, CLUE_SAMPLE: sample}


def warn_of_long_clues(config: WriterConfig, max_tokens: int) -> None:
    """A warning where a model learned clues that are longer than the `max_tokens` of decoding: mining's longest clue
    and decoding's are one setting. Nothing for a checkpoint without such a record."""
    lengths = _recorded(config, CLUE_LENGTHS)
    cut = sum(lengths[max_tokens + 1 :])
    if cut > LONG_SHARE * sum(lengths):
        logger.warning(
            "%.0f %% of the clues that %s learned are longer than decoding.max_tokens %d and will be cut off; set it to %d, or "
            "mine with --max-tokens %d",
            100 * cut / sum(lengths), config.checkpoint, max_tokens, len(lengths) - 1, max_tokens,
        )  # fmt: skip


def warn_of_other_corpus(config: WriterConfig, index: FMIndex | SegmentedIndex) -> None:
    """A warning where clues that a model learned occur in the index another number of times than when they were mined: the
    corpus was another one then. Nothing for a checkpoint without such a record."""
    sample = _recorded(config, CLUE_SAMPLE)
    changed = [(clue, now) for clue in sample if (now := index.search(clue["tokens"]).count) != clue["count"]]
    if changed:
        clue, now = min(changed, key=lambda pair: pair[1] > 0)  # one that is gone, where there is one
        logger.warning(
            "%d of %d clues looked at that %s learned were mined from another corpus than that of the index %s, such as %r (%d "
            "times there, %d here); mine the clues with this index and train again, or give the index they were mined with",
            len(changed), len(sample), config.checkpoint, index.path, clue["text"], clue["count"], now,
        )  # fmt: skip


def _recorded(config: WriterConfig, what: str) -> list[Any]:
    return [] if config.checkpoint is None else read_state(config.checkpoint).get(what, [])
