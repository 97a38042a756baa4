"""Keeps the figures of a card in results/ and writes the table of docs/performance.md; nothing else writes there.

    python -m benchmarks.gpu.table [OUT/figures.json]

Without a file it writes the table of what is kept.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gemkr.files import write_atomically

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
DOCUMENT = HERE.parents[1] / "docs" / "performance.md"
BEGIN, END = "<!-- benchmarks.gpu.table -->", "<!-- end -->"
UNKNOWN = "not measured yet"
LARGEST, SHOWN = 4, 40
"""Of the kernels of a step: how many are shown, and how much of their names."""
ROWS: tuple[tuple[str, str, str], ...] = (
    ("7B, 10 beams, index on the host, queries/s", "decode_7b.host.queries_per_second", "{:.0f}"),
    (
        "index on the device; whole search; its steps as graphs",
        "decode_7b.device.queries_per_second decode_7b.search.queries_per_second decode_7b.graph.queries_per_second",
        "{:.0f}",
    ),
    (
        "any token; `generate`",
        "decode_7b.unconstrained.queries_per_second decode_7b.generate.queries_per_second",
        "{:.0f}",
    ),
    (
        "step, ms: host; whole search; graph",
        "decode_7b.host.step_ms decode_7b.search.step_ms decode_7b.graph.step_ms",
        "{:.1f}",
    ),
    (
        "constraint of it, host; device",
        "decode_7b.host.constraint_share decode_7b.device.constraint_share",
        "{:.1%}",
    ),
    (
        "waits a step, host; device; whole search",
        "profile.host.waits_per_step profile.device.waits_per_step profile.search.waits_per_step",
        "{:.1f}",
    ),
    ("where a step goes, host", "profile.host.shares", "{:.0%}"),
    ("where it goes, whole search", "profile.search.shares", "{:.0%}"),
    (
        "1B; tiny, queries/s",
        "decode_1b.host.queries_per_second decode_tiny.host.queries_per_second",
        "{:.0f}",
    ),
    ("7B, 10^9 tokens, queries/s", "decode_large.7b.queries_per_second", "{:.0f}"),
    (
        "1B; tiny, graph, queries/s",
        "decode_1b.graph.queries_per_second decode_tiny.graph.queries_per_second",
        "{:.0f}",
    ),
    ("index of a step on the device, ms", "decode_7b.search.constraint_ms", "{:.2f}"),
    ("LoRA at 7B, 144 K samples, minutes", "finetune.whole.minutes_of_144k", "{:.0f}"),
    ("LLaVA-1.5-7B, queries/s", "vlm.queries_per_second", "{:.0f}"),
    ("ViT-L/14, pictures/s; texts/s", "embed.pictures_per_second embed.texts_per_second", "{:.0f}"),
    ("MaxSim, documents/s", "late_interaction.documents_per_second", "{:.0f}"),
    ("exact search of 10^6, queries/s", "search.queries_per_second", "{:.0f}"),
)
"""What a row is called, where its figures lie, and how they are written."""


def keep(figures: dict[str, Any], results: Path = RESULTS) -> Path:
    """Keep the parts that were measured under the card's name, beside what is kept of it; ValueError for a dry run."""
    machine = figures["machine"]
    if machine["dry"]:
        raise ValueError("these are the figures of a dry run, which belong to no card")
    results.mkdir(exist_ok=True)
    path = results / f"{re.sub(r'[^A-Za-z0-9]+', '-', machine['card'])}.json"
    kept = json.loads(path.read_text(encoding="utf-8"))["parts"] if path.is_file() else {}
    kept |= {name: part for name, part in figures["parts"].items() if "figures" in part}
    write_atomically(path, json.dumps({"machine": machine, "parts": kept}, indent=2) + "\n")
    return path


def table(cards: Sequence[dict[str, Any]]) -> str:
    """A column for each card; without any, that nothing is measured."""
    if not cards:
        return f"| | H200, H100 |\n| --- | --- |\n| decoding, fine-tuning, embedding, search | {UNKNOWN} |"
    heads = [f"{c['machine']['card']}, {c['machine']['date']}, {c['machine']['commit']}" for c in cards]
    lines = [f"| | {' | '.join(heads)} |", "| --- |" + " --- |" * len(cards)]
    for name, places, form in ROWS:
        cells = [_cell(card["parts"], places.split(), form) for card in cards]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def written(document: str, cards: Sequence[dict[str, Any]]) -> str:
    """The document with the table between its marks."""
    before, rest = document.split(BEGIN)
    return f"{before}{BEGIN}\n\n{table(cards)}\n\n{END}{rest.split(END, 1)[1]}"


def cards(results: Path = RESULTS) -> list[dict[str, Any]]:
    """What is kept, card by card."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*.json"))]


def _cell(parts: dict[str, Any], places: Sequence[str], form: str) -> str:
    found = [_figure(parts, place) for place in places]
    return "; ".join(UNKNOWN if value is None else _words(value, form) for value in found)


def _words(value: Any, form: str) -> str:
    """A figure, or the largest shares among several."""
    if not isinstance(value, dict):
        return form.format(value)
    first = sorted(value.items(), key=lambda pair: -pair[1])[:LARGEST]
    return ", ".join(f"{name[:SHOWN]} {form.format(share)}" for name, share in first)


def _figure(parts: dict[str, Any], place: str) -> Any:
    part, *names = place.split(".")
    value = parts.get(part, {}).get("figures")
    for name in names:
        value = None if value is None else value.get(name)
    return value


if __name__ == "__main__":
    for given in sys.argv[1:]:
        print(keep(json.loads(Path(given).read_text(encoding="utf-8"))))
    write_atomically(DOCUMENT, written(DOCUMENT.read_text(encoding="utf-8"), cards()))
