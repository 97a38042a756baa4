"""What late interaction found, in the report: tokens by weight, and the picture's patches as a heat map."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tiny_flmr import save_tiny_text
from tiny_pictures import save_pictures, save_tiny_clip

from gemkr.cli.ask import marked
from gemkr.config.files import from_mapping
from gemkr.evaluation.config import EvalConfig
from gemkr.evaluation.evaluate import evaluate
from gemkr.evaluation.report.eval_report import write_eval_report
from gemkr.evaluation.report.matches import heat_of, matched_of, weighted
from gemkr.types import Document, Hit, QueryVector, TokenMatch

WHOLE = (0.0, 0.0, 1.0, 1.0)
LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)


def test_weights_and_heat() -> None:
    matches = [
        TokenMatch(QueryVector("cat"), 2, 5, 0.5),
        TokenMatch(QueryVector("[MASK]"), 2, 5, 0.5),
        TokenMatch(QueryVector("picture", WHOLE), 6, 9, 0.25),
        TokenMatch(QueryVector("[CLS]"), 0, 0, 0.9),
        TokenMatch(QueryVector("patch", LEFT, patch=True), 6, 9, 0.25),
        TokenMatch(QueryVector("patch", RIGHT, patch=True), 0, 0, -0.75),
    ]
    assert weighted(matches) == [(2, 5, 1.0), (6, 9, 0.5)]
    twice = [*matches, TokenMatch(QueryVector("[MASK]"), 2, 5, 0.25)]
    found = [(m.start, m.label) for m in matched_of(twice)]
    assert found == [(2, "cat 0.50, [MASK] 0.50 (2)"), (6, "picture 0.25, patch 0.25")]
    heat = heat_of(matches, "a cat sat")
    assert [(h.left, h.weight, h.label) for h in heat] == [(0.0, 1.0, "sat 0.25"), (0.5, 0.0, "patch -0.75")]
    regions = [TokenMatch(QueryVector("region 1", LEFT), 0, 1, s) for s in (0.25, 0.5)]
    assert [(h.right, h.label) for h in heat_of(regions, "a cat")] == [(0.5, "a 0.50")]
    assert heat_of(matches[:2], "a cat") == []


def test_parts_of_a_character_are_one_token() -> None:
    """As a tokenizer of bytes gives them: the white space and the beginning of a character, and its end."""
    matches = [
        TokenMatch(QueryVector("x"), 2, 3, 0.25),
        TokenMatch(QueryVector("y"), 1, 3, 0.5),
        TokenMatch(QueryVector("y"), 0, 1, 0.375),
    ]
    assert weighted(matches) == [(0, 1, 0.5), (1, 3, 1.0)]
    assert [m.label for m in matched_of(matches)] == ["y 0.38", "y 0.50, x 0.25"]
    hit = Hit("d", 1.0, document=Document("d", "a 冲"), matches=tuple(matches))
    assert marked(hit) == "**a**** 冲**"


def test_a_report_shows_what_was_found(tmp_path: Path) -> None:
    save_tiny_text(tmp_path / "bert")
    save_tiny_clip(tmp_path / "clip")
    save_pictures(tmp_path / "images", ["one", "two"])
    rows = [{"id": "d0", "text": "the red cat, one"}, {"id": "d1", "text": "a big green boat"}]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    queries = [
        {"query_id": "q0", "question": "a cat", "image": "one", "positives": ["d0"]},
        {"query_id": "q1", "question": "which boat", "positives": ["d1"]},
    ]
    (tmp_path / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    encoder = {
        "kind": "preflmr", "text": str(tmp_path / "bert"), "vision": str(tmp_path / "clip"), "width": 8, "query_tokens": 8,
        "document_tokens": 12, "image_tokens": 2,
    }  # fmt: skip
    values = {
        "queries": str(tmp_path / "queries.jsonl"), "corpus": str(tmp_path / "corpus.jsonl"), "images": str(tmp_path / "images"),
        "output": str(tmp_path / "eval"), "metrics": ["S@1"], "retrievers": {"own": {"kind": "late_interaction", "encoder": encoder}},
    }  # fmt: skip
    found = evaluate(from_mapping(values, EvalConfig, "test"))
    retriever = found.sources.retriever("own")
    for ranking, query in zip(found.results["own"].rankings.values(), found.sources.queries, strict=True):
        for hit in ranking.hits:
            (matches,) = retriever.explain(query, [found.sources.documents.by_id(hit.doc_id)])
            assert sum(match.score for match in matches) == pytest.approx(hit.score, abs=0.02)
    html = write_eval_report(tmp_path / "report.html", found).read_text()
    assert html.count('<rect class="heat"') == 4
    shown = re.findall(r'<mark class="match" style="--w:([0-9.]+)" title="found by ([^"]+)">', html)
    assert len(shown) >= 4
    assert max(float(weight) for weight, _ in shown) == 1
    named = " ".join(finders for _, finders in shown)
    assert all(word in named for word in ("boat", "[MASK]"))
    assert "token</mark> found by the query's vectors" in html
    assert "written by the model" not in html
    assert "<title>" in html
