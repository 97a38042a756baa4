"""Trains all base models of the embedded sample again: `python -m gemkr.sample.make_models` (about half an hour).

Each goes through its own script, one after the other, on one CPU thread; figures and seconds end up in
`training.json` beside the models.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from gemkr.files import write_atomically
from gemkr.sample import models_folder

PARTS = ("llm", "yolo", "clip")


def make_models(folder: Path, parts: tuple[str, ...] = PARTS) -> dict[str, dict[str, object]]:
    """Train the parts into `folder`, write down their figures and return them."""
    import torch

    torch.set_num_threads(1)
    record = folder / "training.json"
    figures = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    folder.mkdir(parents=True, exist_ok=True)
    for part in parts:
        began = time.perf_counter()
        found = _make(part, folder)
        figures[part] = {**found, "seconds": round(time.perf_counter() - began)}
        write_atomically(record, json.dumps(figures, indent=1) + "\n")
    return figures


def _make(part: str, folder: Path) -> dict[str, object]:
    if part == "llm":
        from gemkr.sample.pretrain_llm import pretrain

        return pretrain(folder / "llm")
    if part == "yolo":
        from gemkr.sample.train_yolo import train_yolo

        return dict(train_yolo(folder / "flags.pt"))
    from gemkr.sample.train_clip import train_clip

    return train_clip(folder)


def main(argv: list[str] | None = None) -> None:
    """Command line: all parts by default, into the sample's own folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=models_folder())
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    args = parser.parse_args(argv)
    print(json.dumps(make_models(args.folder, tuple(args.parts)), indent=1))


if __name__ == "__main__":
    main()
