"""M-BEIR's local candidate files as pools of the union: the union's ranking filtered, and that of the local file alone."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from gemkr.config.files import from_mapping
from gemkr.errors import DataError
from gemkr.evaluation import pools
from gemkr.evaluation.config import EvalConfig
from gemkr.evaluation.evaluate import evaluate
from gemkr.evaluation.pools import pool_names, read_pools, require_pools
from gemkr.testing import toy_corpus
from gemkr.types import Query

LOCAL = {"webqa_task1": (0, 5), "oven_task6": (5, 9), "mscoco_task0": (9, 12)}
"""The data sets, and which documents of the toy corpus are their candidates."""


def candidate(number: int) -> dict[str, object]:
    """A candidate as M-BEIR writes it."""
    document = toy_corpus()[number]
    return {
        "did": f"2:{number}",
        "txt": document.text,
        "img_path": None,
        "modality": "text",
        "src_content": None,
    }


def put(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A local pool for each data set, their union, and queries of each: a document's own words, so that all rank differently."""
    for name, (start, stop) in LOCAL.items():
        put(tmp_path / f"{name}.jsonl", [candidate(n) for n in range(start, stop)])
    put(tmp_path / "union.jsonl", [candidate(n) for n in range(12)])
    queries = [
        {
            "query_id": f"{name}:{n}",
            "question": toy_corpus()[n].text,
            "positives": [f"2:{start}"],
            "pool": name,
        }
        for name, (start, _) in LOCAL.items()
        for n in range(12)
    ]
    put(tmp_path / "queries.jsonl", queries)
    return tmp_path


def runs(folder: Path, corpus: str, pool: str | None, local: bool) -> dict[str, dict[str, list]]:
    """Retriever -> query -> hits, of the queries of one data set (None: all), over `corpus`, in local pools or in all of it."""
    rows = [json.loads(line) for line in (folder / "queries.jsonl").read_text().splitlines()]
    put(folder / "asked.jsonl", [row for row in rows if pool in (None, row["pool"])])
    config = {
        "corpus": str(folder / corpus),
        "queries": str(folder / "asked.jsonl"),
        "output": str(folder / f"out-{corpus}-{pool}-{local}"),
        "pools": {name: str(folder / f"{name}.jsonl") for name in LOCAL} if local else {},
        "retrievers": {
            "words": {"kind": "dense", "encoder": "gemkr.testing:WordEncoder", "dtype": "float32"},
            "bm25": {"kind": "bm25"},
        },
        "metrics": ["S@5"],
        "k": 12,
    }
    results = evaluate(from_mapping(config, EvalConfig, "test")).results
    return {name: {query: list(hits) for query, hits in found.run.items()} for name, found in results.items()}


def test_a_local_pool_is_the_union_filtered_and_the_local_file_alone(folder: Path) -> None:
    local, union = runs(folder, "union.jsonl", None, True), runs(folder, "union.jsonl", None, False)
    for name in ("words", "bm25"):
        for query_id, hits in local[name].items():
            start, stop = LOCAL[query_id.partition(":")[0]]
            ids = {f"2:{n}" for n in range(start, stop)}
            assert hits == [hit for hit in union[name][query_id] if hit.doc_id in ids]
            assert name == "bm25" or {hit.doc_id for hit in hits} == ids
    for name in LOCAL:
        for query_id, hits in runs(folder, f"{name}.jsonl", name, False)["words"].items():
            ours = local["words"][query_id]
            assert [hit.doc_id for hit in ours] == [hit.doc_id for hit in hits]
            assert [hit.score for hit in ours] == pytest.approx([hit.score for hit in hits], abs=1e-6)


def test_a_line_says_that_the_whole_corpus_is_searched(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Once a run of both retrievers, and not where pools are used, or none is named."""
    runs(folder, "union.jsonl", None, False)
    said = "36 of 36 queries name a pool, such as 'webqa_task1' of the query 'webqa_task1:0'; pools is not set, so the whole corpus"
    assert caplog.text.count("name a pool") == caplog.text.count(said) == 1
    caplog.clear()
    runs(folder, "union.jsonl", None, True)
    rows = [json.loads(line) for line in (folder / "queries.jsonl").read_text().splitlines()]
    put(folder / "queries.jsonl", [row | {"pool": None} for row in rows])
    (folder / "out-union.jsonl-None-False").rename(folder / "first")
    runs(folder, "union.jsonl", None, False)
    assert "name a pool" not in caplog.text


def test_every_file_that_names_documents_is_the_same_pool(folder: Path) -> None:
    (folder / "ids.txt").write_text("2:5\n\n2:6\n2:7\n2:8\n")
    put(folder / "many.jsonl", [{"pool": "mine", "doc_ids": ["2:5", "2:6", "2:7", "2:8"]}])
    (folder / "local.jsonl.gz").write_bytes(gzip.compress((folder / "oven_task6.jsonl").read_bytes()))
    files = {"a": "oven_task6.jsonl", "b": "ids.txt", "c": "many.jsonl", "d": "local.jsonl.gz"}
    paths = {name: str(folder / file) for name, file in files.items()}
    found = read_pools(paths, [f"2:{n}" for n in range(12)])
    assert list(found) == ["a", "b", "mine", "d"]
    assert set(found.values()) == {frozenset({"2:5", "2:6", "2:7", "2:8"})}
    assert pool_names(paths) == list(found)
    require_pools([Query("q", "w", pool="a"), Query("r", "w", pool="mine")], pool_names(paths))


def test_a_candidate_file_is_read_row_by_row(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a document that is not in the corpus no later row has been read; nothing but its id is looked at."""
    rows = [{"did": "2:0", "txt": 7}, {"did": "2:x", "img_path": 1}, {"did": "2:1"}]
    path, read, table_rows = put(folder / "p.jsonl", rows), [], pools.table_rows

    def counted(of: Path):
        for line, row in table_rows(of):
            read.append(line)
            yield line, row

    monkeypatch.setattr(pools, "table_rows", counted)
    with pytest.raises(
        DataError,
        match=r"p.jsonl:2: the pool 'p' names the document '2:x', which the corpus does not hold; .* use the corpus",
    ):
        read_pools({"p": str(path)}, ["2:0", "2:1"])
    assert read == [1, 1, 2]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('{"did": "2:0"}\n{"txt": "a"}\n', r"p.jsonl:2: no document id; one of the keys kid, .*did"),
        ('{"did": "2:0"}\n{"did": ["2:1"]}\n', r"p.jsonl:2: 'did' must be a string"),
        ('{"did": "2:0"}\n{"did": "2 1"}\n', r"p.jsonl:2: the document id '2 1' holds white space"),
        ('{"did": "2:0"}\n{"did"\n', r"p.jsonl:2: not valid JSON"),
        ('{"txt": "a"}\n', r"p.jsonl:1: a pool needs a name under 'pool'"),
        ("\n", r"the pool file .*p.jsonl is empty"),
    ],
)
def test_candidates_that_cannot_be_a_pool(tmp_path: Path, lines: str, message: str) -> None:
    (tmp_path / "p.jsonl").write_text(lines)
    with pytest.raises(DataError, match=message):
        read_pools({"p": str(tmp_path / "p.jsonl")}, ["2:0", "2:1"])
