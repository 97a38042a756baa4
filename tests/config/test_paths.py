"""Paths in configurations: what a relative one counts from, by where it was given; packaged configurations by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from gemkr.cli import main
from gemkr.config.files import from_mapping, load_config, load_section, to_mapping
from gemkr.config.packaged import FOLDER, find_config, names_of
from gemkr.errors import ConfigError, ModelError
from gemkr.evaluation.config import EvalConfig
from gemkr.models.gemkr.config import ModelConfig, model_files
from gemkr.models.gemkr.prompt import Template
from gemkr.retrievers.rescored import RescoredRetriever
from gemkr.training.config import PretrainConfig, TrainConfig

EVAL = """
corpus: ../corpus.csv
queries: ${oc.env:GEMKR_TRY,../data}/q.jsonl
output: ${oc.env:GEMKR_UNSET,${oc.env:GEMKR_TRY,../runs}}/eval
retrievers:
  gemkr:
    kind: generative
    index: here.fmi
    model:
      llm: ${oc.env:GEMKR_TRY,../llm}
      tokenizer: ${retrievers.gemkr.model.llm}/tokenizer.model
      checkpoint: /away/final
      prompt: {template: short}
    ensemble:
      - {llm: second, prompt: "${retrievers.gemkr.model.prompt}"}
  bm25: {kind: bm25}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("GEMKR_TRY", "GEMKR_UNSET"):
        monkeypatch.delenv(name, raising=False)
    Path("mine").mkdir()
    Path("mine/eval.yaml").write_text(EVAL)
    return Path("mine/eval.yaml")


def test_paths_of_a_file_count_from_its_folder(config: Path) -> None:
    read = load_config(config, EvalConfig)
    assert (read.corpus, read.queries, read.output) == ("corpus.csv", "data/q.jsonl", "runs/eval")
    gemkr = read.retrievers["gemkr"].config
    assert (gemkr.index, gemkr.ensemble[0].llm) == ("mine/here.fmi", "mine/second")
    assert (gemkr.model.llm, gemkr.model.tokenizer) == ("llm", "llm/tokenizer.model")
    assert gemkr.model.checkpoint == "/away/final"
    assert gemkr.model.prompt.template == gemkr.ensemble[0].prompt.template == "short"


def test_overrides_and_the_environment_count_from_the_current_folder(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEMKR_TRY", "given")
    overrides = ["corpus=c.csv", "retrievers.gemkr.index=i.fmi", "retrievers.gemkr.model.checkpoint=../final"]
    read = load_config(config, EvalConfig, overrides)
    assert (read.corpus, read.queries, read.output) == ("c.csv", "given/q.jsonl", "given/eval")
    gemkr = read.retrievers["gemkr"].config
    assert (gemkr.index, gemkr.model.checkpoint) == ("i.fmi", "../final")
    assert (gemkr.model.llm, gemkr.model.tokenizer) == ("given", "given/tokenizer.model")
    assert gemkr.ensemble[0].llm == "mine/second"


def test_an_override_may_refer_to_what_the_file_says(config: Path) -> None:
    read = load_config(
        config, EvalConfig, ["images=${corpus}", "retrievers.other=${retrievers.bm25}", "evaluate=[other]"]
    )
    assert (read.images, read.evaluate, read.retrievers["other"].kind) == ("corpus.csv", ("other",), "bm25")
    assert type(read.evaluate[0]) is type(read.retrievers["other"].kind) is str


def test_lists_of_paths_and_single_sections(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("corpus: c.csv\noutput: o\nfurther: [a.csv, /b.csv]\nmodel: {llm: llm}\n")
    assert load_section(path, "model", ModelConfig).llm == str(tmp_path / "llm")
    assert load_section(path, "model", ModelConfig, ["model.llm=llm"]).llm == "llm"
    path.write_text("corpus: c.csv\noutput: o\nfurther: [a.csv, /b.csv]\n")
    assert load_config(path, PretrainConfig).further == (str(tmp_path / "a.csv"), "/b.csv")
    assert load_config(path, PretrainConfig, ["further=[a.csv]"]).further == ("a.csv",)


def test_mappings_are_read_beside_a_folder_and_as_they_stand(tmp_path: Path) -> None:
    values = {"llm": "llm", "prompt": {"template": "../mine.txt"}}
    model = from_mapping(values, ModelConfig, "model", tmp_path / "sub")
    assert (model.llm, model.prompt.template) == (str(tmp_path / "sub" / "llm"), str(tmp_path / "mine.txt"))
    assert from_mapping(to_mapping(model), ModelConfig, "model") == model


@pytest.mark.parametrize(
    ("command", "kind"), [("pretrain", PretrainConfig), ("train", TrainConfig), ("eval", EvalConfig)]
)
def test_packaged_configurations_go_by_name_and_count_from_the_current_folder(
    command: str, kind: type
) -> None:
    assert "small" in names_of(command)
    read = load_config(find_config("small", command), kind)
    assert read.output.startswith("runs/small/")
    assert find_config(f"{command}.yaml", command) == Path(f"{command}.yaml")


def test_the_packaged_quickstart_finds_the_packages_models() -> None:
    model = load_config(find_config("quickstart", "train"), TrainConfig).model
    assert Path(model.llm) == FOLDER.parent / "sample" / "models" / "llm"
    assert Path(model.tower.weights).is_file()


def test_an_unknown_name_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        ConfigError, match="no configuration of gemkr pretrain is called 'big'; there are small"
    ):
        find_config("big", "pretrain")
    assert main(["train", "smal"]) == 1
    assert "there are blip_ff, clip_sf, lamra_rank, lamra_ret, preflmr, quickstart" in capsys.readouterr().err


def test_templates_go_by_name_or_path(tmp_path: Path) -> None:
    assert "### Question: {question}" in Template.load("short").sections
    (tmp_path / "own.txt").write_text("{question} <ImageHere>")
    assert Template.load(tmp_path / "own.txt").sections == ("{question} <ImageHere>",)
    with pytest.raises(
        ModelError,
        match="no prompt template is called 'sort'; there are gemkr, lamra_rank, listwise, okvqa, query_likelihood, reader, short, vlm, yes_no",
    ):
        Template.load("sort")
    model = from_mapping({"llm": "x", "prompt": {"template": "okvqa"}}, ModelConfig, "model")
    assert Path(model_files(model)["prompt.template"]).is_file()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("beam_size=5", "unknown key 'beam_size'; did you mean retrievers.NAME.decoding.beam_size?"),
        ("beamsize=5", "unknown key 'beamsize'; did you mean retrievers.NAME.decoding.beam_size?"),
        ("decodng.beam_size=5", "unknown key 'decodng'; did you mean retrievers.NAME.decoding?"),
        ("decoding.beam_size=5", "unknown key 'decoding'; did you mean retrievers.NAME.decoding?"),
        ("retrievers.NAME.beam_size=5", "unknown key 'beam_size'; did you mean decoding.beam_size?"),
        (
            "retrievers.NAME.decoding.beamsize=5",
            "unknown key 'beamsize'; the nearest known key is 'beam_size'",
        ),
        ("quereis=5", "unknown key 'quereis'; the nearest known key is 'queries'"),
        ("xyzzy=5", "unknown key 'xyzzy'; known are corpus, retrievers, "),
    ],
)
def test_a_key_that_stands_deeper_is_pointed_to(given: str, message: str) -> None:
    """The sections of the file have names and kinds, and so has what is pointed to."""
    small = FOLDER / "eval" / "small.yaml"
    with pytest.raises(ConfigError) as refusal:
        load_config(small, EvalConfig, [given.replace("NAME", "gemkr")])
    assert message.replace("NAME", "gemkr") in str(refusal.value)


def test_a_key_of_no_section_of_the_file_is_pointed_to() -> None:
    with pytest.raises(ConfigError, match=r"did you mean retrievers\.NAME\.decoding\.beam_size\?"):
        from_mapping({"corpus": "c", "retrievers": {}, "beam_size": 5}, EvalConfig, "x")
    train = FOLDER / "train" / "small.yaml"
    with pytest.raises(ConfigError, match=r"unknown key 'lr'; did you mean optimizer\.lr\?"):
        load_config(train, TrainConfig, ["lr=1"])
    with pytest.raises(ConfigError, match=r"did you mean data\.max_prompt_tokens\?"):
        load_config(train, TrainConfig, ["max_prompt_token=1"])


def test_paths_in_changed_settings_count_from_the_file_too(tmp_path: Path) -> None:
    inside = "{kind: dense, vectors: minilm, encoder: {kind: sentence_transformers, folder: ../encoder}}"
    (tmp_path / "here").mkdir()
    path = tmp_path / "here" / "eval.yaml"
    path.write_text(f"of: gemkr\nscoring: {{discount: 0.5, inside_span: {inside}}}\n")
    scoring = load_config(path, RescoredRetriever.Config).scoring
    assert set(scoring) == {"discount", "inside_span"}
    found = scoring["inside_span"]
    assert found["vectors"] == f"{tmp_path}/here/minilm"
    assert found["encoder"]["folder"] == f"{tmp_path}/encoder"
    path.write_text("of: gemkr\nscoring: {discont: 1}\n")
    with pytest.raises(
        ConfigError, match="scoring: unknown key 'discont'; the nearest known key is 'discount'"
    ):
        load_config(path, RescoredRetriever.Config)
