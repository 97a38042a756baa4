"""From a corpus to scored answers by the commands alone: training, reading, resuming, calibration, the report, bad input."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tiny_reading import HOMES, MODEL, evaluation, training, write_material

from gemkr.answering.config import LLMReaderConfig
from gemkr.answering.material import distinct_answers
from gemkr.answering.reader import LLMReader
from gemkr.cli import main
from gemkr.config.files import load_config
from gemkr.data.answers import read_answers
from gemkr.evaluation.config import EvalConfig
from gemkr.models.gemkr.config import ModelConfig
from gemkr.training.loop.log import read_rows


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with material, a BM25 run over the training questions and a trained reader."""
    folder = write_material(tmp_path_factory.mktemp("reading"))
    config = evaluation(folder, answer=None, queries="train.jsonl", output="run")
    assert main(["retrieve", str(config)]) == 0
    assert main(["train-reader", str(training(folder))]) == 0
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "copy"))


def fails(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(arguments) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gemkr: ")]
    return line


def test_a_reader_learns_its_questions(trained: Path) -> None:
    losses = [row["loss"] for row in read_rows(trained / "reader") if "loss" in row]
    assert losses[-1] < 0.25 * losses[0]
    config = evaluation(trained, queries="train.jsonl", output="seen", answer={"of": ["bm25", "closed_book"]})
    assert main(["answer", str(config)]) == 0
    found = json.loads((trained / "seen" / "answers.json").read_text())
    assert found["rows"]["bm25"]["EM"] > 0.9
    assert found["rows"]["closed_book"]["EM"] > 0.9
    assert found["scored by"].startswith("VQA_low is a lower bound")
    assert (trained / "seen" / "bm25" / "run.trec").is_file()
    for answer in read_answers(trained / "seen" / "answers" / "bm25" / "answers.jsonl"):
        best = max(answer.passages, key=lambda passage: passage.share)
        assert (len(answer.passages), answer.doc_id) == (3, best.doc_id)
        assert sum(p.share for p in answer.passages) == pytest.approx(1)
        assert answer.confidence is None
    for answer in read_answers(trained / "seen" / "answers" / "closed_book" / "answers.jsonl"):
        assert (answer.passages, answer.doc_id) == ((), None)


def test_a_stopped_training_goes_on_to_the_same_reader(folder: Path) -> None:
    config = str(training(folder, output="again", epochs=4, save_every=4))
    assert main(["train-reader", config]) == 0
    whole = [row["loss"] for row in read_rows(folder / "again") if "loss" in row]
    for left in ("step-000012", "final"):
        shutil.rmtree(folder / "again" / left)
    assert main(["train-reader", config, "--resume", "auto"]) == 0
    assert [row["loss"] for row in read_rows(folder / "again") if "loss" in row] == whole


def test_answers_go_on_where_they_stopped(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(evaluation(folder))
    assert main(["answer", config]) == 0
    path = folder / "out" / "answers" / "bm25" / "answers.jsonl"
    whole = path.read_text()
    lines = whole.splitlines(keepends=True)
    path.write_text("".join(lines[:10]) + lines[10][:30])
    capsys.readouterr()
    assert main(["answer", config]) == 0
    assert "answers from bm25: 24 queries, 10 of them from an earlier run" in capsys.readouterr().err
    ours = {a.query_id: a for a in read_answers(path)}
    path.write_text(whole)
    theirs = {a.query_id: a for a in read_answers(path)}
    assert {k: (a.text, a.doc_id) for k, a in ours.items()} == {
        k: (a.text, a.doc_id) for k, a in theirs.items()
    }
    assert "out/answers/bm25 holds a run with reader.beam_size = 2, this one has 1" in fails(
        ["answer", config, "answer.reader.beam_size=1"], capsys
    )
    assert main(["answer", config, "answer.reader.beam_size=1", "--restart"]) == 0


def test_an_evaluation_answers_calibrated(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, file = str(evaluation(folder)), folder / "calibration.json"
    assert main(["answer", config, "output=" + str(folder / "fit"), "--calibrate", str(file)]) == 0
    assert "bm25: area under the risk-coverage curve" in capsys.readouterr().out
    assert main(["eval", config, f"answer.calibration={file}"]) == 0
    assert "calibration error" in capsys.readouterr().out
    found = json.loads((folder / "out" / "metrics.json").read_text())["answers"]
    assert list(found["rows"]) == ["bm25", "oracle", "closed_book"]
    assert set(found["tests"]) == {"oracle", "closed_book"}
    kept = found["abstention"]["bm25"]
    assert kept["calibrated"]
    assert kept["coverage"] == pytest.approx(0.5, abs=0.05)
    assert len(kept["curve"]) == 24
    answers = list(read_answers(folder / "out" / "answers" / "bm25" / "answers.jsonl"))
    assert {answer.abstains for answer in answers} == {True, False}
    surest = max(answers, key=lambda answer: answer.confidence)
    assert not surest.abstains
    assert 0 < surest.confidence < 1
    report = (folder / "out" / "report.html").read_text()
    assert "<h2>Answers</h2>" in report
    assert "share of questions answered" in report
    assert "calibration" in fails(["answer", config, f"answer.calibration={file}", "answer.depth=2"], capsys)
    other = fails(["answer", config, f"answer.calibration={file}", "answer.of=[again]"], capsys)
    assert "was fitted to answers from bm25, oracle, closed_book, and answer.of names again" in other


def test_queries_without_answers_are_answered_and_not_scored(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(evaluation(folder, queries="bare.jsonl", answer={"of": ["again"]}, k=3))
    assert main(["answer", config]) == 0
    assert capsys.readouterr().out.splitlines() == [str(folder / "out/answers/again/answers.jsonl")]
    assert len(list(read_answers(folder / "out/answers/again/answers.jsonl"))) == 3
    (folder / "qrels.txt").write_text("q0 0 d0 1\n")
    assert "none of the queries has an answer to compare with" in fails(
        ["eval", config, "metrics=[D@1]", "qrels=" + str(folder / "qrels.txt")], capsys
    )


def test_what_cannot_be_read_or_calibrated(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(evaluation(folder))
    out = "output=" + str(folder / "other")
    seen = "queries=" + str(folder / "train.jsonl")
    calibrate = ["--calibrate", str(folder / "c.json")]
    message = fails(["answer", config, out, seen, *calibrate, "answer.of=[closed_book]"], capsys)
    assert "the reader learned from 24 of the 24 queries" in message
    assert "such as 'q0'" in message
    few = fails(["answer", config, out, "limit=5", "--restart", *calibrate], capsys)
    assert "5 queries with answers in " in few
    assert "cannot calibrate a reader; give at least 20" in few
    of_others = {"annotations": [{"question_id": "0", "answers": [{"answer": "river"}]}]}
    (folder / "votes.json").write_text(json.dumps(of_others))
    for command in ("answer", "eval"):
        votes = f"answer.annotations={folder / 'votes.json'}"
        assert "holds no answers to the query 'q24'" in fails([command, config, out, votes], capsys)
    assert not list((folder / "other").rglob("*.jsonl")), "bad input is named before anything is read"
    assert (
        "answer.of names 'gemkr', which has no section in retrievers, so that the reader has no passages"
        in fails(["answer", config, "answer.of=[gemkr]"], capsys)
    )
    assert "answer.depth 30 is more than the 10 hits of a run; raise k" in fails(
        ["answer", config, "answer.depth=30"], capsys
    )
    bare = str(evaluation(folder, answer=None) and folder / "eval.yaml")
    assert "answer is missing; add answer:" in fails(["answer", bare, "answer=null"], capsys)
    assert "holds none of the 24 queries, such as 'q24'; name a run over these" in fails(
        ["answer", config, "answer.of=[again]", out], capsys
    )


def test_queries_that_a_run_has_no_passages_for_are_counted(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "some.trec").write_text("".join(f"q{i} Q0 d{i} 1 1.0 x\n" for i in range(24, 30)))
    sections = {"bm25": "bm25", "some": {"kind": "saved", "run": "some.trec"}}
    config = str(evaluation(folder, retrievers=sections, answer={"of": ["some", "bm25"]}))
    assert main(["answer", config]) == 0
    found = [r.message for r in caplog.records if "no passages" in r.message]
    assert found == [
        "18 of the 24 queries have no passages from some, such as 'q30'; they are answered without any"
    ]
    answers = list(read_answers(folder / "out" / "answers" / "some" / "answers.jsonl"))
    assert sum(answer.doc_id is None for answer in answers) == 18


def test_a_reader_that_learned_with_passages_only(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = training(folder, output="strict", max_steps=1)
    assert main(["train-reader", str(config), "data.closed_book=false"]) == 0
    strict = "answer.reader.model.checkpoint=" + str(folder / "strict" / "final")
    message = fails(["answer", str(evaluation(folder)), strict], capsys)
    assert "gets no passages under closed_book, and it was trained with passages only" in message
    assert not (folder / "out").exists() or not (folder / "out" / "answers").exists()


def test_training_material_that_does_not_fit(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, output = str(training(folder)), "output=" + str(folder / "new")
    held = "data.queries=" + str(folder / "held.jsonl")
    assert "holds no passages for any of the 24 queries with answers of" in fails(
        ["train-reader", config, output, held], capsys
    )
    bare = "data.queries=" + str(folder / "bare.jsonl")
    assert "no query of " in (message := fails(["train-reader", config, output, bare], capsys))
    assert "has an answer to learn" in message
    (folder / "small.csv").write_text("kid,text\nd0,The fox.\n")
    small = "data.corpus=" + str(folder / "small.csv")
    assert "small.csv lacks 23 of the 24 passages of " in fails(
        ["train-reader", config, output, small], capsys
    )
    blind = ["model.prompt.template=short", output]
    assert "the prompt template short has no {passage}" in fails(["train-reader", config, *blind], capsys)


def test_a_checkpoint_that_is_no_readers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reader = folder / "reader" / "final"
    manifest = reader / "manifest.json"
    written = manifest.read_text()
    manifest.write_text(json.dumps({**json.loads(written), "kind": "gemkr"}))
    message = fails(["answer", str(evaluation(folder))], capsys)
    assert (
        "is of the kind 'gemkr', and one of the kind 'reader' is needed; give one that `gemkr train-reader`"
        in message
    )
    manifest.write_text(written)
    build = ["index", "build", folder / "corpus.csv", "--tokenizer", folder / "llm", "-o", folder / "c.fmi"]
    assert main([str(word) for word in build]) == 0
    clues = {"kind": "generative", "index": "c.fmi", "model": MODEL | {"checkpoint": "reader/final"}}
    config = evaluation(folder, retrievers={"gemkr": clues}, evaluate=["gemkr"], answer={"of": ["gemkr"]})
    message = fails(["retrieve", str(config)], capsys)
    assert (
        "is of the kind 'reader', and one of the kind 'gemkr' is needed; give one that `gemkr train` wrote"
        in message
    )


def test_a_reader_without_a_checkpoint_is_told_by_its_model() -> None:
    readers = [
        LLMReaderConfig(model=ModelConfig(llm=llm), batch_size=size) for llm in "ab" for size in (1, 2)
    ]
    prints = [LLMReader.fingerprint(reader) for reader in readers]
    assert prints[0] == prints[1] != prints[2] == prints[3]


@pytest.mark.parametrize("name", ["eval.yaml", "held.jsonl", "votes.json"])
def test_a_calibration_replaces_nothing_that_it_is_made_from(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "votes.json").touch()
    config = evaluation(tmp_path, answer={"reader": "clues", "annotations": "votes.json"})
    before = config.read_text()
    assert "is the same file as an input" in fails(
        ["answer", str(config), "--calibrate", str(tmp_path / name)], capsys
    )
    assert config.read_text() == before


def test_answers_that_mean_the_same_are_learned_once() -> None:
    assert distinct_answers(["two", " The 2 ", "", "ski", "skis", "Ski."]) == ["two", "ski", "skis"]


def test_a_reranker_reads_with_what_a_reader_learned(trained: Path) -> None:
    reranker = {
        "kind": "yes_no",
        "yes": "river",
        "no": "wood",
        "model": MODEL | {"checkpoint": "reader/final"},
    }
    sections = {
        "bm25": "bm25",
        "again": {"kind": "reranked", "of": "bm25", "depth": 1, "reranker": reranker},
    }
    config = evaluation(trained, queries="train.jsonl", retrievers=sections, answer={"of": ["bm25"]})
    again = load_config(config, EvalConfig).sources()
    rankings = list(again.retriever("again").retrieve(again.queries, 1))
    scores = {ranking.query_id: ranking.hits[0].score for ranking in rankings}
    for number, place in enumerate(list(HOMES.values())[:24]):
        if place in ("river", "wood"):
            assert (scores[f"q{number}"] > 0.9) == (place == "river")
            assert (scores[f"q{number}"] < 0.1) == (place == "wood")
