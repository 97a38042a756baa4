"""The driver of `make okvqa-ablations`: what each row takes away, and the table against the whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.okvqa import ablations as okvqa_ablations
from benchmarks.okvqa import cpu as okvqa_cpu
from gemkr.config.files import load_config
from gemkr.evaluation.config import EvalConfig
from gemkr.evaluation.significance import paired_test
from gemkr.training.config import EmbeddingsConfig, PretrainConfig, TrainConfig

QUERIES = 60
GS112K = [
    f"{name}=x"
    for name in (
        "queries",
        "corpus",
        "images",
        "regions",
        "retrievers.gemkr.model.llm",
        "retrievers.gemkr.model.tower.weights",
        "retrievers.gemkr.model.prompt.template",
    )
]
DECODING = ("beam_size", "groups", "diversity", "min_tokens", "max_tokens", "length_penalty", "allow_eos")


def values(folder: str, retriever: str) -> np.ndarray:
    """bool[queries] of a retriever: fewer right in the folder of an ablation."""
    share = 0.3 if "ablations" in folder else 0.7
    return np.random.default_rng(sum(map(ord, folder + retriever))).random(QUERIES) < share


def evaluate(folder: Path, name: str, names: tuple[str, ...]) -> None:
    folder.mkdir(parents=True)
    found = {retriever: values(name, retriever) for retriever in names}
    with (folder / "per_query.jsonl").open("w") as file:
        for number in range(QUERIES):
            rows = {
                retriever: dict.fromkeys(("P@5", "S@5", "S@10"), float(hit[number]))
                for retriever, hit in found.items()
            }
            file.write(json.dumps({"query_id": f"{number:03}", "rows": rows}) + "\n")


def test_every_row_takes_one_thing_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home, configs, mined = tmp_path / "run", {}, {}
    kinds = {"pretrain": PretrainConfig, "train": TrainConfig, "eval": EvalConfig}

    def play(product: Path, *command: object) -> None:
        verb, *words = map(str, command)
        if verb in kinds:
            config = load_config(words[0], kinds[verb], [w.replace(str(home), "HOME") for w in words[1:]])
            configs[f"{verb} {config.output}"] = config
            if verb == "eval":
                evaluate(product.parent, config.output, config.evaluated)
        elif verb == "mine":
            mined[str(product.relative_to(home))] = (Path(words[0]).name, words[-1])

    there = tmp_path / "train.jsonl"
    there.touch()
    monkeypatch.setattr(okvqa_cpu, "step", play)
    for name in ("CORPUS", "TRAIN_QUESTIONS", "DEV_QUESTIONS"):
        monkeypatch.setattr(okvqa_cpu, name, there)
    monkeypatch.setattr(okvqa_cpu, "EXTRA_CORPORA", (there,))
    monkeypatch.setattr(okvqa_ablations, "WORDNET", tmp_path / "wordnet.csv.gz")
    (tmp_path / "wordnet.csv.gz").touch()
    monkeypatch.setattr("sys.argv", ["okvqa_ablations", "--folder", str(home)])
    assert okvqa_ablations.main() == 0

    def settings(name: str) -> Any:
        return configs[f"eval HOME/{name}/eval"].retrievers["generative"].config

    whole = settings("seed0")
    assert len(whole.ensemble) == 1
    assert whole.answer_expert is not None
    company = {
        name: (len(settings(f"ablations/{name}").ensemble), name != "no_expert")
        for name in ("no_expert", "no_second")
    }
    assert company == {"no_expert": (1, False), "no_second": (0, True)}
    assert settings("ablations/no_expert").answer_expert is None
    assert settings("ablations/no_second").answer_expert is not None
    single = [key for key in configs if key.startswith("eval HOME/ablations") and "no_expert" not in key]
    assert len(single) == 7
    assert not any(configs[key].retrievers["generative"].config.ensemble for key in single)
    alone = settings("ablations/alone")
    assert alone.decoding == whole.decoding
    assert alone.model.checkpoint == "HOME/seed0/train/final"
    reference = settings("ablations/reference")
    assert (reference.decoding.groups, reference.scoring.method) == (10, "reference")
    published = load_config("eval_configs/okvqa_gs112k.yaml", EvalConfig, GS112K).retrievers["gemkr"].config
    assert reference.scoring.inside_span == published.scoring.inside_span
    assert [getattr(reference.decoding, name) for name in DECODING] == [
        getattr(published.decoding, name) for name in DECODING
    ]
    assert settings("ablations/wordnet").index == "HOME/wordnet.fmi"
    assert configs["eval HOME/ablations/wordnet/eval"].corpus.endswith("wordnet.csv.gz")
    for name in ("one_answer", "half_data", "no_pretraining"):
        scored, tuned = settings(f"ablations/{name}"), configs[f"train HOME/ablations/{name}/train"]
        assert scored.model.checkpoint == f"HOME/ablations/{name}/train/final"
        assert scored.model.llm == tuned.model.llm
    assert configs["pretrain HOME/ablations/no_pretraining/pretrain"].embeddings == EmbeddingsConfig(0, 1.4)
    half = "HOME/ablations/half_data/questions.jsonl"
    assert configs["pretrain HOME/ablations/half_data/pretrain"].queries == half
    assert configs["train HOME/ablations/half_data/train"].data.queries == half
    assert mined == {
        "clues.jsonl": ("train.jsonl", "8"),
        "ablations/one_answer/clues.jsonl": ("train.jsonl", "1"),
        "ablations/half_data/clues.jsonl": ("questions.jsonl", "8"),
    }

    kept = {
        (line["of"], line["row"]): line for line in json.loads((home / "ablations/summary.json").read_text())
    }
    assert len(kept) == 8 + 10 + 4
    line = kept["two models and the expert", "without the expert"]
    base, own = values("HOME/seed0/eval", "generative"), values("HOME/ablations/no_expert/eval", "generative")
    test = paired_test(base.astype(float), own.astype(float))
    assert (line["P@5"], line["P@5 p"]) == (own.mean(), test.p_value)
    assert line["P@5 difference"] == test.difference < 0
    shown = capsys.readouterr().out
    assert f"{own.mean():.3f} {test.difference:+.3f} (p {test.p_value:.4f})" in shown


def test_needs_the_data(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(okvqa_cpu, "CORPUS", tmp_path / "absent.csv.gz")
    monkeypatch.setattr("sys.argv", ["okvqa_ablations"])
    assert okvqa_ablations.main() == 1
    assert "set GEMKR_SHARED" in capsys.readouterr().err
