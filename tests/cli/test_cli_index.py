"""`gemkr index` and `gemkr mine` from the outside: what they print, what they write, how they refuse."""

from __future__ import annotations

import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from toy_text import TEXTS, train_sentencepiece, write_csv

from gemkr.cli import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("cli")
    paths = {
        "corpus": write_csv(folder / "toy.csv"),
        "tokenizer": train_sentencepiece(folder / "toy.model"),
        "other": train_sentencepiece(folder / "other.model", vocab_size=400),
        "index": folder / "toy.fmi",
        "queries": folder / "queries.jsonl",
    }
    paths["queries"].write_text(
        '{"query_id": "a", "question": "Which city?", "image": "i", "answers": ["tokyo"]}\n'
        '{"query_id": "b", "question": "What is it?", "answers": ["pony"], "positives": ["d3"]}\n'
    )
    named = {name: str(path) for name, path in paths.items()}
    assert build(named) == 0
    return named


def build(material: dict[str, str], *more: str, corpus: str | None = None, output: str | None = None) -> int:
    argv = ["index", "build", corpus or material["corpus"], "--tokenizer", material["tokenizer"]]
    return main([*argv, "-o", output or material["index"], *more])


def refusal(capsys: pytest.CaptureFixture[str], status: int) -> str:
    """The one line of a command that failed."""
    assert status == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gemkr: ")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize("more", [[], ["--document-array", "--sample-rate", "4", "--threads", "1"]])
def test_build_prints_its_figures(
    material: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    output = tmp_path / "new folder" / "x.fmi"
    assert build(material, *more, output=str(output)) == 0
    said = capsys.readouterr().out
    for word in ("documents      8", "tokens", "build", "file", "bits per token", "peak memory"):
        assert word in said
    assert output.stat().st_size > 0
    assert [path.name for path in output.parent.iterdir()] == ["x.fmi"]


def test_two_builds_give_the_same_bytes(material: dict[str, str], tmp_path: Path) -> None:
    for name, threads in (("one", "1"), ("two", "2")):
        assert build(material, "--threads", threads, output=str(tmp_path / name)) == 0
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_info_and_verify(material: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", "info", material["index"]]) == 0
    said = capsys.readouterr().out
    assert "420" in said
    assert main(["index", "verify", material["index"]]) == 0
    assert "checksums agree (8 documents" in capsys.readouterr().out


def test_query_counts_and_shows_snippets(
    material: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["index", "query", material["index"], "--tokenizer", material["tokenizer"]]
    assert main([*argv, "Tokyo", "--corpus", material["corpus"]]) == 0
    said = capsys.readouterr().out
    assert "occurrences  3" in said
    assert "[Tokyo] is the largest city of Japan" in said
    assert said.index("d6") < said.index("d1 ")
    assert main([*argv, "zebra crossing"]) == 0
    assert "occurrences  0" in capsys.readouterr().out


def test_white_space_and_composition_are_one_spelling(
    material: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A word behind a line's end is found as one behind a space, its place shown in the text as it was written; an index that
    keeps white space (every one of earlier versions does) works as what it is."""
    corpus = tmp_path / "odd.csv"
    corpus.write_text('kid,text\n1,"the barn owl\nhunts\t voles in the cafe\u0301  "\n', encoding="utf-8")
    for name, more in (("normal.fmi", []), ("kept.fmi", ["--keep-white-space"])):
        assert build(material, *more, corpus=str(corpus), output=str(tmp_path / name)) == 0
    capsys.readouterr()
    shared = ["--tokenizer", material["tokenizer"], "--corpus", str(corpus)]

    def query(name: str, text: str) -> str:
        assert main(["index", "query", str(tmp_path / name), text, *shared]) == 0
        return capsys.readouterr().out

    for text in ("owl hunts voles", "owl \u00a0hunts\r\nvoles", "the café", "the cafe\u0301"):
        assert "occurrences  1" in query("normal.fmi", text)
    assert "barn [owl hunts voles] in" in query("normal.fmi", "owl hunts voles")
    assert "in [the café]\n" in unicodedata.normalize("NFC", query("normal.fmi", "the café"))
    assert "occurrences  0" in query("kept.fmi", "owl hunts")
    assert "occurrences  1" in query("kept.fmi", "owl\nhunts")
    assert (tmp_path / "normal.fmi").read_bytes() != (tmp_path / "kept.fmi").read_bytes()


def test_the_wrong_tokenizer_is_refused(material: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["index", "query", material["index"], "--tokenizer", material["other"], "Tokyo"])
    assert "tokenizer" in refusal(capsys, status)


def test_one_flipped_byte_and_a_cut_file(
    material: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = bytearray(Path(material["index"]).read_bytes())
    broken = tmp_path / "broken.fmi"
    for at in range(0, len(data), max(len(data) // 40, 1)):
        data[at] ^= 1
        broken.write_bytes(data)
        data[at] ^= 1
        refusal(capsys, main(["index", "verify", str(broken)]))
    broken.write_bytes(data[: len(data) // 2])
    refusal(capsys, main(["index", "info", str(broken)]))
    assert "none.fmi" in refusal(capsys, main(["index", "info", str(tmp_path / "none.fmi")]))


def test_bad_rows_stop_the_build_or_are_listed(
    material: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = tmp_path / "bad.csv"
    corpus.write_text("kid,text\n1,one\n2\n3,three\n1,again\n")
    output = tmp_path / "bad.fmi"
    said = refusal(capsys, build(material, corpus=str(corpus), output=str(output)))
    assert "bad.csv:3: the row has 1 columns" in said
    assert "--skip-bad-rows" in said
    assert not output.exists()
    assert build(material, "--skip-bad-rows", corpus=str(corpus), output=str(output)) == 0
    captured = capsys.readouterr()
    assert "skipped rows   2" in captured.out
    assert "documents      2" in captured.out
    assert "bad.csv:3: the row has 1 columns" in captured.err
    assert "bad.csv:5: the document id '1' already stands in line 2" in captured.err


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.csv", "kid,text\n", "holds no document"),
        ("twice.csv", "kid,text\na,x\na,y\n", "twice.csv:3: the document id 'a' already stands in line 2"),
        ("head.csv", "number,body\n1,x\n", "names no id column"),
    ],
)
def test_corpora_that_make_no_index(
    material: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: str,
    reason: str,
) -> None:
    (tmp_path / name).write_text(content)
    status = build(material, corpus=str(tmp_path / name), output=str(tmp_path / "x.fmi"))
    assert reason in refusal(capsys, status)
    assert not (tmp_path / "x.fmi").exists()


def test_an_output_that_cannot_be_written_is_found_out_first(
    material: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    for output in (tmp_path / "file" / "x.fmi", Path("/proc/x.fmi")):
        assert "cannot be written" in refusal(capsys, build(material, output=str(output)))
    assert "is a folder" in refusal(capsys, build(material, output=str(tmp_path)))


def test_the_entry_point_of_the_paper(material: dict[str, str], tmp_path: Path) -> None:
    script = ROOT / "data_process" / "build_fm_index.py"
    argv = [material["corpus"], "--tokenizer", material["tokenizer"], "-o", str(tmp_path / "x.fmi")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script), *argv]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "documents      8" in done.stdout


def test_mine(material: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("bm25s")
    from gemkr.data.clues import read_clues

    clues = tmp_path / "clues.jsonl"
    argv = ["mine", material["queries"], "--corpus", material["corpus"], "--index", material["index"]]
    argv += ["-o", str(clues), "--tokenizer"]
    assert main([*argv, material["tokenizer"], "--sample", "2"]) == 0
    said = capsys.readouterr().out
    assert "queries                    2  with a clue 100.0%" in said
    assert "short clues" in said
    assert said.count(" -> ") == 2
    mined = list(read_clues(clues))
    assert {clue.form for clue in mined} == {"short", "long"}
    assert all(clue.text in TEXTS[int(clue.doc_id[1:])] for clue in mined)
    assert "tokenizer" in refusal(capsys, main([*argv, material["other"]]))
    assert list(read_clues(clues)) == mined
    assert "unknown form" in refusal(capsys, main([*argv, material["tokenizer"], "--forms", "tall"]))


@pytest.mark.parametrize(
    "words",
    [["index", "query", "i", "caf\udce9", "--tokenizer", "t"], ["ask", "c.yaml", "caf\udce9?"]],
    ids=["query", "ask"],
)
def test_a_text_that_is_not_utf8_is_a_usage_error(words: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    assert "is not valid UTF-8; write it in a UTF-8 terminal" in capsys.readouterr().err


def test_a_question_of_white_space_is_refused_before_a_model_is_loaded(capsys: pytest.CaptureFixture) -> None:
    assert main(["ask", "nowhere.yaml", " \u00a0\n"]) == 1
    assert "the question is empty; write one, or give a picture" in capsys.readouterr().err
