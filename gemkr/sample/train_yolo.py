"""Trains the sample's detector: YOLOv8 at width 0.125 with the one class `flag`, as an ultralytics .pt in float16.

Learns from scenes of a seed that the sample's data never uses. One CPU thread, a few minutes. Knows no countries.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from gemkr.sample.backgrounds import SIZE
from gemkr.sample.plan import plan
from gemkr.sample.scenes import render

SEEDS = (1001, 1002)
COUNTS = {"train": 640, "dev": 120, "test": 240}
LARGE_SHARE = 0.2
IMAGE_SIZE = 224
WIDTH = 0.125
EPOCHS = 9
BATCH = 8


def write_detection_data(folder: Path, seeds: tuple[int, ...] = SEEDS) -> Path:
    """Pictures and labels in ultralytics' layout (1,760 to train, 120 of the last seed to validate); the path of its yaml."""
    for seed, scene in [(number, scene) for number in seeds for scene in plan(number, COUNTS, LARGE_SHARE)]:
        if scene.split == "dev" and seed != seeds[-1]:
            continue
        split = "val" if scene.split == "dev" else "train"
        images, labels = folder / "images" / split, folder / "labels" / split
        images.mkdir(parents=True, exist_ok=True)
        labels.mkdir(parents=True, exist_ok=True)
        picture, flags = render(scene, seed)
        name = f"{seed}-{scene.scene_id}"
        picture.save(images / f"{name}.png", compress_level=1)
        lines = []
        for flag in flags:
            x0, y0, x1, y1 = (value / SIZE for value in flag.box)
            lines.append(f"0 {(x0 + x1) / 2:.5f} {(y0 + y1) / 2:.5f} {x1 - x0:.5f} {y1 - y0:.5f}\n")
        (labels / f"{name}.txt").write_text("".join(lines))
    data = folder / "data.yaml"
    data.write_text(
        json.dumps({"path": str(folder), "train": "images/train", "val": "images/val", "names": {0: "flag"}})
    )
    return data


def train_yolo(path: Path, epochs: int = EPOCHS) -> dict[str, float]:
    """Train, write the weights to `path` without any trace of this machine, and return mAP50 and mAP50-95."""
    os.environ["YOLO_OFFLINE"] = "true"
    from ultralytics import YOLO
    from ultralytics.nn.tasks import yaml_model_load

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = write_detection_data(folder)
        architecture = dict(yaml_model_load("yolov8.yaml"), nc=1, scales={"n": [0.33, WIDTH, 1024]})
        for key in ("yaml_file", "scale"):
            architecture.pop(key, None)
        recipe = folder / "yolov8n.yaml"
        recipe.write_text(json.dumps(architecture))
        model = YOLO(str(recipe), task="detect")
        model.train(
            data=str(data), epochs=epochs, imgsz=IMAGE_SIZE, batch=BATCH, device="cpu", workers=0, amp=False,
            plots=False, seed=0, deterministic=True, optimizer="AdamW", lr0=4e-3, lrf=0.02, warmup_epochs=1.0,
            mosaic=0.0, scale=0.25, cache="ram", translate=0.1, fliplr=0.5, hsv_h=0.01, project=str(folder),
            name="train", exist_ok=True, verbose=False, val=False,
        )  # fmt: skip
        _publish(folder / "train" / "weights" / "last.pt", path)
        figures = YOLO(str(path)).val(
            data=str(data), imgsz=IMAGE_SIZE, batch=BATCH, device="cpu", workers=0, plots=False, verbose=False,
            project=str(folder), name="val",
        )  # fmt: skip
    return {"mAP50": round(float(figures.box.map50), 4), "mAP50-95": round(float(figures.box.map), 4)}


def _publish(trained: Path, path: Path) -> None:
    """Keep the model alone, in float16: no optimizer, no paths, no dates."""
    import torch

    checkpoint: dict[str, Any] = torch.load(trained, map_location="cpu", weights_only=False)
    model = (checkpoint.get("ema") or checkpoint["model"]).half()
    for parameter in model.parameters():
        parameter.requires_grad = False
    model.yaml["yaml_file"] = "yolov8n.yaml"
    model.args = {"task": "detect", "imgsz": IMAGE_SIZE}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": model, "train_args": {"task": "detect", "imgsz": IMAGE_SIZE}, "epoch": -1}, path)


def main(argv: list[str] | None = None) -> None:
    """Command line: `python -m gemkr.sample.train_yolo FILE.pt`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    args = parser.parse_args(argv)
    import torch

    torch.set_num_threads(1)
    began = time.perf_counter()
    figures = train_yolo(args.path, args.epochs)
    print(json.dumps(figures | {"seconds": round(time.perf_counter() - began)}))


if __name__ == "__main__":
    main()
