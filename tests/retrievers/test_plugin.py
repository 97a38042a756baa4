"""A retriever of one's own: one class in one file outside the package, evaluated through YAML, and what can go wrong there."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from gemkr.cli import main
from gemkr.testing import toy_corpus

OWN = '''
"""Ranks documents by the number of letters they share with the question."""
from dataclasses import dataclass
from pathlib import Path

from gemkr.errors import ModelError
from gemkr.types import Hit, Ranking


class Letters:
    """Letters in common."""

    @dataclass(frozen=True)
    class Config:
        """`weights` is a file with the letters that count, which is learned elsewhere."""

        weights: str
        stop_at: str = ""

    def __init__(self, letters, documents, stop_at):
        self.letters, self.documents, self.stop_at = set(letters), documents, stop_at

    @classmethod
    def from_config(cls, config, sources):
        if not Path(config.weights).exists():
            raise ModelError(f"the letters {config.weights} are not there; learn them with python -m letters FILE")
        return cls(Path(config.weights).read_text().strip(), sources.documents, config.stop_at)

    @staticmethod
    def input_files(config):
        return {"weights": config.weights}

    def retrieve(self, queries, k, *, allowed=None):
        for query in queries:
            if Path("stop").exists() and query.query_id == self.stop_at:
                raise KeyboardInterrupt
            letters = self.letters & set(query.question.lower())
            scored = [
                Hit(d.doc_id, len(letters & set(d.text.lower())) + 1 / (n + 2))
                for n, d in enumerate(self.documents)
                if allowed is None or d.doc_id in allowed
            ]
            yield Ranking(query.query_id, tuple(sorted(scored, key=lambda hit: -hit.score)[:k]))


class NoRetriever:
    """Has neither settings nor a method retrieve."""
'''

YAML = """
corpus: corpus.jsonl
queries: queries.jsonl
qrels: qrels.txt
output: runs
metrics: [S@1, MRR@10]
retrievers:
  letters: {kind: "letters:Letters", weights: letters.txt, stop_at: q2}
  bm25: {kind: bm25}
  both: {kind: fusion, of: [letters, bm25]}
evaluate: [letters, bm25, both]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    corpus = [{"id": d.doc_id, "text": d.text} for d in toy_corpus()]
    queries = [
        {"query_id": f"q{n}", "question": f"Tell me of {row['text']}"} for n, row in enumerate(corpus[:5])
    ]
    for name, rows in (("corpus", corpus), ("queries", queries)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "qrels.txt").write_text("".join(f"q{n} 0 d{n} 1\n" for n in range(5)))
    (tmp_path / "letters.py").write_text(OWN)
    (tmp_path / "letters.txt").write_text("abcdefghijklmnopqrstuvwxyz")
    (tmp_path / "own.yaml").write_text(YAML)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    sys.modules.pop("letters", None)


def test_it_is_evaluated_resumed_reported_and_tested(folder: Path, capsys: pytest.CaptureFixture) -> None:
    (folder / "stop").touch()
    assert main(["eval", "own.yaml"]) == 130
    run = folder / "runs" / "letters" / "run.jsonl"
    assert len(run.read_text().splitlines()) == 2
    (folder / "stop").unlink()
    capsys.readouterr()
    assert main(["eval", "own.yaml"]) == 0
    captured = capsys.readouterr()
    assert "letters - bm25" in captured.out
    assert "letters - both" in captured.out
    assert [json.loads(line)["query_id"] for line in run.read_text().splitlines()] == [
        f"q{n}" for n in range(5)
    ]
    resumed = {name: (folder / "runs" / name / "run.trec").read_bytes() for name in ("letters", "both")}
    metrics = json.loads((folder / "runs" / "metrics.json").read_text())
    assert metrics["main"] == "letters"
    assert metrics["rows"].keys() == {"letters", "bm25", "both"}
    assert metrics["rows"]["letters"]["queries"] == 5
    assert metrics["tests"].keys() == {"bm25", "both"}
    report = (folder / "runs" / "report.html").read_text()
    assert "letters" in report
    assert "sushi" in report
    assert main(["eval", "own.yaml", "output=again"]) == 0
    assert {name: (folder / "again" / name / "run.trec").read_bytes() for name in resumed} == resumed


def test_a_run_of_other_letters_is_not_gone_on_with(folder: Path, capsys: pytest.CaptureFixture) -> None:
    """What `input_files` names and what `Config` holds decides whether a run may be continued, also below a fusion."""
    assert main(["eval", "own.yaml"]) == 0
    capsys.readouterr()
    (folder / "letters.txt").write_text("aeiou")
    assert main(["eval", "own.yaml"]) == 1
    assert "weights" in capsys.readouterr().err
    assert main(["eval", "own.yaml", "evaluate=[both]"]) == 1
    assert "letters.weights" in capsys.readouterr().err
    assert main(["eval", "own.yaml", "--restart"]) == 0


def test_a_question_in_one_line(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["ask", "own.yaml", "xyz sushi", "-k", "1", "--json"]) == 0
    (hit,) = json.loads(capsys.readouterr().out)["hits"]
    assert hit["text"]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["retrievers.letters.kind=dens"], "the kind 'dens' of retriever is unknown; known are generative"),
        (["retrievers.letters.kind=letters:NoRetriever"], "'letters:NoRetriever' is no retriever: it has no retrieve"),
        (["retrievers.letters.kind=letters:Vowels"], "the module 'letters' of the kind 'letters:Vowels' has no 'Vowels'"),
        (["retrievers.letters.kind=lettres:Letters"], "'lettres' of the kind 'lettres:Letters' cannot be imported"),
        (["retrievers.letters.weight=1"], "unknown key 'weight'; the nearest known key is 'weights'"),
        (["retrievers.both.of=[letters,bm52]"], "the retriever 'both' is of 'bm52', which has no section in retrievers"),
        (["retrievers.both.of=[letters,both]"], "both of both is a circle"),
        (
            ["retrievers.one={kind: reranked, of: two, reranker: {kind: pointwise, scorer: bm25}}",
             "retrievers.two={kind: fusion, of: [bm25, one]}"],
            "one of two of one is a circle",
        ),
        (["evaluate=[letters,bm52]"], "evaluate names 'bm52', which has no section in retrievers; there are letters"),
        (["retrievers.Letters={kind: bm25}"], "'letters' and 'Letters' would write into one folder"),
        (["retrievers.letters.weights=nowhere.txt"], "are not there; learn them with python -m letters"),
        (["retrievers.x={k: 1}"], "retrievers.x has no kind; add kind: one of"),
        (["retrievers.d={kind: dense, encoder: bm25}"], "the kind 'bm25' of encoder is unknown"),
        (["retrievers.r={kind: reranked, of: bm25, reranker: bm25}"], "the kind 'bm25' of reranker is unknown"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_sentence(
    folder: Path, capsys: pytest.CaptureFixture, overrides: list[str], sentence: str
) -> None:
    assert main(["eval", "own.yaml", *overrides]) == 1
    *_, error = capsys.readouterr().err.splitlines()
    assert error.startswith("gemkr: ")
    assert sentence in error
    assert not (folder / "runs" / "report.html").exists()
