"""Configurations: every ready-made file loads, unknown keys name the nearest, overrides reach inside."""

from __future__ import annotations

from pathlib import Path

import pytest

from gemkr.config.files import load_config, load_section, to_mapping
from gemkr.errors import ConfigError
from gemkr.evaluation.config import EvalConfig
from gemkr.models.gemkr.config import ModelConfig
from gemkr.training.config import TrainConfig

MINIMAL = "model: {llm: some/folder}\ndata: {queries: q.jsonl, clues: c.jsonl}\noutput: runs/x\n"


@pytest.fixture
def minimal(tmp_path: Path) -> Path:
    path = tmp_path / "train.yaml"
    path.write_text(MINIMAL)
    return path


def test_defaults_are_the_papers(minimal: Path) -> None:
    config = load_config(minimal, TrainConfig)
    assert (config.optimizer.lr, config.optimizer.warmup_steps, config.batch_size, config.epochs) == (
        6e-5,
        200,
        12,
        5,
    )
    assert (config.model.prefix.blocks, config.model.prefix.rows, config.model.lora.r) == (20, 10, 8)


def test_overrides_reach_inside_and_keep_their_types(minimal: Path) -> None:
    config = load_config(
        minimal, TrainConfig, ["optimizer.lr=1e-3", "model.lora.r=4", "model.tower=null", "max_steps=7"]
    )
    assert (config.optimizer.lr, config.model.lora.r, config.model.tower, config.max_steps) == (
        1e-3,
        4,
        None,
        7,
    )


@pytest.mark.parametrize(
    "text", ["007", "1.10", "2024_01", "1e3", "on", "0x1F", "1_000", "a: b", "[x", "a #b", "12:30:00", "'7'"]
)
def test_strings_in_overrides_are_taken_as_they_stand(minimal: Path, text: str) -> None:
    overrides = [f"output={text}", f"model.llm={text}", f"data.images={text}"]
    config = load_config(minimal, TrainConfig, overrides)
    assert (config.output, config.model.llm, config.data.images) == (text, text, text)
    assert load_section(minimal, "model", ModelConfig, [f"model.llm={text}"]).llm == text


def test_overrides_of_strings_can_be_none_and_name_the_environment(
    minimal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEMKR_RUNS", "runs/007")
    overrides = ["data.images=x", "data.images=null", "model.checkpoint=", "output=${oc.env:GEMKR_RUNS}/2"]
    config = load_config(minimal, TrainConfig, overrides)
    assert (config.data.images, config.model.checkpoint, config.output) == (None, None, "runs/007/2")


def test_a_number_where_a_file_needs_text_is_refused(minimal: Path) -> None:
    minimal.write_text(MINIMAL.replace("runs/x", "2024_01"))
    with pytest.raises(ConfigError, match="output must be text, it is the number 202401; put it in quotes"):
        load_config(minimal, TrainConfig)
    minimal.write_text(MINIMAL.replace("runs/x", "yes"))
    with pytest.raises(
        ConfigError, match=r"output must be text, it is True; put yes, no, on, off, .* in quotes"
    ):
        load_config(minimal, TrainConfig)
    minimal.write_text(MINIMAL.replace("runs/x", "'2024_01'"))
    assert load_config(minimal, TrainConfig).output == str(minimal.parent / "2024_01")


def test_round_trip_through_a_mapping(minimal: Path) -> None:
    assert to_mapping(load_config(minimal, TrainConfig))["model"]["lora"]["alpha"] == 16


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimiser.lr=1", "unknown key 'optimiser'; the nearest known key is 'optimizer'"),
        ("model.lora.rank=1", "unknown key 'rank'"),
        ("batch_size=many", "batch_size must be of type int, it is 'many'"),
        ("optimizer.lr=fast", "lr must be a number, it is 'fast'"),
        ("batch_size", "not of the form key=value"),
        ("output=null", "output must be of type str, it is None"),
        ("output=", "output must be of type str, it is None"),
        (
            "output=${oc.env:GEMKR_SURELY_UNSET}",
            "output is the environment variable GEMKR_SURELY_UNSET, which is not set",
        ),
        ("zzz=1", "unknown key .zzz.; known are output, optimizer, .*, as gemkr settings lists"),
    ],
)
def test_bad_overrides_are_named(minimal: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("'", ".").replace("(", ".")):
        load_config(minimal, TrainConfig, [override])


def test_a_key_that_yaml_reads_as_a_truth_value_is_explained(minimal: Path) -> None:
    """A reranker's own words for its answers are called yes and no."""
    text = minimal.read_text()
    minimal.write_text(f"{text}no: A\n")
    with pytest.raises(ConfigError, match=r'unknown key False; .* put the key in quotes, such as "yes"'):
        load_config(minimal, TrainConfig)
    minimal.write_text(f'{text}"no": A\n')
    with pytest.raises(ConfigError, match="unknown key 'no'"):
        load_config(minimal, TrainConfig)


def test_a_missing_file_and_a_missing_key_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load_config(tmp_path / "absent.yaml", EvalConfig)
    (tmp_path / "half.yaml").write_text("queries: q.jsonl\noutput: x\n")
    with pytest.raises(ConfigError, match="required key 'corpus' is missing"):
        load_config(tmp_path / "half.yaml", EvalConfig)
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(tmp_path / "broken.yaml", EvalConfig)


@pytest.mark.parametrize(
    "override", ["evaluate.0=bm25", "metrics={a: b}", "retrievers=[1]", "[=1", "k=\udcff"]
)
def test_an_override_that_does_not_fit_the_file_is_one_sentence(tmp_path: Path, override: str) -> None:
    path = tmp_path / "eval.yaml"
    path.write_text("corpus: c.csv\nmetrics: [S@1]\nevaluate: [bm25]\nretrievers: {bm25: {kind: bm25}}\n")
    with pytest.raises(ConfigError, match=r"cannot be put into the file \(.*give a list as a whole"):
        load_config(path, EvalConfig, [override])
