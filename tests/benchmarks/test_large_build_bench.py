"""The benchmark of a large build in miniature: copies as text through a pipe into `gemkr index build`, and the measures."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from toy_text import train_sentencepiece

from benchmarks.large_build import main, perturbed
from gemkr.cli import main as gemkr
from gemkr.fm_index import FMIndex

TEXTS = [
    f"the {colour} kite number {i} flies over the old barn" for i in range(20) for colour in ("red", "blue")
]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    rows = "".join(f"d{i},{text}\n" for i, text in enumerate(TEXTS))
    (tmp_path / "corpus.csv").write_text("kid,text\n" + rows)
    return tmp_path / "corpus.csv"


def test_copies_differ_and_are_the_same_every_time() -> None:
    assert list(perturbed(TEXTS, 0)) == TEXTS
    first, again, other = (list(perturbed(TEXTS, copy)) for copy in (1, 1, 2))
    assert first == again
    words = {word for text in TEXTS for word in text.split()}
    for copy in (first, other):
        assert [len(text.split()) for text in copy] == [len(text.split()) for text in TEXTS]
        assert {word for text in copy for word in text.split()} <= words
        assert sum(ours != theirs for ours, theirs in zip(copy, TEXTS, strict=True)) > len(TEXTS) // 2
    assert first != other


def test_an_index_of_copies_is_built_from_a_pipe_and_measured(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    tokenizer, index = str(train_sentencepiece(tmp_path / "t.model")), str(tmp_path / "large.fmi")
    command = [sys.executable, "-m", "benchmarks.large_build", "text", str(corpus), "--copies", "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as made:
        pipe = f"/dev/fd/{made.stdout.fileno()}"
        (tmp_path / "copies.csv").symlink_to(pipe)
        build = ["index", "build", str(tmp_path / "copies.csv"), "--tokenizer", tokenizer, "-o", index]
        assert gemkr([*build, "--memory-limit", "0.5"]) == 0
    rows = list(
        csv.reader(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines())
    )
    built = FMIndex.load(index)
    assert rows[0] == ["kid", "text"]
    assert list(built.doc_ids) == [row[0] for row in rows[1:]]
    assert len(built) == 3 * len(TEXTS) == len(rows) - 1
    monkeypatch.setattr("sys.argv", ["large_build", "measure", index, str(corpus), "--tokenizer", tokenizer])
    capsys.readouterr()
    assert main() == 0
    said = capsys.readouterr().out
    assert f"{built.n_tokens:,} tokens, {len(built):,} documents" in said
    assert said.count("successors, mask of 640 states") == 5
