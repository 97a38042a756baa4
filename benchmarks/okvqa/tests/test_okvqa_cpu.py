"""The driver of `make okvqa-cpu`: which commands it runs and which it skips."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.okvqa import cpu as okvqa_cpu
from benchmarks.okvqa.seeds import BASELINE
from gemkr.config.files import load_config
from gemkr.evaluation.config import EvalConfig


def metrics(path: Path) -> None:
    row = {"P@5": 0.4, "S@1": 0.5, "S@5": 0.7, "S@10": 0.8, "D@10": 10.0}
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"rows": {"generative": row}}))


def test_steps_that_are_done_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home, asked = tmp_path / "run", []

    def play(product: Path, *command: object) -> None:
        asked.append((product, [str(word) for word in command]))
        if product.name == "metrics.json":
            metrics(product)

    there = tmp_path / "corpus.csv"
    there.touch()
    monkeypatch.setattr(okvqa_cpu, "step", play)
    for name in ("CORPUS", "TRAIN_QUESTIONS", "DEV_QUESTIONS"):
        monkeypatch.setattr(okvqa_cpu, name, there)
    monkeypatch.setattr(okvqa_cpu, "EXTRA_CORPORA", (there,))
    monkeypatch.setattr("sys.argv", ["okvqa_cpu", "--seeds", "2", "--folder", str(home)])
    assert okvqa_cpu.main() == 0
    steps = ["pretrain", "index", "mine", "train", "pretrain", "train", "fit", "eval"]
    assert [command[0] for _, command in asked] == steps * 2
    seeds = [word for _, command in asked for word in command if word.startswith("seed=")]
    assert seeds == [f"seed={n}" for n in (0, 0, 10, 10, 1, 1, 11, 11)]
    assert len({product for product, _ in asked}) == 14
    for seed, command in ((seed, asked[8 * seed + 7][1]) for seed in (0, 1)):
        overrides = [word.replace(str(home), "HOME") for word in command[2:]]
        config = load_config(command[1], EvalConfig, overrides)
        main = config.retrievers["generative"].config
        assert main.model.checkpoint == f"HOME/seed{seed}/train/final"
        (second,) = main.ensemble
        assert second.llm == f"HOME/seed{seed}/broad/pretrain/model"
        assert second.checkpoint == f"HOME/seed{seed}/broad/train/final"
        assert second.prompt == main.model.prompt
        assert second.train_llm
        guesser = config.retrievers[BASELINE].config.guesser
        assert guesser == replace(main.answer_expert.guesser, where=guesser.where)
        assert (guesser.config.seed, guesser.config.weights) == (
            1000 * seed,
            f"HOME/seed{seed}/classifier.safetensors",
        )
        assert config.evaluated == (
            ("generative", "random_in_span", BASELINE) if seed else tuple(config.evaluate)
        )
    assert json.loads((home / "summary.json").read_text())["generative"]["P@5"] == 0.4
    monkeypatch.setattr(okvqa_cpu, "EXTRA_CORPORA", (tmp_path / "absent.csv.gz",))
    assert okvqa_cpu.main() == 1
    assert "absent.csv.gz is missing; set GEMKR_SHARED" in capsys.readouterr().err


def test_paths_with_punctuation_stay_whole() -> None:
    llm, checkpoint = Path("runs/a, b #1/model"), Path("runs/a, b #1/final: x")
    (second,) = (
        load_config(
            "benchmarks/okvqa/configs/eval/okvqa_wiki112k_cpu.yaml",
            EvalConfig,
            [okvqa_cpu.ensemble_setting(llm, checkpoint)],
        )
        .retrievers["generative"]
        .config.ensemble
    )
    assert (second.llm, second.checkpoint) == (str(llm.absolute()), str(checkpoint.absolute()))
