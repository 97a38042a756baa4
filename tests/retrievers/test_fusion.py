"""Reciprocal rank fusion: of lists, of runs in files, of retrievers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from gemkr.cli import main
from gemkr.data.records import RunLog, read_records
from gemkr.data.trec import read_run, write_run
from gemkr.fm_index import Span
from gemkr.interfaces import Allowed
from gemkr.retrievers.fusion import FusionRetriever, fuse_hits
from gemkr.types import Clue, Evidence, Hit, Query, Ranking


def hits(*doc_ids: str) -> tuple[Hit, ...]:
    return tuple(Hit(doc_id, -float(rank)) for rank, doc_id in enumerate(doc_ids))


def names(ranked: Iterable[Hit]) -> list[str]:
    return [hit.doc_id for hit in ranked]


def test_scores_are_sums_of_reciprocal_ranks() -> None:
    fused = fuse_hits([hits("a", "b", "c"), hits("c", "d")], 10, k=60)
    assert names(fused) == ["c", "a", "b", "d"]
    assert [hit.score for hit in fused] == pytest.approx([1 / 63 + 1 / 61, 1 / 61, 1 / 62, 1 / 62])
    assert names(fuse_hits([hits("a", "b"), hits("b")], 1)) == ["b"]
    assert fuse_hits([(), ()], 10) == ()


def test_a_repeated_document_counts_once_and_evidence_stays() -> None:
    evidence = Evidence("tea", -0.1, 0, 1)
    fused = fuse_hits([(Hit("a", 1.0, (evidence,)), Hit("b", 1.0), Hit("a", 0.5)), hits("b")], 10, k=0)
    assert [(hit.doc_id, hit.score) for hit in fused] == [("b", 1.5), ("a", 1.0)]
    assert fused[1].evidence == (evidence,)


class Listed:
    """A retriever with the same list for each query; remembers how many documents were wanted."""

    def __init__(self, *doc_ids: str, clues: tuple[Clue, ...] = ()) -> None:
        self.hits, self.clues, self.wanted = hits(*doc_ids), clues, 0

    def retrieve(self, queries: Iterable[Query], k: int, *, allowed: Allowed = None) -> Iterator[Ranking]:
        self.wanted = k
        for query in queries:
            yield Ranking(query.query_id, self.hits[:k], self.clues)


def test_retrievers_are_fused_query_by_query() -> None:
    clue = Clue((1,), "a", -1.0, -1.0, Span(0, 1, 1))
    one, other = Listed("a", "b", "c"), Listed("c", "b", clues=(clue,))
    rankings = list(FusionRetriever([one, other], depth=2).retrieve([Query("1"), Query("2")], k=1))
    assert [(r.query_id, names(r.hits), r.clues) for r in rankings] == [
        ("1", ["b"], (clue,)),
        ("2", ["b"], (clue,)),
    ]
    assert (one.wanted, other.wanted) == (2, 2)


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    write_run(tmp_path / "a.trec", [Ranking("1", hits("x", "y")), Ranking("2", hits("x"))])
    with RunLog(tmp_path) as log:
        log.append(Ranking("1", (Hit("y", 2.0, (Evidence("tea", -0.1, 0, 1),)), Hit("z", 1.0))))
    return [str(tmp_path / "a.trec"), str(tmp_path / "run.jsonl")]


def test_runs_are_fused_from_the_command_line(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "new" / "fused.trec"
    assert main(["fuse", *runs, "-o", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert {q: names(ranked) for q, ranked in read_run(out).items()} == {"1": ["y", "x", "z"], "2": ["x"]}
    assert main(["fuse", *runs, "-o", str(tmp_path / "f.jsonl"), "--depth", "1", "--k", "1"]) == 0
    assert [names(r.hits) for r in read_records(tmp_path / "f.jsonl")] == [["x"], ["x"]]
    assert main(["fuse", *runs, "-o", str(tmp_path / "g.jsonl"), "--rrf-k", "0"]) == 0
    first = next(read_records(tmp_path / "g.jsonl")).hits[0]
    assert (first.doc_id, first.score, first.evidence[0].text) == ("y", 1.5, "tea")


def test_what_fusion_refuses(runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["fuse", runs[0], "-o", str(tmp_path / "o")]) == 1
    assert "is the only run" in capsys.readouterr().err
    assert main(["fuse", *runs, "-o", runs[0]]) == 1
    assert "is the same file as an input" in capsys.readouterr().err
    write_run(tmp_path / "b.trec", [Ranking("9", hits("x"))])
    assert main(["fuse", runs[0], str(tmp_path / "b.trec"), "-o", str(tmp_path / "o")]) == 1
    assert "have no query in common" in capsys.readouterr().err
