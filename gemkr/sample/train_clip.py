"""Trains the sample's CLIP (a ViT of 0.8 M parameters and a tiny text tower) to name flags.

Writes flag-vit.json and flag-vit.safetensors; in a folder as open_clip_config.json and open_clip_model.safetensors
open_clip itself loads them as `local-dir:FOLDER`. It sees crops of small flags and whole scenes with one large flag, contrasted with the names of
all countries as bytes. One CPU thread, a few minutes.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from gemkr.sample.backgrounds import SIZE, background
from gemkr.sample.cloth import draw
from gemkr.sample.facts import countries
from gemkr.sample.flag_table import FLAGS
from gemkr.sample.plan import Scene
from gemkr.sample.scenes import SMALL_SIDE, render

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
MODEL: dict[str, Any] = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 64, "layers": 4, "width": 128, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 258, "width": 64, "heads": 2, "layers": 1},
}
PREPROCESS = {"mean": list(MEAN), "std": list(STD), "interpolation": "bicubic", "resize_mode": "squash"}
FIRST_BYTE, END_OF_TEXT = 256, 257
IMAGE_SIZE = 64
SEED = 2001
POOL_CROPS, POOL_SCENES = 96, 30
BATCH, CROPS_IN_BATCH, STEPS = 64, 42, 900
LEARNING_RATE, WARM_UP = 1.5e-3, 60


def make_crop(country: str, places: list[Image.Image], rng: np.random.Generator) -> Image.Image:
    """A small flag before some background, cropped with an inexact margin and squashed to 64 pixels."""
    place = places[rng.integers(len(places))]
    cloth = draw(country, round(rng.uniform(*SMALL_SIDE) / max(FLAGS[country][0], 1)), rng)
    cloth = cloth.crop(cloth.getchannel("A").point(lambda a: 255 * (a > 64)).getbbox())
    wide, tall = cloth.size
    left, top = (int(rng.integers(10, SIZE - side - 10)) for side in (wide, tall))
    patch = place.crop((left - 8, top - 8, left + wide + 8, top + tall + 8))
    patch.paste(cloth, (8, 8), cloth)
    near = [rng.uniform(-0.06, 0.17) * side for side in (wide, tall, wide, tall)]
    box = (8 - near[0], 8 - near[1], 8 + wide + near[2], 8 + tall + near[3])
    crop = patch.crop(tuple(round(edge) for edge in box))
    return crop.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)


def make_pools(
    crops: int = POOL_CROPS, scenes: int = POOL_SCENES, seed: int = SEED
) -> tuple[np.ndarray, np.ndarray]:
    """uint8[countries, crops, 64, 64, 3] of small flags and uint8[countries, scenes, 64, 64, 3] of large-flag scenes."""
    rng = np.random.default_rng(seed)
    places = [background(rng, clutter=3) for _ in range(150)]
    near, whole = [], []
    for country in countries():
        near.append([np.asarray(make_crop(country, places, rng)) for _ in range(crops)])
        pictures = (
            render(Scene(f"{country}-{i}", "clip", (country,), large=True), seed)[0] for i in range(scenes)
        )
        small = (picture.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC) for picture in pictures)
        whole.append([np.asarray(picture) for picture in small])
    return np.array(near), np.array(whole)


def name_bytes() -> torch.Tensor:
    """int64[countries, 16]: the names' bytes between their marks; open_clip reads the state at the largest id."""
    length = MODEL["text_cfg"]["context_length"]
    rows = torch.zeros(len(countries()), length, dtype=torch.long)
    for row, name in zip(rows, countries(), strict=True):
        ids = [FIRST_BYTE, *name.encode()[: length - 2], END_OF_TEXT]
        row[: len(ids)] = torch.tensor(ids)
    return rows


def train_clip(folder: Path, steps: int = STEPS, seed: int = 0) -> dict[str, Any]:
    """Train, write configuration and weights into `folder`, and return shares of right names on fresh pictures by the class texts."""
    import open_clip
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    model = open_clip.CLIP(**MODEL, output_dict=True)
    crops, scenes = make_pools()
    texts = name_bytes()
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.05, betas=(0.9, 0.98))
    for step in range(steps):
        share = max(step - WARM_UP, 0) / max(steps - WARM_UP, 1)
        for group in optimizer.param_groups:
            group["lr"] = (
                LEARNING_RATE
                * min(1.0, (step + 1) / WARM_UP)
                * (0.02 + 0.49 * (1 + math.cos(math.pi * share)))
            )
        labels = rng.integers(len(crops), size=BATCH)
        chosen = np.stack(
            [
                crops[label, rng.integers(crops.shape[1])]
                if i < CROPS_IN_BATCH
                else scenes[label, rng.integers(scenes.shape[1])]
                for i, label in enumerate(labels)
            ]
        )
        loss = functional.cross_entropy(_logits(model, _jitter(chosen, rng), texts), torch.from_numpy(labels))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        if (step + 1) % 100 == 0:
            print(json.dumps({"step": step + 1, "loss": round(loss.item(), 4)}), flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": MODEL, "preprocess_cfg": PREPROCESS}
    (folder / "flag-vit.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    state = {key: value.half().contiguous() for key, value in model.state_dict().items()}
    save_file(state, folder / "flag-vit.safetensors")
    return {
        "vision_parameters": sum(p.numel() for p in model.visual.parameters()),
        **_measure_accuracy(model, texts),
    }


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """uint8[N, 64, 64, 3] as open_clip's preprocessing would hand it over: float32[N, 3, 64, 64]."""
    values = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    return (values - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def _jitter(pixels: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    """Shift by up to three pixels and change the light a little, so that a pool of pictures goes further."""
    values = to_tensor(pixels)
    down, right = rng.integers(-3, 4, size=2)
    moved = torch.roll(
        functional.pad(values, (3, 3, 3, 3), mode="replicate"), (int(down), int(right)), (2, 3)
    )
    gain = torch.from_numpy(rng.uniform(0.9, 1.1, size=(len(values), 1, 1, 1)).astype(np.float32))
    return moved[:, :, 3:-3, 3:-3] * gain


def _logits(model: Any, pixels: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    pictures = model.encode_image(pixels, normalize=True)
    return model.logit_scale.exp() * pictures @ model.encode_text(texts, normalize=True).T


@torch.no_grad()
def _measure_accuracy(model: Any, texts: torch.Tensor) -> dict[str, float]:
    model.eval()
    figures = {}
    for name, pool in zip(("crops", "large_scenes"), make_pools(8, 4, SEED + 1), strict=True):
        right = [
            (_logits(model, to_tensor(rows), texts).argmax(1) == i).float().mean()
            for i, rows in enumerate(pool)
        ]
        figures[name] = round(float(torch.stack(right).mean()), 4)
    return figures


def main(argv: list[str] | None = None) -> None:
    """Command line: `python -m gemkr.sample.train_clip FOLDER`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=STEPS)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    began = time.perf_counter()
    figures = train_clip(args.folder, args.steps)
    print(json.dumps(figures | {"seconds": round(time.perf_counter() - began)}))


if __name__ == "__main__":
    main()
