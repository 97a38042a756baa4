"""A second task of the sample, with pictures as documents: find the held-out scenes that show a country's flag.

    everything.jsonl     the passages, and the test scenes as documents without a text
    scenes.txt           the pool of the task: the scenes
    scene_queries.jsonl  for each country that some test scene shows: its name, and these scenes
    scene_training.jsonl, scene_pictures.jsonl   the same of the training scenes, and these as documents

Only large flags can be told from a whole picture of 64 x 64, so the gold scenes are those of one large flag.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gemkr.files import write_atomically
from gemkr.sample.corpus import documents
from gemkr.sample.facts import countries

POOL = "scenes"


def write_scene_task(folder: str | Path) -> int:
    """Write the files beside the `scenes.jsonl` of a folder of `materialize`; returns the number of queries."""
    folder = Path(folder)
    scenes = [*map(json.loads, (folder / "scenes.jsonl").read_text(encoding="utf-8").splitlines())]
    tested, learned = ([s for s in scenes if s["split"] == split] for split in ("test", "train"))
    rows: list[dict[str, object]] = [{"id": doc_id, "text": text} for doc_id, text in documents().items()]
    queries = [query | {"pool": POOL} for query in _queries(tested)]
    write_atomically(folder / "everything.jsonl", _lines(rows + _pictures(tested)))
    write_atomically(folder / "scenes.txt", "".join(f"{scene['scene']}\n" for scene in tested))
    write_atomically(folder / "scene_queries.jsonl", _lines(queries))
    write_atomically(folder / "scene_training.jsonl", _lines(_queries(learned)))
    write_atomically(folder / "scene_pictures.jsonl", _lines(_pictures(learned)))
    return len(queries)


def _queries(scenes: list[dict[str, Any]]) -> list[dict[str, object]]:
    """For each country with a large flag in some scene: its name, and these scenes."""
    gold: dict[str, list[str]] = {name: [] for name in countries()}
    for scene in scenes:
        if scene["large"]:
            gold[scene["flags"][0]["country"]].append(scene["scene"])
    return [
        {"query_id": f"find-{name.lower()}", "question": name, "positives": found}
        for name, found in gold.items()
        if found
    ]


def _pictures(scenes: list[dict[str, Any]]) -> list[dict[str, object]]:
    """Scenes as documents without a text."""
    return [{"id": scene["scene"], "image": scene["scene"]} for scene in scenes]


def _lines(rows: list[dict[str, object]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
