"""Writes the sample's data into a folder: corpus, pictures, questions of all splits, gold passages, boxes.

    corpus.csv                          kid,text
    images/SCENE.jpg                    200 x 200
    scenes.jsonl                        scene, split, large, flags from left to right with place and box
    train|dev|test.jsonl                questions; test holds the held-out scenes
    held_out_combinations.jsonl         one question per held-out scene, of a combination never asked in training
    *.qrels                             TREC, one gold passage per question
    manifest.json                       seed and counts; written last, so that its presence means a whole folder

Nothing is downloaded and no model is needed.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gemkr.files import require_writable_folder, write_atomically
from gemkr.progress import progress_bar
from gemkr.sample.corpus import corpus_csv, documents
from gemkr.sample.plan import SCENES, Scene, plan
from gemkr.sample.questions import make_questions
from gemkr.sample.scenes import render

HELD_OUT = "held_out_combinations"
JPEG_QUALITY = 92


def materialize(folder: str | Path, seed: int = 0, progress: bool = True) -> dict[str, Any]:
    """Write everything and return the manifest: about 20 seconds, the same files for the same seed.

    A folder whose manifest already names this seed is left unchanged. Raises DataError when it cannot be written.
    """
    folder = require_writable_folder(folder)
    manifest_path = folder / "manifest.json"
    scenes = plan(seed)
    questions = split_questions(scenes, seed)
    manifest = {
        "seed": seed,
        "documents": len(documents()),
        "scenes": SCENES,
        "questions": {name: len(rows) for name, rows in questions.items()},
    }
    if manifest_path.is_file() and json.loads(manifest_path.read_text(encoding="utf-8")) == manifest:
        return manifest
    manifest_path.unlink(missing_ok=True)
    write_atomically(folder / "corpus.csv", corpus_csv())
    for name, rows in questions.items():
        write_atomically(folder / f"{name}.jsonl", _jsonl(rows))
        qrels = (f"{row['query_id']} 0 {gold} 1\n" for row in rows for gold in row["positives"])
        write_atomically(folder / f"{name}.qrels", "".join(qrels))
    images = require_writable_folder(folder / "images")
    rows = []
    for scene in progress_bar(scenes, "scenes", unit="picture", disable=not progress):
        picture, flags = render(scene, seed)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
        (images / f"{scene.scene_id}.jpg").write_bytes(buffer.getvalue())
        rows.append(
            {
                "scene": scene.scene_id,
                "split": scene.split,
                "large": scene.large,
                "flags": [{"country": f.country, "place": f.place, "box": list(f.box)} for f in flags],
            }
        )
    write_atomically(folder / "scenes.jsonl", _jsonl(rows))
    write_atomically(manifest_path, json.dumps(manifest, indent=1) + "\n")
    return manifest


def split_questions(scenes: Iterable[Scene], seed: int = 0) -> dict[str, list[dict[str, Any]]]:
    """Question rows by split: train, dev, test (main figure) and held_out_combinations, the latter over test scenes."""
    scenes = list(scenes)
    rows = {
        split: make_questions((scene for scene in scenes if scene.split == split), seed=seed)
        for split in SCENES
    }
    held_out_scenes = (scene for scene in scenes if scene.split == "test")
    rows[HELD_OUT] = make_questions(held_out_scenes, held_out=True, seed=seed)
    return rows


def _jsonl(rows: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def main(argv: list[str] | None = None) -> None:
    """Command line: `python -m gemkr.sample.materialize FOLDER [--seed N]`."""
    import argparse

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    print(json.dumps(materialize(args.folder, args.seed)))


if __name__ == "__main__":
    main()
