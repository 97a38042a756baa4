"""What a quickstart evaluates: the questions, settings and title of each row, and the rows' figures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

METRICS = ("S@1", "S@5", "P@5", "D@10")
ROWS = {
    "full": ("test", ()),
    "no_regions": ("test", ("regions=null", "clue_control=false")),
    "no_picture": ("test", ("images=null", "regions=null", "clue_control=false")),
    "no_index": ("test", ("evaluate=[free_text]",)),
    "bm25": ("test", ("evaluate=[bm25]",)),
    "fusion": ("test", ("evaluate=[fusion]",)),
    "unseen_facts": ("held_out_combinations", ("clue_control=false",)),
    "unseen_no_index": ("held_out_combinations", ("evaluate=[free_text]",)),
}
"""The evaluations: their questions, and what changes of the packaged configuration."""
TOKENS = "preflmr"
"""The row of late interaction, which learns and is evaluated under packaged configurations of its own."""
SCENES = {"find_scenes": "quickstart_scenes", "find_scenes_vlm": "quickstart_vlm"}
"""The rows of the second task, in which pictures are found by a text, and their packaged configurations."""
TITLES = {
    "full": "gemkr",
    "random_document": "the same clues, a random document of each",
    "no_regions": "without regions",
    "no_picture": "without the picture",
    "no_index": "without the FM-index",
    "bm25": "BM25 of the question",
    "fusion": "gemkr and BM25, fused by rank",
    "unseen_facts": "gemkr, facts never asked for in training",
    "unseen_no_index": "the same without the FM-index",
    TOKENS: "late interaction: a miniature PreFLMR",
    "find_scenes": "another task, clip_sf: find the scene of a country's large flag by its name",
    "find_scenes_vlm": "the same task: a miniature LLaVA as embedder",
}


def rows_of(output: Path) -> Iterator[tuple[bool, dict[str, Any]]]:
    """The rows of an evaluation, and whether each is the main retriever's: the other is its clues under the control."""
    result = json.loads((output / "metrics.json").read_text(encoding="utf-8"))
    for name, row in result["rows"].items():
        yield name == result["main"], {metric: row[metric] for metric in (*METRICS, "queries")}


def table(rows: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The lines that show the figures of all rows."""
    yield f"{'':<22}" + "".join(f"{metric:>8}" for metric in (*METRICS, "queries"))
    for name, row in rows.items():
        yield f"{name:<22}" + "".join(f"{row[metric]:>8.3f}" for metric in METRICS) + f"{row['queries']:>8}"
