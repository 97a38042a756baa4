"""What several seeds of one configuration have in common: means, their spread, and the test against the best simple opponent.

Reads the folders that `gemkr eval` wrote, one for each seed, and knows nothing of how they came about.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gemkr.evaluation.files import write_atomically
from gemkr.evaluation.significance import PairedTest, paired_test

METRICS = ("P@5", "S@1", "S@5", "S@10", "D@10")
TESTED = ("P@5", "S@5", "S@10")
RETRIEVER = "generative"
OPPONENT = "answer_classifier_coverage"
"""The best of the simple opponents: the answer classifier alone, with greedy coverage."""

Rows = dict[str, dict[str, float]]
"""Of each retriever, a value by metric."""


def conclude(home: Path, seeds: int) -> None:
    """Print the table over the seeds and the tests, and keep the table as `summary.json`."""
    folders = [home / f"seed{seed}" / "eval" for seed in range(seeds)]
    summary = summarize(folders)
    write_atomically(home / "summary.json", json.dumps(summary, indent=1) + "\n")
    if OPPONENT in summary:
        compare(folders)


def summarize(folders: Sequence[Path]) -> Rows:
    """Mean and standard deviation over the seeds of each retriever that all of them have, printed as a table."""
    runs = [json.loads((folder / "metrics.json").read_text())["rows"] for folder in folders]
    summary: Rows = {}
    print(f"\n{len(runs)} seeds, mean (standard deviation)")
    print(f"{'':<28}" + "".join(f"{metric:>16}" for metric in METRICS))
    for name in [name for name in runs[0] if all(name in run for run in runs)]:
        cells = []
        for metric in METRICS:
            values = [run[name][metric] for run in runs]
            mean = math.fsum(values) / len(values)
            spread = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / max(1, len(values) - 1))
            summary.setdefault(name, {}).update({metric: mean, f"{metric} spread": spread})
            cells.append(f"{mean:.3f} ({spread:.3f})")
        print(f"{name:<28}" + "".join(f"{cell:>16}" for cell in cells))
    return summary


def compare(folders: Sequence[Path]) -> dict[str, dict[str, PairedTest]]:
    """Paired tests against the opponent, printed: each seed against the opponent of its own seed, and `all`, where a
    question counts with its means over the seeds on either side."""
    values = [[per_query(folder, name) for name in (RETRIEVER, OPPONENT)] for folder in folders]
    compared = {folder.parent.name: [value] for folder, value in zip(folders, values, strict=True)}
    tests: dict[str, dict[str, PairedTest]] = {}
    print(f"\n{RETRIEVER} less {OPPONENT}: difference (p of the paired randomization test)")
    print(f"{'':<28}" + "".join(f"{metric:>20}" for metric in TESTED))
    for name, chosen in {**compared, "all": values}.items():
        ours, theirs = np.mean(chosen, axis=0)
        tests[name] = {metric: paired_test(theirs[i], ours[i]) for i, metric in enumerate(TESTED)}
        cells = [f"{test.difference:+.3f} (p {test.p_value:.4f})" for test in tests[name].values()]
        print(f"{name:<28}" + "".join(f"{cell:>20}" for cell in cells))
    return tests


def per_query(folder: Path, retriever: str) -> np.ndarray:
    """float64[metrics, queries]: what a retriever has of each tested metric, queries by name."""
    lines = (folder / "per_query.jsonl").read_text(encoding="utf-8").splitlines()
    found = sorted((json.loads(line) for line in lines), key=lambda row: row["query_id"])
    return np.array([[row["rows"][retriever][m] for row in found] for m in TESTED], dtype=np.float64)
