"""A second task of the sample, with pictures as documents: find the held-out scenes that show a country's flag.

    everything.jsonl     the passages, and the test scenes as documents without a text
    scenes.txt           the pool of the task: the scenes
    scene_queries.jsonl  for each country that some test scene shows: its name, and these scenes

Only large flags can be told from a whole picture of 64 x 64, so the gold scenes are those of one large flag.
"""

from __future__ import annotations

import json
from pathlib import Path

from gemkr.files import write_atomically
from gemkr.sample.corpus import documents
from gemkr.sample.facts import countries
from gemkr.sample.plan import plan

POOL = "scenes"


def write_scene_task(folder: str | Path, seed: int = 0) -> int:
    """Write the three files into the sample's folder; returns the number of queries."""
    folder = Path(folder)
    scenes = [scene for scene in plan(seed) if scene.split == "test"]
    rows: list[dict[str, object]] = [{"id": doc_id, "text": text} for doc_id, text in documents().items()]
    rows += [{"id": scene.scene_id, "image": scene.scene_id} for scene in scenes]
    gold = {
        name: [scene.scene_id for scene in scenes if scene.large and name in scene.flags]
        for name in countries()
    }
    queries = [
        {"query_id": f"find-{name.lower()}", "question": name, "positives": found, "pool": POOL}
        for name, found in gold.items()
        if found
    ]
    write_atomically(folder / "everything.jsonl", _lines(rows))
    write_atomically(folder / "scenes.txt", "".join(f"{scene.scene_id}\n" for scene in scenes))
    write_atomically(folder / "scene_queries.jsonl", _lines(queries))
    return len(queries)


def _lines(rows: list[dict[str, object]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
