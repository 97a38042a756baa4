"""A batch of what a vision-language model reads: rows of tokens, and the tensors of all pictures in their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gemkr.models.gemkr.rows import RankWeight, Rows, join_rows
from gemkr.models.hf.vlm_families import Family, Tensors
from gemkr.models.vlm.inputs import VlmExample


@dataclass(slots=True, kw_only=True)
class VlmBatch(Rows):
    """`pictures` are the tensors that the model takes of all rows' pictures, by name; empty without any."""

    pictures: Tensors


def collate(
    examples: Sequence[VlmExample],
    family: Family,
    pad_id: int,
    eos_id: int,
    *,
    rank: RankWeight | None = None,
) -> VlmBatch:
    """One batch of examples, in their order; see `join_rows`. `pad_id` is not the picture token."""
    pictures = family.join([picture for example in examples for picture in example.pictures])
    return VlmBatch(**join_rows(examples, pad_id, eos_id, rank), pictures=pictures)
