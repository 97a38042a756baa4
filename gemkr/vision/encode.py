"""Frozen vision towers: the only door to open_clip (and, through it, to timm trunks).

A tower turns pictures into CLS states of the tower's own width, before the output projection into the space
shared with text, because they are fed back into its blocks as region features. Never downloads. Knows nothing of
boxes, stores or language models.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.factory import load_state_dict
from open_clip.model import _build_vision_tower
from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_kwargs
from PIL import Image
from torch import nn

from gemkr.errors import VisionError, first_line
from gemkr.vision.config import TowerConfig

log = logging.getLogger(__name__)


class Tower(nn.Module):
    """A frozen vision tower, always in evaluation mode.

    `width` is the size of its states, `image_size` the (height, width) in pixels that `preprocess` (PIL picture ->
    float32[3, height, width]) makes; `fingerprint` is a hash of architecture, preprocessing and weights.
    """

    def __init__(
        self, visual: nn.Module, preprocess: Callable[[Image.Image], torch.Tensor], fingerprint: str
    ):
        super().__init__()
        self.visual = visual
        self.preprocess = preprocess
        self.fingerprint = fingerprint
        self.image_size: tuple[int, int] = tuple(visual.image_size)
        self.requires_grad_(False)
        self.eval()

    @property
    def blocks(self) -> nn.Sequential | nn.ModuleList:
        """The transformer blocks, first to last; each has its attention at `attn`."""
        return (
            self.visual.trunk.blocks if hasattr(self.visual, "trunk") else self.visual.transformer.resblocks
        )

    @property
    def width(self) -> int:
        return _width(self.visual)

    @property
    def dtype(self) -> torch.dtype:
        return next(self.visual.parameters()).dtype

    @property
    def device(self) -> torch.device:
        return next(self.visual.parameters()).device

    def train(self, mode: bool = True) -> Tower:
        """A frozen tower does not train: its dropout stays off."""
        return super().train(False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """float32[B, 3, H, W] -> [B, width], the state before the output projection."""
        return self.visual(pixels.to(self.dtype))


def load_tower(config: TowerConfig) -> Tower:
    """Build the vision half of an open_clip model and load its local weights, strictly.

    `config.config` is a json file in open_clip's form (bare, or with `model_cfg` and `preprocess_cfg`), used
    instead of a known architecture name. `config.weights` is a .safetensors or .pt file of the whole open_clip model or
    of its vision half (of a timm trunk alone, too); without it the weights are random, which is warned about.
    With `config.depth` the weights may lack what it cuts off: later blocks, last LayerNorm, output projection.
    Raises VisionError for an unknown architecture, one that is no vision transformer, a depth it does not have, and
    weights that do not fit.
    """
    name, visual, vision_cfg, preprocess_cfg, known = _build(config)
    if config.weights is None:
        log.warning("the vision tower %s has random weights, because none were given", name)
    else:
        _load_weights(visual, Path(config.weights), name, known)
    cfg = merge_preprocess_kwargs(PreprocessCfg(), **preprocess_cfg) | {"size": visual.image_size}
    fingerprint = _fingerprint(visual, vision_cfg, cfg)
    if config.depth is None:
        _drop_projection(visual, name)
    return Tower(visual, image_transform_v2(PreprocessCfg(**cfg), is_train=False), fingerprint)


def outline_tower(config: TowerConfig) -> Tower:
    """The tower on torch's meta device: names and shapes without weights, in no time and memory. Raises VisionError."""
    with torch.device("meta"):
        name, visual, _, preprocess_cfg, _ = _build(config)
    if config.depth is None:
        _drop_projection(visual, name)
    cfg = merge_preprocess_kwargs(PreprocessCfg(), **preprocess_cfg) | {"size": visual.image_size}
    return Tower(visual, image_transform_v2(PreprocessCfg(**cfg), is_train=False), fingerprint="outline")


def _build(config: TowerConfig) -> tuple[str, nn.Module, dict[str, Any], dict[str, Any], set[str]]:
    """Name for messages, the tower cut at its depth, its configuration and preprocessing, the whole tower's names."""
    name, model_cfg, preprocess_cfg = _describe(config)
    vision_cfg = dict(model_cfg["vision_cfg"], timm_model_pretrained=False)
    try:
        visual = _build_vision_tower(
            model_cfg["embed_dim"], vision_cfg, quick_gelu=model_cfg.get("quick_gelu", False)
        )
    except (TypeError, RuntimeError, AssertionError) as error:
        raise VisionError(f"the vision tower {name} cannot be built: {error}") from error
    known = set(visual.state_dict())
    if config.depth is not None:
        _drop_projection(visual, name)
        _cut(visual, config.depth, name)
        vision_cfg |= {"depth": config.depth}
    return name, visual, vision_cfg, preprocess_cfg, known


def _describe(config: TowerConfig) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Name for messages, model configuration, preprocessing overrides."""
    if config.config is None:
        known = open_clip.get_model_config(config.architecture)
        if known is None:
            raise VisionError(
                f"open_clip knows no architecture {config.architecture!r}; see open_clip.list_models(), or give a json config"
            )
        return config.architecture, known, {}
    path = Path(config.config)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise VisionError(f"the tower configuration {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise VisionError(f"the tower configuration {path} is not valid json: {error}") from error
    if not isinstance(values, dict):
        raise VisionError(
            f"the tower configuration {path} must be a json object, it is {type(values).__name__}; see open_clip's "
            "model_configs"
        )
    model_cfg = values.get("model_cfg", values)
    for key in ("embed_dim", "vision_cfg"):
        if key not in model_cfg:
            raise VisionError(f"the tower configuration {path} lacks {key!r}; see open_clip's model_configs")
    return str(path), model_cfg, values.get("preprocess_cfg", {})


def _load_weights(visual: nn.Module, path: Path, name: str, known: set[str]) -> None:
    """Strictly: every name of `visual`, and no name that is not `known` (those of the whole tower)."""
    if not path.is_file():
        wrong = "are a folder" if path.is_dir() else "do not exist"
        raise VisionError(
            f"the weights {path} of the vision tower {name} {wrong}; give a .safetensors or .pt file"
        )
    try:
        state = load_state_dict(str(path), device="cpu")
    except Exception as error:  # torch, pickle and safetensors each raise their own kinds
        raise VisionError(
            f"the weights {path} of the vision tower {name} cannot be read: {first_line(error)}"
        ) from error
    prefixed = {k.removeprefix("visual."): v for k, v in state.items() if k.startswith("visual.")}
    state = prefixed or state
    if hasattr(visual, "trunk") and not any(k.startswith("trunk.") for k in state):
        state = {f"trunk.{k}": v for k, v in state.items()}
    own = visual.state_dict()
    wrong = [
        *(f"{k} is missing" for k in own if k not in state),
        *(f"{k} is unknown" for k in state if k not in known),
        *(
            f"{k} has shape {tuple(state[k].shape)} instead of {tuple(v.shape)}"
            for k, v in own.items()
            if k in state and state[k].shape != v.shape
        ),
    ]
    if wrong:
        raise VisionError(
            f"the weights {path} do not fit the vision tower {name}: {wrong[0]}, and {len(wrong) - 1} more differences"
        )
    visual.load_state_dict({k: state[k] for k in own})


def _width(visual: nn.Module) -> int:
    if hasattr(visual, "trunk"):
        return visual.trunk.num_features
    return visual.class_embedding.shape[-1]


def _drop_projection(visual: nn.Module, name: str) -> None:
    """Let the tower end with its own state: the projection into the space shared with text goes."""
    if hasattr(visual, "trunk") and hasattr(visual.trunk, "blocks"):
        visual.trunk.reset_classifier(0)
        visual.head = nn.Identity()
    elif isinstance(visual, open_clip.transformer.VisionTransformer) and visual.attn_pool is None:
        visual.proj = None
    else:
        raise VisionError(
            f"the vision tower {name} is a {type(visual).__name__} without a CLS state; use a vision transformer"
        )


def _cut(visual: nn.Module, depth: int, name: str) -> None:
    """Let the tower end after `depth` blocks, without its last LayerNorm."""
    trunk = getattr(visual, "trunk", None)
    holder, attribute = (visual.transformer, "resblocks") if trunk is None else (trunk, "blocks")
    blocks = getattr(holder, attribute)
    if depth > len(blocks):
        raise VisionError(
            f"the vision tower {name} has {len(blocks)} blocks, tower.depth is {depth}; lower it"
        )
    setattr(holder, attribute, blocks[:depth])
    for norm in ("ln_post",) if trunk is None else ("norm", "fc_norm"):
        setattr(visual if trunk is None else trunk, norm, nn.Identity())


def _fingerprint(visual: nn.Module, vision_cfg: dict[str, Any], preprocess_cfg: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps([vision_cfg, preprocess_cfg], sort_keys=True, default=str).encode())
    for key, value in sorted(visual.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().float().contiguous().numpy().tobytes())
    return digest.hexdigest()
