"""The steps of a long run: made once, reused only if the same command made them, and never cut off by Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.okvqa.steps import exit_status, require_files, resume_options, step
from gemkr.errors import DataError

GUESSER = "{kind: classifier, train: q.jsonl, weights: w}"
CONFIG = (
    "queries: q.jsonl\ncorpus: c.csv\noutput: out\nretrievers:\n  bm25: {kind: bm25}\n"
    f"  guess: {{kind: 'benchmarks.okvqa.answers:AnswerRetriever', guesser: {GUESSER}, answers: 30}}\n"
)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that were run; each one makes the product that its last word names."""
    commands = []

    def play(words: list[str]) -> int:
        commands.append(words)
        Path(words[-1].removeprefix("output=")).touch()
        return 0

    monkeypatch.setattr("benchmarks.okvqa.steps._run", play)
    return commands


def test_a_product_is_made_once_by_the_same_command(tmp_path: Path, ran: list[list[str]]) -> None:
    product = tmp_path / "clues.jsonl"
    for _ in range(2):
        step(product, "mine", "--per-question", 8, "-o", product)
    assert len(ran) == 1
    with pytest.raises(
        DataError, match=r"clues.jsonl was made with command = .*'8'.*, now it is .*'4'.*--folder"
    ):
        step(product, "mine", "--per-question", 4, "-o", product)
    product.with_name(".clues.jsonl.made-by.json").unlink()
    with pytest.raises(DataError, match="no record says which command made it; remove it"):
        step(product, "mine", "--per-question", 8, "-o", product)


def test_what_was_made_from_something_made_anew_since_is_not_believed(
    tmp_path: Path, ran: list[list[str]]
) -> None:
    clues, trained, config = tmp_path / "clues.jsonl", tmp_path / "final", tmp_path / "t.yaml"
    config.write_text("model: {llm: m}\ndata: {queries: q, clues: c}\noutput: o\n")

    def both(per_question: int) -> None:
        step(clues, "mine", "--per-question", per_question, "-o", clues)
        step(trained, "train", config, f"data.clues={clues}", f"output={trained}")

    both(8)
    both(8)
    assert len(ran) == 2
    clues.unlink()
    with pytest.raises(
        DataError, match=r"final was made from an earlier .*clues.jsonl, which was made again since; remove"
    ):
        both(4)
    trained.unlink()
    both(4)
    assert len(ran) == 4


def test_settings_that_name_no_file_are_no_sources(tmp_path: Path, ran: list[list[str]]) -> None:
    config, product = tmp_path / "e.yaml", tmp_path / "metrics.json"
    long = "x" * 5000
    config.write_text(CONFIG + f'images: /\nregions: ""\nqrels: "{long}"\n')
    for _ in range(2):
        step(product, "eval", config, f"output={product}")
    assert len(ran) == 1


def test_what_is_learned_is_the_same_for_any_search(tmp_path: Path, ran: list[list[str]]) -> None:
    config, product = tmp_path / "e.yaml", tmp_path / "weights"
    config.write_text(CONFIG)
    step(product, "fit", config, "guess", f"output={product}")
    step(product, "fit", config, "guess", "k=5", "retrievers.guess.answers=60", f"output={product}")
    with pytest.raises(DataError, match=r"ClassifierConfig.hidden = 256, now it is 64"):
        step(product, "fit", config, "guess", "retrievers.guess.guesser.hidden=64", f"output={product}")
    with pytest.raises(DataError, match=r"ClassifierConfig.train = '.*q.jsonl', now it is '.*other.jsonl'"):
        step(
            product, "fit", config, "guess", "retrievers.guess.guesser.train=other.jsonl", f"output={product}"
        )
    with pytest.raises(DataError, match=r"corpus = '.*', now it is '.*other.csv'"):
        step(product, "fit", config, "guess", "corpus=other.csv", f"output={product}")
    assert len(ran) == 1


def test_settings_of_the_configuration_file_count(tmp_path: Path, ran: list[list[str]]) -> None:
    config, product = tmp_path / "e.yaml", tmp_path / "metrics.json"
    config.write_text(CONFIG + "k: 5\n")
    words = ("eval", config, f"output={product}")
    step(product, *words)
    config.write_text("# another way to say the same\n" + CONFIG + "k: 5\n")
    step(product, *words)
    config.write_text(CONFIG + "k: 7\n")
    with pytest.raises(DataError, match=r"made with settings.k = 5, now it is 7"):
        step(product, *words)
    assert len(ran) == 1


def test_how_a_training_went_on_does_not_count(tmp_path: Path, ran: list[list[str]]) -> None:
    config, product = "benchmarks/qa_passages/configs/train/qa_passages.yaml", tmp_path / "final"
    assert resume_options(tmp_path) == []
    step(product, "train", config, "--resume", "auto", f"output={product}")
    (tmp_path / "step-000500").mkdir()
    assert resume_options(tmp_path) == ["--resume", "auto"]
    step(product, "train", config, f"output={product}")
    assert len(ran) == 1


def test_a_failure_ends_the_run_and_leaves_no_note(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        step(tmp_path / "absent", "no-such-command")
    assert stopped.value.code == 2
    assert "no-such-command" in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_driver_answers_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status("x", lambda: require_files(Path(__file__))) == 0
    assert "all steps of this run: 0 minutes" in capsys.readouterr().out
    assert exit_status("x", lambda: require_files(Path(__file__), tmp_path / "a.csv")) == 1
    assert (
        capsys.readouterr().err
        == f"x: {tmp_path}/a.csv is missing; set GEMKR_SHARED to the folder that holds data/\n"
    )


SLOW = """
import signal, sys, time
def end(*_):
    time.sleep(1)
    open(sys.argv[-1], "w").write("saved")
    sys.exit(130)
signal.signal(signal.SIGINT, end)
print("ready", flush=True)
time.sleep(30)
"""
PARENT = """
import sys
from benchmarks.okvqa import steps
steps.sys.executable = sys.argv[1]
sys.exit(steps._run([sys.argv[2]]))
"""


def test_ctrl_c_leaves_the_child_time_to_save(tmp_path: Path) -> None:
    child = tmp_path / "python"
    (tmp_path / "slow.py").write_text(SLOW)
    child.write_text(f'#!/bin/sh\nexec {sys.executable} {tmp_path}/slow.py "$@"\n')
    child.chmod(0o755)
    run = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(child), str(tmp_path / "result")],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert run.stdout.readline() == b"ready\n"
    time.sleep(0.1)
    os.killpg(run.pid, signal.SIGINT)
    assert run.wait(timeout=20) == 130
    assert (tmp_path / "result").read_text() == "saved"
