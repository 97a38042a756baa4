"""Settings of a vision tower."""

from __future__ import annotations

from dataclasses import dataclass

from gemkr.config.ranges import Positive


@dataclass(frozen=True)
class TowerConfig:
    """A frozen open_clip vision tower: an architecture name or a json config of one's own, and local weights.

    With `depth` the tower ends after so many blocks, before its last LayerNorm: BLIP-2's way, and the paper's (39 of
    EVA-CLIP-g's 40).
    """

    architecture: str = "ViT-L-14"
    config: str | None = None
    weights: str | None = None
    depth: Positive | None = None
