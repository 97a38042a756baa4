"""Recall by given documents and pseudo-recall by answers beside each other in one table, by hand and as FLMR's report has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gemkr.cli import main
from gemkr.config.files import from_mapping
from gemkr.errors import ConfigError, DataError
from gemkr.evaluation.config import EvalConfig
from gemkr.evaluation.metrics import evaluate, parse_metrics
from gemkr.evaluation.relevance import make_relevance
from gemkr.evaluation.reranking import weight_curve
from gemkr.types import Hit, Query

BOTH = ["recall@1", "recall@2", "pseudo_recall@1", "pseudo_recall@2"]
TEXTS = {
    "p1": "Paris lies on the Seine",
    "p2": "it is in parisian France",
    "p3": "a great white SHARK",
    "p4": "tea",
}
QUERIES = [
    Query("a", "which town?", answers=("Paris",), positives=("p1", "p4")),
    Query("b", "which fish?", answers=("white shark", "ray"), positives=("p4",)),
    Query("c", "which drink?", answers=("coffee",), positives=("p4",)),
    Query("d", "which other drink?", answers=("cocoa",), positives=("p1",)),
]
RANKED = {"a": ["p2", "p1", "p4"], "b": ["p3", "p4"], "c": ["p4", "p1"], "d": ["p2", "p3", "p1"]}
BY_HAND = {  # recall@1, recall@2, pseudo_recall@1, pseudo_recall@2
    "a": (0, 1, 1, 1),  # one of two given documents is enough; "parisian" holds "paris"
    "b": (0, 1, 1, 1),
    "c": (1, 1, 0, 0),
    "d": (0, 0, 0, 0),
}
RUN = {
    query_id: [Hit(doc_id, -float(rank)) for rank, doc_id in enumerate(docs)]
    for query_id, docs in RANKED.items()
}


def rows(values: dict[str, tuple[int, ...]], names: list[str] = BOTH) -> dict[str, dict[str, float]]:
    return {query_id: dict(zip(names, row, strict=True)) for query_id, row in values.items()}


def test_both_in_one_table_by_hand() -> None:
    relevance = make_relevance(parse_metrics(BOTH), queries=QUERIES, contents=TEXTS.__getitem__)
    scores = relevance.score(RUN)
    assert scores.per_query() == rows(BY_HAND)
    assert [scores.mean(name) for name in BOTH] == [0.25, 0.75, 0.5, 0.5]
    assert relevance.describe == (
        "recall@1, recall@2: whether a given document (gold documents of the queries) is among the first k; "
        "pseudo_recall@1, pseudo_recall@2: whether a document among the first k holds an answer (lower match)"
    )
    assert relevance.judge.relevant(QUERIES[0], TEXTS) == {"p1", "p4"}  # the first metric's relevance
    turned = make_relevance(parse_metrics(BOTH[::-1]), queries=QUERIES, contents=TEXTS.__getitem__)
    assert list(turned.score(RUN).values) == BOTH[::-1]
    assert turned.judge.relevant(QUERIES[0], TEXTS) == {"p1", "p2"}


def test_the_other_metrics_keep_the_relevance_of_the_settings() -> None:
    names = ["S@1", "recall@1", "pseudo_recall@1", "P@2"]
    for match, expected in (
        (None, (0, 0, 1, 0.5)),  # gold documents
        ("word", (0, 0, 1, 0.5)),  # "parisian" is another word
        ("lower", (1, 0, 1, 1)),
    ):
        relevance = make_relevance(
            parse_metrics(names), queries=QUERIES, contents=TEXTS.__getitem__, match=match
        )
        assert relevance.score(RUN).per_query()["a"] == dict(zip(names, expected, strict=True)), match
    alone = make_relevance(parse_metrics(["S@1"]), queries=QUERIES)
    assert alone.describe == "gold documents of the queries"
    assert (
        alone.score(RUN).per_query()
        == evaluate(
            RUN,
            {query.query_id: dict.fromkeys(query.positives, 1) for query in QUERIES},
            parse_metrics(["S@1"]),
        ).per_query()
    )


def test_qrels_are_given_documents_and_r_at_k_stays_true_recall(tmp_path: Path) -> None:
    (tmp_path / "qrels.txt").write_text("a 0 p2 1\na 0 p3 1\nb 0 p4 1\nc 0 p1 1\nd 0 p4 1\n")
    names = ["R@1", "recall@1", "pseudo_recall@1"]
    relevance = make_relevance(
        parse_metrics(names), qrels=tmp_path / "qrels.txt", queries=QUERIES, contents=TEXTS.__getitem__
    )
    assert relevance.score(RUN).per_query()["a"] == {"R@1": 0.5, "recall@1": 1, "pseudo_recall@1": 1}
    assert "recall@1: whether a given document (qrels qrels.txt) is" in relevance.describe


@pytest.mark.parametrize(
    ("names", "queries", "match", "error", "message"),
    [
        (["recall@5"], [Query("a", "?", answers=("x",))], None, DataError, "none of the 1 queries has positives; give qrels"),
        (["S@1", "pseudo_recall@5"], [Query("a", "?", positives=("p1",))], None, DataError, "none of the 1 queries has any"),
        (["pseudo_recall@5"], [], None, DataError, "give queries with answers"),
        (BOTH, [*QUERIES, Query("e", "?", answers=("x",))], None, DataError, "for 4 queries and .* for 5, 'e' by one of them only"),
        (["S@1", "pseudo_recall@1"], [*QUERIES, Query("e", "?", answers=("x",))], None, DataError, "'e' by one of them only"),
        (BOTH, QUERIES, "exact", ConfigError, "match exact is used by none of recall@1"),
        (["recall@5"], QUERIES, "lower", ConfigError, "match lower is used by none of recall@5"),
    ],
)  # fmt: skip
def test_what_cannot_be_judged(
    names: list[str], queries: list[Query], match: str | None, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make_relevance(parse_metrics(names), queries=queries, contents=TEXTS.__getitem__, match=match)


def test_queries_that_nothing_is_known_of_are_left_out_of_all() -> None:
    queries = [*QUERIES, Query("e", "?")]
    scores = make_relevance(parse_metrics(BOTH), queries=queries, contents=TEXTS.__getitem__).score(RUN)
    assert scores.query_ids == ("a", "b", "c", "d")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    questions: list[dict[str, Any]] = [
        {
            "query_id": q.query_id,
            "question": q.question,
            "answers": list(q.answers),
            "positives": list(q.positives),
        }
        for q in QUERIES
    ]
    (tmp_path / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions))
    (tmp_path / "corpus.csv").write_text(
        "kid,text\n" + "".join(f"{key},{text}\n" for key, text in TEXTS.items())
    )
    report = {
        query_id: {
            **{f"Recall@{k}": row[k - 1] for k in (1, 2)},
            **{f"Pseudo Recall@{k}": row[k + 1] for k in (1, 2)},
            "retrieved_passage": [
                {"passage_id": d, "score": 9.0 - r} for r, d in enumerate(RANKED[query_id])
            ],
        }
        for query_id, row in BY_HAND.items()
    }
    (tmp_path / "flmr.json").write_text(json.dumps(report))
    return tmp_path


def test_a_report_of_flmr_scores_as_it_says(folder: Path, capsys: pytest.CaptureFixture) -> None:
    other = {query_id: {"retrieved_passage": [{"passage_id": "p4", "score": 1.0}]} for query_id in RANKED}
    (folder / "other.json").write_text(json.dumps(other))
    command = [
        "score",
        f"{folder}/flmr.json",
        "--queries",
        f"{folder}/queries.jsonl",
        "--corpus",
        f"{folder}/corpus.csv",
    ]
    assert (
        main(
            [
                *command,
                "--compare",
                f"{folder}/other.json",
                "--metrics",
                *BOTH,
                "--json",
                f"{folder}/out.json",
            ]
        )
        == 0
    )
    printed = capsys.readouterr().out
    assert printed.split()[:5] == [*BOTH, "queries"]
    assert (
        "; pseudo_recall@1, pseudo_recall@2: whether a document among the first k holds an answer" in printed
    )
    found = json.loads((folder / "out.json").read_text())
    theirs = json.loads((folder / "flmr.json").read_text())
    for query_id, values in found["queries"]["flmr.json"].items():
        for name, value in values.items():
            kind, k = name.split("@")
            assert (
                value
                == theirs[query_id][{"recall": "Recall", "pseudo_recall": "Pseudo Recall"}[kind] + f"@{k}"]
            )
    # "p4" alone: recall 3 of 4 (a, b, c), pseudo-recall 0
    assert {name: test["difference"] for name, test in found["tests"].items()} == {
        "recall@1": -0.5, "recall@2": 0.0, "pseudo_recall@1": 0.5, "pseudo_recall@2": 0.5
    }  # fmt: skip


def test_an_evaluation_reports_both(folder: Path, capsys: pytest.CaptureFixture) -> None:
    (folder / "eval.yaml").write_text(
        f"queries: {folder}/queries.jsonl\ncorpus: {folder}/corpus.csv\noutput: {folder}/out\n"
        f"metrics: [{', '.join(BOTH)}]\ncards: 4\nretrievers:\n  theirs: {{kind: saved, run: {folder}/flmr.json}}\n"
        "  bm25: {kind: bm25}\n"
    )
    assert main(["eval", str(folder / "eval.yaml")]) == 0
    assert "pseudo_recall@2: whether a document among" in capsys.readouterr().out
    found = json.loads((folder / "out" / "metrics.json").read_text())
    assert found["rows"]["theirs"] == dict(zip(BOTH, (0.25, 0.75, 0.5, 0.5), strict=True)) | {"queries": 4}
    assert set(found["tests"]["bm25"]) == set(found["intervals"]["theirs"]) == set(BOTH)
    assert found["relevance"].startswith(
        "recall@1, recall@2: whether a given document (gold documents of the queries)"
    )
    lines = [json.loads(line) for line in (folder / "out" / "per_query.jsonl").read_text().splitlines()]
    assert {line["query_id"]: line["rows"]["theirs"] for line in lines} == rows(BY_HAND)
    html = (folder / "out" / "report.html").read_text()
    assert "<th>recall@1</th>" in html
    assert "<th>pseudo_recall@2</th>" in html
    assert "holds an answer (lower match)" in html
    assert main(["eval", str(folder / "eval.yaml"), f"output={folder}/again", "match=word"]) == 1
    error = capsys.readouterr().err
    assert "match word is used by none of" in error
    assert error.count("\n") == 1


def test_relevant_documents_that_the_corpus_lacks(
    folder: Path, capsys: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    """Some are counted, once and in a sentence; where all are of other ids, no figure is printed."""
    (folder / "qrels.txt").write_text("a 0 p1 1\na 0 x1 1\na 0 x2 0\nc 0 p4 1\nunknown 0 x3 1\n")
    (folder / "eval.yaml").write_text(
        f"queries: {folder}/queries.jsonl\ncorpus: {folder}/corpus.csv\noutput: {folder}/out\nmetrics: [S@1, R@2]\n"
        f"qrels: {folder}/qrels.txt\nretrievers:\n  theirs: {{kind: saved, run: {folder}/flmr.json}}\n"
    )
    assert main(["eval", str(folder / "eval.yaml")]) == 0
    assert "the corpus lacks 1 of 3 relevant documents, such as 'x1' of the query 'a' (qrels" in caplog.text
    found = json.loads((folder / "out" / "metrics.json").read_text())
    assert found["rows"]["theirs"] == {"S@1": 0.5, "R@2": 0.75, "queries": 2}
    capsys.readouterr()
    (folder / "qrels.txt").write_text("a 0 x1 1\nc 0 p4 0\nc 0 x2 1\n")
    assert main(["eval", str(folder / "eval.yaml"), f"output={folder}/again"]) == 1
    error = capsys.readouterr().err
    assert "the corpus holds none of the 2 relevant documents, such as 'x1' of the query 'a'" in error
    assert not list((folder / "again").glob("*.json"))


def test_the_weight_of_reranking_is_chosen_by_the_first_metric(folder: Path) -> None:
    (folder / "first.trec").write_text(
        "".join(f"{q} Q0 {d} {r} {-r}.0 t\n" for q, docs in RANKED.items() for r, d in enumerate(docs, 1))
    )
    (folder / "again.trec").write_text(
        "".join(
            f"{q} Q0 {d} {r} {-r}.0 t\n" for q, docs in RANKED.items() for r, d in enumerate(docs[::-1], 1)
        )
    )
    for first, means in (("recall@1", (0.75, 0.25)), ("pseudo_recall@1", (0.0, 0.5))):
        metrics = (first, "recall@2", "pseudo_recall@2", "S@5")
        config = EvalConfig(
            corpus=f"{folder}/corpus.csv", queries=f"{folder}/queries.jsonl", match="word", metrics=metrics,
            retrievers=from_mapping({"retrievers": {"bm25": {"kind": "bm25"}}, "corpus": "c"}, EvalConfig, "t").retrievers,
        )  # fmt: skip
        curve = weight_curve(config, f"{folder}/first.trec", f"{folder}/again.trec")
        assert (curve.values[0.0], curve.values[1.0]) == means
        assert curve.relevance.startswith(f"{first}: whether a")
