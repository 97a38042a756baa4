"""The driver of `make okvqa-llama`: its steps, and the settings that they give."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.okvqa import cpu as okvqa_cpu
from benchmarks.okvqa import llama as okvqa_llama
from gemkr.config.files import load_config
from gemkr.evaluation.config import EvalConfig
from gemkr.training.config import TrainConfig

ROW = {"P@5": 0.4, "S@1": 0.5, "S@5": 0.7, "S@10": 0.8, "D@10": 10.0}


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_one_model_is_tuned_and_evaluated_for_each_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], precision: str
) -> None:
    asked = []

    def play(product: Path, *command: object) -> None:
        asked.append([str(word) for word in command])
        if product.name == "metrics.json":
            product.parent.mkdir(parents=True)
            product.write_text(json.dumps({"rows": {"generative": ROW}}))

    there = tmp_path / "there"
    there.touch()
    for module in (okvqa_cpu, okvqa_llama):
        monkeypatch.setattr(module, "step", play)
    for name in ("CORPUS", "TRAIN_QUESTIONS", "DEV_QUESTIONS"):
        monkeypatch.setattr(okvqa_cpu, name, there)
    command = ["okvqa_llama", "--seeds", "2", "--folder", str(tmp_path / "runs"), "--llm", str(there)]
    command += [] if precision == "bf16" else ["--precision", precision]
    monkeypatch.setattr("sys.argv", command)
    assert okvqa_llama.main() == 0
    assert [words[0] for words in asked] == [
        "index",
        "mine",
        "embed",
        "fit",
        "train",
        "eval",
        "train",
        "eval",
    ]
    assert "2 seeds" in capsys.readouterr().out
    trained = [
        load_config(w[1], TrainConfig, [x for x in w[2:] if "=" in x]) for w in asked if w[0] == "train"
    ]
    assert [(c.seed, c.model.llm, c.model.fused, c.model.precision) for c in trained] == [
        (0, str(there), True, precision),
        (1, str(there), True, precision),
    ]
    (fitted,) = (load_config(w[1], EvalConfig, w[3:]) for w in asked if w[0] == "fit")
    (embedded,) = (load_config(w[1], EvalConfig, w[3:]) for w in asked if w[0] == "embed")
    assert fitted.retrievers["learned_scorer"].config.scorer.config.precision == precision
    assert embedded.retrievers["dense"].config.encoder.config.precision == precision
    for seed, words in enumerate(w for w in asked if w[0] == "eval"):
        config = load_config(words[1], EvalConfig, words[2:])
        main = config.retrievers["generative"].config
        assert main.model.llm == str(there)
        assert main.model.checkpoint == f"{tmp_path}/runs/seed{seed}/train/final"
        assert main.index == f"{tmp_path}/runs/wiki112k.fmi"
        assert {name: getattr(main.model, name) for name in ("prompt", "lora")} == {
            name: getattr(trained[seed].model, name) for name in ("prompt", "lora")
        }
        inside = config.retrievers["dense_inside"].config.scoring["inside_span"]
        assert inside["vectors"] == config.retrievers["dense"].config.vectors == f"{tmp_path}/runs/minilm"
        scorer = config.retrievers["learned_scorer"].config.scorer
        assert scorer.config.weights == f"{tmp_path}/runs/scorer.safetensors"
        assert main.model.precision == scorer.config.precision == inside["encoder"]["precision"] == precision
        assert (
            config.retrievers["learned_inside"].config.scoring["inside_span"]["first"]["vectors"]
            == inside["vectors"]
        )
        assert ("bm25_caption" in config.evaluated) == (seed == 0)


def test_a_missing_base_model_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "there"
    there.touch()
    for name in ("CORPUS", "TRAIN_QUESTIONS", "DEV_QUESTIONS"):
        monkeypatch.setattr(okvqa_cpu, name, there)
    monkeypatch.setattr("sys.argv", ["okvqa_llama", "--llm", str(tmp_path / "none")])
    assert okvqa_llama.main() == 1
    assert f"there is no LLaMA at {tmp_path}/none; run make base-llm" in capsys.readouterr().err
