"""The control that keeps documents with an answer, and runs read from files, as sections of an evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gemkr.cli import main
from gemkr.data.documents import DocumentStore
from gemkr.data.records import read_records
from gemkr.errors import ConfigError
from gemkr.retrievers.lexical import BM25Retriever
from gemkr.retrievers.oracle import OracleRetriever
from gemkr.retrievers.saved import SavedRetriever
from gemkr.scorers.bm25 import BM25
from gemkr.testing import toy_corpus
from gemkr.types import Hit, Query

DOCUMENTS = DocumentStore(toy_corpus())
LEXICAL = BM25Retriever(BM25(DOCUMENTS), DOCUMENTS.doc_ids)
QUERY = Query("1", "What is the capital known for and what hunts ?", answers=("tea", "night"))


def test_an_oracle_keeps_the_documents_with_an_answer_in_their_order() -> None:
    (whole,) = LEXICAL.retrieve([QUERY], 12)
    (kept,) = OracleRetriever(LEXICAL, DOCUMENTS, depth=12, match="word").retrieve([QUERY], 12)
    holders = {"d3", "d5", "d8", "d10"}
    assert {hit.doc_id for hit in kept.hits} == holders
    assert kept.hits == tuple(hit for hit in whole.hits if hit.doc_id in holders)
    (two,) = OracleRetriever(LEXICAL, DOCUMENTS, depth=12, match="word").retrieve([QUERY], 2)
    assert two.hits == kept.hits[:2]
    (shallow,) = OracleRetriever(LEXICAL, DOCUMENTS, depth=1, match="word").retrieve([QUERY], 9)
    assert len(shallow.hits) <= 1
    (allowed,) = OracleRetriever(LEXICAL, DOCUMENTS, depth=12, match="word").retrieve(
        [QUERY], 9, allowed={"d3", "d0"}
    )
    assert [hit.doc_id for hit in allowed.hits] == ["d3"]
    (none,) = OracleRetriever(LEXICAL, DOCUMENTS, depth=12, match="word").retrieve(
        [Query("2", "known for ?")], 9
    )
    assert none.hits == ()
    with pytest.raises(ConfigError, match="the match 'words' is unknown"):
        OracleRetriever(LEXICAL, DOCUMENTS, depth=12, match="words")


def test_a_saved_run_gives_what_it_holds() -> None:
    saved = SavedRetriever({"1": [Hit("d3", 2.0), Hit("d5", 1.0), Hit("d0", 0.5)]})
    first, second = saved.retrieve([QUERY, Query("9", "unknown")], 2)
    assert ([hit.doc_id for hit in first.hits], second.hits) == (["d3", "d5"], ())
    (allowed,) = saved.retrieve([QUERY], 2, allowed={"d5", "d0"})
    assert [hit.doc_id for hit in allowed.hits] == ["d5", "d0"]


def test_a_saved_run_is_evaluated_under_another_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(f"{d.doc_id},{d.text}\n" for d in toy_corpus())
    (tmp_path / "corpus.csv").write_text(f"kid,text\n{rows}")
    query = {"query_id": "1", "question": QUERY.question, "answers": list(QUERY.answers)}
    (tmp_path / "queries.jsonl").write_text(json.dumps(query) + "\n")
    config = tmp_path / "eval.yaml"
    config.write_text(
        "corpus: corpus.csv\nqueries: queries.jsonl\noutput: out\nmetrics: [S@1]\nretrievers:\n  bm25: bm25\n"
        "  again: {kind: saved, run: out/bm25/run.trec}\n"
    )
    assert main(["eval", str(config), "evaluate=[bm25]"]) == 0
    assert main(["eval", str(config), "evaluate=[again]"]) == 0
    hits = [
        [
            (hit.doc_id, round(hit.score, 4))
            for hit in next(read_records(tmp_path / "out" / name / "run.jsonl")).hits
        ]
        for name in ("bm25", "again")
    ]
    assert hits[0] == hits[1]
    (tmp_path / "other.trec").write_text("7 Q0 d1 1 0.5 x\n")
    capsys.readouterr()
    assert (
        main(
            [
                "eval",
                str(config),
                "evaluate=[again]",
                f"retrievers.again.run={tmp_path}/other.trec",
                "--restart",
            ]
        )
        == 1
    )
    assert "holds none of the 1 queries, such as '1'; name a run over these" in capsys.readouterr().err
    (tmp_path / "other.trec").write_text("1 Q0 d99 1 0.5 x\n")
    assert (
        main(
            [
                "eval",
                str(config),
                "evaluate=[again]",
                f"retrievers.again.run={tmp_path}/other.trec",
                "--restart",
            ]
        )
        == 1
    )
    assert "the document id 'd99' is not among the 12 documents" in capsys.readouterr().err


def test_a_finished_run_answers_no_new_questions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor does the service, whose questions have numbers that may be those of a run's queries."""
    rows = "".join(f"{d.doc_id},{d.text}\n" for d in toy_corpus())
    (tmp_path / "corpus.csv").write_text(f"kid,text\n{rows}")
    (tmp_path / "numbers.trec").write_text("1 Q0 d1 1 0.5 x\n")
    config = tmp_path / "eval.yaml"
    config.write_text(
        "corpus: corpus.csv\nretrievers:\n  bm25: bm25\n  again: {kind: saved, run: numbers.trec}\n"
        "  both: {kind: fusion, of: [again, bm25]}\n"
    )
    for name in ("again", "both"):
        for command in (
            ["ask", str(config), "x", "--retriever", name],
            ["serve", str(config), "--check", f"serve.retrievers=[{name}]"],
        ):
            assert main(command) == 1
            assert (
                f"the retriever '{name}', or one that it is over, knows answers to" in capsys.readouterr().err
            )
    assert main(["serve", str(config), "--check"]) == 0
    assert capsys.readouterr().out.startswith("bm25: ")
