"""Several seeds of one configuration: means, standard deviations, and the tests against the best baselines.

Reads the folders that `gemkr eval` wrote, one for each seed, and does not depend on how they were made.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gemkr.errors import DataError
from gemkr.evaluation.significance import PairedTest, paired_test
from gemkr.files import write_atomically

METRICS = ("P@5", "S@1", "S@5", "S@10", "D@10")
TESTED = ("P@5", "S@5", "S@10")
RETRIEVER = "generative"
BASELINE = "answer_classifier_coverage"
"""The best of the simple baselines: the answer classifier alone, with greedy coverage."""
SAME_ENCODER = "encoder_classifier_coverage"
"""The answer classifier over the text encoder that a model reads through: one for all seeds, evaluated with the first."""
FIRST_SEED_BASELINES = (SAME_ENCODER, "expert_alone", "learned_scorer")
"""It, the expert under the models' own ranking, and the learned second scorer alone, where the first seed's evaluation has
them."""

Rows = dict[str, dict[str, float]]
"""Of each retriever, a value by metric."""


def report_seeds(home: Path, seeds: int, *, kind: str = "eval", summary: str = "summary.json") -> None:
    """Print the table over the seeds' folders `kind` and the tests against the baselines of their folders `eval`, and keep
    the table in the file `summary`."""
    folders = [home / f"seed{seed}" / kind for seed in range(seeds)]
    evaluated = [home / f"seed{seed}" / "eval" for seed in range(seeds)]
    write_atomically(home / summary, json.dumps(summarize(folders), indent=1) + "\n")
    if all(BASELINE in retrievers_of(folder) for folder in evaluated):
        compare(folders, [(folder, BASELINE) for folder in evaluated])
    for baseline in FIRST_SEED_BASELINES:
        if baseline in retrievers_of(evaluated[0]):
            compare(folders, [(evaluated[0], baseline)] * seeds)


def retrievers_of(folder: Path) -> Rows:
    """The rows of an evaluation."""
    return json.loads((folder / "metrics.json").read_text())["rows"]


def summarize(folders: Sequence[Path]) -> Rows:
    """Mean and standard deviation over the seeds of each retriever that all of them have, printed as a table."""
    runs = [retrievers_of(folder) for folder in folders]
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


def compare(
    folders: Sequence[Path], baselines: Sequence[tuple[Path, str]]
) -> dict[str, dict[str, PairedTest]]:
    """Paired tests, printed: the retriever of each seed's folder against its baseline (a folder, its name there), and `all`,
    where a question counts with its means over the seeds on either side."""
    found = paired(
        [row for folder, row in zip(folders, baselines, strict=True) for row in ((folder, RETRIEVER), row)]
    )
    values = [found[i : i + 2] for i in range(0, len(found), 2)]
    compared = {folder.parent.name: [value] for folder, value in zip(folders, values, strict=True)}
    tests: dict[str, dict[str, PairedTest]] = {}
    print(f"\n{RETRIEVER} less {baselines[0][1]}: difference (p of the paired randomization test)")
    print(f"{'':<28}" + "".join(f"{metric:>20}" for metric in TESTED))
    for name, chosen in {**compared, "all": values}.items():
        own, other = np.mean(chosen, axis=0)
        tests[name] = {metric: paired_test(other[i], own[i]) for i, metric in enumerate(TESTED)}
        cells = [f"{test.difference:+.3f} (p {test.p_value:.4f})" for test in tests[name].values()]
        print(f"{name:<28}" + "".join(f"{cell:>20}" for cell in cells))
    return tests


def paired(rows: Sequence[tuple[Path, str]]) -> list[np.ndarray]:
    """float64[metrics, queries] of each retriever (a folder, its name there): the tested metrics, queries by name.

    Raises DataError where they did not answer the same queries, or a folder has no values of a retriever.
    """
    found = [_per_query(folder, retriever) for folder, retriever in rows]
    for (folder, _), (ids, _) in zip(rows, found, strict=True):
        if ids != found[0][0]:
            raise DataError(
                f"{folder} and {rows[0][0]} did not answer the same queries ({len(ids)} and {len(found[0][0])}); evaluate again"
            )
    return [np.array(values, dtype=np.float64) for _, values in found]


def _per_query(folder: Path, retriever: str) -> tuple[list[str], list[list[float]]]:
    """The queries' names and their values by metric."""
    path = folder / "per_query.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = sorted((json.loads(line) for line in lines), key=lambda row: row["query_id"])
        return [row["query_id"] for row in rows], [
            [row["rows"][retriever][m] for row in rows] for m in TESTED
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} has no values of {retriever!r} by query ({error!r}); evaluate again"
        ) from error
