"""Scoring a run as UniIR writes it (seven columns, M-BEIR's qrels of five) equals ir_measures to the last digit."""

from __future__ import annotations

import json
from pathlib import Path

import ir_measures
import numpy as np
import pytest

from gemkr.cli import main

THEIRS = {"S@1": "Success@1", "S@5": "Success@5", "S@10": "Success@10", "R@5": "R@5", "P@5": "P@5", "MRR@20": "RR", "MAP": "AP", "nDCG@10": "nDCG@10"}  # fmt: skip
SUMS = ("MAP", "nDCG@10")
"""Sums of several terms, whose last bit depends on the order they are added in."""


@pytest.mark.parametrize("seed", range(3))
def test_every_value_is_theirs(tmp_path: Path, seed: int, capsys: pytest.CaptureFixture) -> None:
    """Scores repeat, as those of half precision do (RR has no cut-off here, since with one ir_measures does not order ties as trec_eval); some queries are missing, some judged documents are never found."""
    random = np.random.default_rng(seed)
    lines, judged, scored, qrels = [], [], [], []
    for query in range(60):
        query_id = f"9:{query}"
        for doc in random.permutation(40)[: random.integers(1, 6)]:
            grade = int(random.integers(0, 2)) if doc % 3 else 1
            judged.append(f"{query_id} 0 9:{doc} {grade} 0\n")
            qrels.append(ir_measures.Qrel(query_id, f"9:{doc}", grade))
        if query % 11 == 0:
            continue
        found = np.sort(np.float16(random.random(20)).round(2))[::-1]
        for rank, (doc, score) in enumerate(zip(random.permutation(40)[:20], found, strict=True), 1):
            lines.append(f"{query_id} Q0 9:{doc} {rank} {score} mbeir_mscoco_task0_test 0\n")
            scored.append(ir_measures.ScoredDoc(query_id, f"9:{doc}", float(score)))
    (tmp_path / "run.txt").write_text("".join(lines))
    (tmp_path / "qrels.txt").write_text("".join(judged))
    output = tmp_path / "scores.json"
    files = [str(tmp_path / name) for name in ("run.txt", "qrels.txt")]
    assert main(["score", *files, "--metrics", *THEIRS, "--json", str(output)]) == 0
    result = json.loads(output.read_text())
    (values,) = result["queries"].values()
    measures = {ir_measures.parse_measure(name): own for own, name in THEIRS.items()}
    compared = 0
    for found in ir_measures.iter_calc(list(measures), qrels, scored):
        name = measures[found.measure]
        exact = found.value if name not in SUMS else pytest.approx(found.value, rel=1e-15)
        assert values[found.query_id][name] == exact, found
        compared += 1
    assert compared >= 54 * len(THEIRS)
