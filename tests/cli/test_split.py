"""Setting queries apart: every query once, whole groups, the same every time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gemkr.cli import main
from gemkr.cli.split import groups_of
from gemkr.data.queries import read_queries
from gemkr.types import Query


@pytest.fixture
def queries(tmp_path: Path) -> Path:
    rows = [
        {"query_id": f"{picture}-{n}", "question": f"What is {n}?", "image": f"p{picture}", "answers": ["x"]}
        for picture in range(200)
        for n in range(3)
    ]
    rows += [{"query_id": f"t{n}", "question": "Who?", "gold": [f"d{n % 40}"]} for n in range(120)]
    path = tmp_path / "all.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def split(queries: Path, *options: str) -> tuple[int, Path, Path]:
    rest, apart = queries.with_name("rest.jsonl"), queries.with_name("apart.jsonl")
    return main(["split", str(queries), "--rest", str(rest), "--held-out", str(apart), *options]), rest, apart


def test_pictures_and_passages_stay_whole(queries: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, rest, apart = split(queries, "--share", "0.25")
    assert status == 0
    first, second = list(read_queries(rest)), list(read_queries(apart))
    everything = {query.query_id: query for query in read_queries(queries)}
    assert {query.query_id: query for query in [*first, *second]} == everything
    assert len(first) + len(second) == len(everything) == 720
    for key in ("image", "positives"):
        groups = [{getattr(q, key) for q in part if getattr(q, key)} for part in (first, second)]
        assert not groups[0] & groups[1]
    assert 0.15 < len(second) / 720 < 0.35
    assert f"{len(second)} queries" in capsys.readouterr().out


def test_queries_that_others_join_stay_together(tmp_path: Path) -> None:
    rows = [
        row
        for n in range(60)
        for row in (
            {"query_id": f"a{n}", "question": "Who?", "image": f"p{n}", "gold": [f"d{n}"]},
            {"query_id": f"b{n}", "question": "Who?", "image": f"q{n}", "gold": [f"e{n}", f"d{n}"]},
            {"query_id": f"c{n}", "question": "Who?", "gold": [f"f{n}", f"e{n}"]},
            {"query_id": f"d{n}", "question": "Who?", "gold": [f"g{n}"]},
            {"query_id": f"e{n}", "question": "Who?", "image": f"q{n}", "gold": [f"g{n}"]},
        )
    ]
    path = tmp_path / "all.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, rest, apart = split(path, "--share", "0.5")
    first, second = ({query.query_id[1:] for query in read_queries(part)} for part in (rest, apart))
    assert len(first) + len(second) == 60
    assert not first & second
    assert groups_of(
        [Query("1", "x", "p"), Query("2", "x"), Query("3", "x"), Query("4", "x", "r", positives=("p",))]
    ) == [
        "p",
        "x",
        "x",
        "r",
    ]


def test_the_same_seed_splits_alike(queries: Path) -> None:
    _, _, apart = split(queries)
    before = apart.read_bytes()
    split(queries)
    assert apart.read_bytes() == before
    split(queries, "--seed", "1")
    assert apart.read_bytes() != before


def test_what_cannot_be_split_is_told(queries: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, rest, _ = split(queries, "--share", "0")
    assert (status, rest.exists()) == (1, False)
    assert "leaves none" in capsys.readouterr().err
    same = str(queries.with_name("x.jsonl"))
    assert main(["split", str(queries), "--rest", same, "--held-out", same]) == 1
    assert "name two files" in capsys.readouterr().err
    (queries.parent / "y").mkdir()
    detour = str(queries.with_name("y") / ".." / "x.jsonl")
    assert main(["split", str(queries), "--rest", detour, "--held-out", same]) == 1
    assert "name two files" in capsys.readouterr().err
