"""Settings of a detector and of a vision tower."""

from __future__ import annotations

from dataclasses import dataclass

from gemkr.config.paths import FilePath
from gemkr.config.ranges import NotNegative, Positive, Share

MARGIN = 0.05
"""Share of a box's width and height that its crop shows beyond each side, unless configured."""


@dataclass(frozen=True)
class DetectorConfig:
    """Which regions of a picture are found, and how they are cropped."""

    weights: FilePath | None = None
    """An ultralytics weights file (.pt), or a model .yaml (random weights)."""
    regions: Positive = 10
    """The most boxes per picture."""
    confidence: Share = 0.1
    """The least score of a box."""
    overlap: Share = 0.6
    """The IoU at which class-agnostic non-maximum suppression drops the box of lower score."""
    image_size: Positive = 640
    """Side in pixels of the square that a picture is scaled to before detection."""
    margin: NotNegative = MARGIN
    """Share of a box's width and height that its crop shows beyond each side."""


@dataclass(frozen=True)
class TowerConfig:
    """A frozen open_clip vision tower: an architecture name or a json config of one's own, and local weights.

    With `depth` the tower ends after so many blocks, before its last LayerNorm: BLIP-2's way, and the paper's (39 of
    EVA-CLIP-g's 40).
    """

    architecture: str = "ViT-L-14"
    config: FilePath | None = None
    weights: FilePath | None = None
    depth: Positive | None = None
