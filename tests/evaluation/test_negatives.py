"""`gemkr mine-negatives`: what is left out, what is counted, and that training reads the result as it reads any run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gemkr.cli import main
from gemkr.data.documents import DocumentStore
from gemkr.data.queries import read_queries
from gemkr.data.trec import read_run
from gemkr.training.contrastive.config import NegativesConfig
from gemkr.training.contrastive.data import make_pairs

TEXTS = [
    "the fox lives in the wood",
    "the fox eats hens in the barn",
    "the fox sleeps in the wood by day",
    "the hen lives in the barn",
    "the hen lays eggs",
    "the otter swims in the river",
    "the otter lives by the river",
    "the heron stands in the river",
]
QUERIES = [
    {"query_id": "fox", "question": "where does the fox live", "positives": ["d0"], "answers": ["Wood"]},
    {"query_id": "otter", "question": "where does the otter swim", "positives": ["d5"]},
    {"query_id": "hen", "question": "what does the hen lay", "answers": ["egg", "eggs"]},
    {"query_id": "bare", "question": "where does the heron stand"},
]
RANKED = {
    "fox": "d0 10, d2 9, d1 8, d3 6, d4 2",
    "otter": "d6 10, d5 8, d7 7, d0 3",
    "hen": "d4 5",
    "bare": "d7 3, d1 2",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = [{"kid": f"d{number}", "text": text} for number, text in enumerate(TEXTS)]
    for name, lines in (("corpus", rows), ("queries", QUERIES)):
        Path(f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    lines = [
        f"{query} Q0 {doc} {rank} {score} first\n"
        for query, hits in RANKED.items()
        for rank, (doc, score) in enumerate((hit.split() for hit in hits.split(", ")), 1)
    ]
    Path("first.trec").write_text("".join(lines))
    Path("mine.yaml").write_text(
        "corpus: corpus.jsonl\nqueries: queries.jsonl\nretrievers:\n"
        "  words: {kind: dense, encoder: 'gemkr.testing:WordEncoder', dtype: float32}\n  bm25: bm25\n"
    )
    return tmp_path


def mined(path: str = "negatives.trec") -> dict[str, list[str]]:
    return {query: [hit.doc_id for hit in hits] for query, hits in read_run(path).items()}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], {"fox": ["d1", "d3", "d4"], "otter": ["d6", "d7", "d0"]}),
        (["--skip", "2", "--depth", "4"], {"fox": ["d1", "d3"], "otter": ["d7", "d0"]}),
        (["--below", "0.9"], {"fox": ["d1", "d3", "d4"], "otter": ["d7", "d0"]}),
        (["--below", "0.5", "--per-query", "1"], {"fox": ["d4"], "otter": ["d0"]}),
        (["match=exact", "--per-query", "2"], {"fox": ["d2", "d1"], "otter": ["d6", "d7"]}),
    ],
)
def test_negatives_of_a_run(
    folder: Path, capsys: pytest.CaptureFixture, options: list[str], expected: dict
) -> None:
    """Positives and documents with an answer are no negatives; scores are kept; training sees the same through the run."""
    assert main(["mine-negatives", "mine.yaml", "first.trec", "-o", "negatives.trec", *options]) == 0
    out, err = capsys.readouterr()
    assert mined() == expected
    assert out == f"{sum(map(len, expected.values()))} negatives of 2 queries -> negatives.trec\n"
    assert "1 of 4 queries have neither positives nor answers\n1 of 4 queries have no negative left\n" in err
    scores = {hit.doc_id: hit.score for hit in read_run("first.trec")["otter"]}
    assert all(hit.score == scores[hit.doc_id] for hit in read_run("negatives.trec")["otter"])
    documents = DocumentStore.open("corpus.jsonl")
    config = NegativesConfig(run="negatives.trec", per_query=9)
    pairs = make_pairs(list(read_queries("queries.jsonl")), documents, read_run(config.run), config, "here")
    assert {p.query.query_id: [f"d{n}" for n in p.negatives] for p in pairs} == expected


@pytest.mark.parametrize("name", ["words", "bm25"])
def test_negatives_of_a_section(folder: Path, capsys: pytest.CaptureFixture, name: str) -> None:
    """Its run is kept beside the result, so that other limits retrieve nothing again; the result is what the run's file gives."""
    command = ["mine-negatives", "mine.yaml", name, "--depth", "6"]
    assert main([*command, "-o", "negatives.trec"]) == 0
    first, run = mined(), Path("negatives.trec.runs", name, "run.jsonl")
    assert not {"d0", "d2"} & set(first["fox"])
    assert "d5" not in first["otter"]
    assert "d4" not in first["hen"]
    assert "bare" not in first
    stamp = run.stat().st_mtime_ns
    assert main([*command, "-o", "negatives.trec", "--per-query", "1"]) == 0
    assert run.stat().st_mtime_ns == stamp
    assert mined() == {query: docs[:1] for query, docs in first.items()}
    lines = run.read_text().splitlines(keepends=True)
    run.write_text("".join(lines[:2]))
    assert main([*command, "-o", "negatives.trec"]) == 0
    assert mined() == first
    assert main(["mine-negatives", "mine.yaml", str(run), "--depth", "6", "-o", "again.trec"]) == 0
    assert mined("again.trec") == first
    capsys.readouterr()
    assert main([*command[:-1], "5", "-o", "negatives.trec"]) == 1
    assert "--restart to replace it" in capsys.readouterr().err
    assert main([*command[:-1], "5", "-o", "negatives.trec", "--restart"]) == 0


def positives() -> dict[str, list[str]]:
    return {query.query_id: list(query.positives) for query in read_queries("positives.jsonl")}


@pytest.mark.parametrize(
    ("options", "fox", "otter", "left_out"),
    [
        ([], ["d0", "d2"], ["d5"], 2),
        (["--positives-per-query", "1"], ["d0"], ["d5"], 2),
        (["--skip", "2", "--positives-per-query", "1"], ["d0"], ["d5"], 2),
        (["match=exact", "--depth", "3"], None, ["d5"], 3),
        (["qrels=qrels.txt", "match=exact"], ["d2"], ["d5", "d6"], 2),
    ],
)
def test_positives_of_answers(
    folder: Path, capsys: pytest.CaptureFixture, options: list[str], fox: list[str] | None, otter: list[str], left_out: int
) -> None:  # fmt: skip
    """Given ones stay as they are, others are hits that hold an answer, best first; who has none is left out, and counted."""
    rows = [query | {"positives": []} if query["query_id"] == "fox" else query for query in QUERIES]
    rows[2] = rows[2] | {"answers": ["shells"], "caption": "a hen"}
    Path("queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("qrels.txt").write_text("fox 0 d2 1\nfox 0 d1 0\notter 0 d6 1\n")
    command = ["mine-negatives", "mine.yaml", "first.trec", "-o", "negatives.trec", *options]
    assert main([*command, "--positives", "positives.jsonl"]) == 0
    out, err = capsys.readouterr()
    assert positives() == ({} if fox is None else {"fox": fox}) | {"otter": otter}
    assert f"{4 - left_out} of 4 queries with positives -> positives.jsonl\n" in out
    assert (
        f"{left_out - 1} of 4 queries have no positive and no hit with an answer, and are left out\n" in err
    )
    kept = {query.query_id: query for query in read_queries("positives.jsonl")}
    assert kept["otter"].question == QUERIES[1]["question"]
    with_answer = {"d0", "d2"} if "match=exact" not in options else {"d2"} if fox else set()
    assert not with_answer & set(mined()["fox"])


def test_no_positive_at_all(folder: Path, capsys: pytest.CaptureFixture) -> None:
    Path("queries.jsonl").write_text('{"query_id": "fox", "question": "a fox", "answers": ["sea"]}\n')
    command = ["mine-negatives", "mine.yaml", "first.trec", "-o", "negatives.trec", "--positives"]
    assert main([*command, "positives.jsonl"]) == 1
    sentence = (
        "none of the 1 queries has a hit that holds an answer in first.trec up to rank 100; raise depth"
    )
    assert sentence in capsys.readouterr().err
    assert not Path("negatives.trec").exists()
    assert not Path("positives.jsonl").exists()
    assert main([*command, "queries.jsonl"]) == 1
    assert "the output queries.jsonl is the same file as an input" in capsys.readouterr().err
    assert main([*command[:-1], "--positives-per-query", "2"]) == 1
    assert "--positives-per-query is for --positives, which is not there" in capsys.readouterr().err


def test_qrels_name_relevant_documents_too(folder: Path) -> None:
    Path("qrels.txt").write_text("otter 0 d6 1\notter 0 d7 0\n")
    command = ["mine-negatives", "mine.yaml", "first.trec", "-o", "negatives.trec", "qrels=qrels.txt"]
    assert main(command) == 0
    assert mined()["otter"] == ["d7", "d0"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["other.trec"], "the run other.trec holds none of the 4 queries, such as 'fox'; name a run over these"),
        (["unknown.trec"], "the document id 'd99' is not among the 8 documents of the corpus"),
        (["nowhere"], "'nowhere' is neither a retriever of the configuration (words, bm25) nor the file of a run; name one"),
        (["first.trec", "--skip", "4", "--depth", "4"], "no rank lies after skip 4 and up to depth 4; raise depth"),
        (["first.trec", "--skip", "50"], "none of the 4 queries has a hard negative left in first.trec from rank 51 to 100"),
        (["negatives.trec"], "the negatives would replace the run negatives.trec that they are mined from; give another output"),
        (["first.trec", "match=loose"], "the match 'loose' is unknown"),
        (["first.trec", "queries=null"], "queries is missing; set queries"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_sentence(
    folder: Path, capsys: pytest.CaptureFixture, words: list[str], sentence: str
) -> None:
    """The result of an earlier call is left as it was."""
    Path("other.trec").write_text("x Q0 d1 1 1.0 other\n")
    Path("unknown.trec").write_text("fox Q0 d99 1 1.0 other\n")
    Path("negatives.trec").write_text("kept")
    assert main(["mine-negatives", "mine.yaml", *words, "-o", "negatives.trec"]) == 1
    *_, error = capsys.readouterr().err.splitlines()
    assert error.startswith("gemkr: ")
    assert sentence in error
    assert Path("negatives.trec").read_text() == "kept"
