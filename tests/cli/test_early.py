"""Mistakes that are told before anything heavy is loaded, and results of other commands that are left alone."""

from __future__ import annotations

import dataclasses
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from tiny_clues import DOCUMENTS, experiment, write_material

from gemkr.cli import main
from gemkr.config.files import to_mapping
from gemkr.data.clues import read_clues, write_clues
from gemkr.data.run_folders import PRETRAIN, RETRIEVE, TRAIN, owner_of, require_own
from gemkr.errors import DataError, VisionError
from gemkr.fm_index import FMIndex
from gemkr.models.gemkr.config import ModelConfig
from gemkr.text.tokenizer import load_tokenizer
from gemkr.training import network
from gemkr.training.checkpoints import trained
from gemkr.training.checkpoints.learned import warn_of_other_corpus
from gemkr.training.config import LlamaConfig, PretrainConfig, TrainConfig
from gemkr.training.finetune import finetune
from gemkr.training.pretrain import pretrain
from gemkr.vision.config import TowerConfig


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Queries, clues and an LLM; corpus, index and configurations; a finished training, pre-training and retrieval of them."""
    folder = write_material(tmp_path_factory.mktemp("material"))
    rows = "".join(f'{i},"{text}"\n' for i, text in enumerate(DOCUMENTS))
    (folder / "corpus.csv").write_text("kid,text\n" + rows)
    write_index(folder / "corpus.fmi", folder, DOCUMENTS)
    config = experiment(folder, folder / "trained", max_steps=1)
    finetune(config)
    write(folder / "train.yaml", config)
    pretraining = pretraining_of(folder, folder / "pretrained")
    pretrain(pretraining)
    write(folder / "pretrain.yaml", pretraining)
    (folder / "eval.yaml").write_text(
        f"queries: {folder}/queries.jsonl\ncorpus: {folder}/corpus.csv\noutput: {folder}/retrieved\nmetrics: [P@5]\n"
        "retrievers:\n  bm25: {kind: bm25}\n  same: {kind: rescored, of: gemkr}\n"
        f"  gemkr:\n    kind: generative\n    index: {folder}/corpus.fmi\n"
        f"    model: {{llm: {folder}/llm, lora: {{r: 4, dropout: 0.1}}, checkpoint: {folder}/trained/final}}\n"
        "    decoding: {beam_size: 2, groups: 1, max_tokens: 6}\nevaluate: [gemkr]\n"
    )
    assert main(["retrieve", str(folder / "eval.yaml")]) == 0
    return folder


def pretraining_of(folder: Path, output: Path) -> PretrainConfig:
    size = LlamaConfig(hidden=32, layers=2, heads=2, intermediate=48, context=256)
    return PretrainConfig(
        corpus=str(folder / "corpus.csv"), tokenizer=str(folder / "t.model"), llama=size, output=str(output), max_steps=0,
        sequence_tokens=32, batch_size=2
    )  # fmt: skip


def write_index(path: Path, folder: Path, texts: list[str]) -> None:
    tokenizer = load_tokenizer(folder / "t.model")
    ids = [str(i) for i in range(len(texts))]
    FMIndex.build([tokenizer.encode(text) for text in texts], ids, tokenizer=tokenizer).save(path)


def write(path: Path, config: TrainConfig | PretrainConfig) -> None:
    path.write_text(json.dumps(to_mapping(config)))


def without_torch(*argv: object, status: int = 1) -> str:
    """What a command says on standard error, in a process of its own that never imports torch or transformers."""
    code = (
        "import sys\nfrom gemkr.cli import main\nstatus = main(sys.argv[1:])\n"
        "heavy = [name for name in ('torch', 'transformers', 'open_clip') if name in sys.modules]\n"
        "sys.exit(f'loaded {heavy}' if heavy else status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, argv)], capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stderr
    assert "loaded [" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("gemkr: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.mark.parametrize("key", ["data.clues", "data.development", "rank_loss.clues", "data.queries"])
def test_an_empty_file_of_material_is_told_before_torch(key: str, material: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    argv = ["train", material / "train.yaml", f"output={tmp_path}/out", f"{key}={tmp_path}/empty.jsonl"]
    assert "empty.jsonl" in without_torch(*argv)
    assert not (tmp_path / "out").exists()


def test_an_empty_corpus_is_told_before_torch(material: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    argv = ["pretrain", material / "pretrain.yaml", f"output={tmp_path}/out", f"corpus={tmp_path}/empty.csv"]
    assert "empty.csv" in without_torch(*argv)


def test_a_finished_training_is_told_before_torch(material: Path) -> None:
    said = without_torch("train", material / "train.yaml")
    assert f"{material}/trained already holds a training run; go on with --resume auto" in said


def test_a_training_starts_from_a_checkpoint_or_says_that_it_is_none(
    material: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    argv = ["train", str(material / "train.yaml"), f"output={tmp_path}/out", "max_steps=1"]
    said = without_torch(*argv, f"model.checkpoint={tmp_path}")
    assert f"{tmp_path} is no checkpoint: its manifest.json cannot be read" in said
    assert main([*argv, f"model.checkpoint={material}/trained/final"]) == 0
    assert (tmp_path / "out" / "final" / "manifest.json").is_file()


def test_a_finished_retrieval_needs_no_model(material: Path) -> None:
    said = without_torch("retrieve", material / "eval.yaml", status=0)
    assert "8 queries, 8 of them from an earlier run" in said
    assert "with k = 10, this one has 3" in without_torch("retrieve", material / "eval.yaml", "k=3")


def test_clues_that_are_not_there_are_told_before_torch(material: Path, tmp_path: Path) -> None:
    for argv in (
        ["judge", material / "eval.yaml", "-o", tmp_path / "judged.jsonl"],
        ["retrieve", material / "eval.yaml", "--retriever", "same"],
    ):
        assert "run.jsonl is not there" in without_torch(*argv, f"output={tmp_path}/none")
    (tmp_path / "empty" / "gemkr").mkdir(parents=True)
    (tmp_path / "empty" / "gemkr" / "run.jsonl").touch()
    argv = ["judge", material / "eval.yaml", "-o", tmp_path / "judged.jsonl", f"output={tmp_path}/empty"]
    assert "run.jsonl holds no clues" in without_torch(*argv)


def test_a_corrupt_picture_of_a_question_is_told_before_torch(material: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    said = without_torch("ask", material / "eval.yaml", "What is it?", "--picture", tmp_path / "bad.jpg")
    assert f"the picture {tmp_path}/bad.jpg cannot be read: it is no picture of a known format" in said
    assert said.endswith("; give another picture")


def with_pictures(folder: Path, corrupt: bool) -> Path:
    """Queries with pictures, one of which may be cut short."""
    (folder / "images").mkdir()
    rows = []
    for i in range(8):
        Image.effect_noise((40, 40), 90).save(folder / "images" / f"p{i}.png")
        rows.append({"query_id": f"q{i}", "question": "Where ?", "image": f"p{i}", "answers": ["x"]})
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if corrupt:
        path = folder / "images" / "p5.png"
        path.write_bytes(path.read_bytes()[:300])
    return folder


@pytest.mark.parametrize("corrupt", [True, False])
def test_corrupt_pictures_are_told_before_a_model_is_loaded(
    corrupt: bool,
    material: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    """Of training and of retrieval; each says what can be done there."""

    class LoadedError(Exception):
        pass

    def load(*args: object, **settings: object) -> None:
        raise LoadedError

    folder = with_pictures(tmp_path, corrupt)
    monkeypatch.setattr(network, "load_writer", load)
    monkeypatch.setattr(trained, "load_writer", load)
    config = experiment(material, tmp_path / "out")
    config = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, tower=TowerConfig()),
        data=dataclasses.replace(
            config.data, queries=str(folder / "queries.jsonl"), images=str(folder / "images")
        ),
    )
    message = r"the picture 'p5' \(\S+p5\.png\) cannot be read: .*; replace it, or take out the query or document that names it$"
    with pytest.raises(VisionError if corrupt else LoadedError, match=message if corrupt else None):
        finetune(config)
    argv = ["retrieve", str(material / "eval.yaml"), f"output={tmp_path}/run", f"images={folder}/images"]
    argv += [f"queries={folder}/queries.jsonl", "retrievers.gemkr.model.tower={architecture: ViT-B-32}"]
    argv += ["retrievers.gemkr.model.checkpoint=null"]
    if not corrupt:
        with pytest.raises(LoadedError):
            main(argv)
        return
    capsys.readouterr()
    assert main(argv) == 1
    said = capsys.readouterr().err
    assert "the picture 'p5'" in said
    assert "take out the query or document that names it" in said
    assert "--skip-missing" not in said


def test_owners_are_known_by_what_they_leave(material: Path, tmp_path: Path) -> None:
    assert owner_of(tmp_path / "nowhere") is owner_of(tmp_path) is None
    assert owner_of(material / "trained") == TRAIN
    assert owner_of(material / "pretrained") == PRETRAIN
    stepped = dataclasses.replace(pretraining_of(material, tmp_path / "stepped"), max_steps=1)
    pretrain(stepped)
    assert owner_of(tmp_path / "stepped") == PRETRAIN
    assert owner_of(material / "retrieved") == owner_of(material / "retrieved" / "gemkr") == RETRIEVE
    (tmp_path / "step-000001").mkdir()
    (tmp_path / "step-000001" / "manifest.json").write_text("[]")
    with pytest.raises(DataError, match="holds the results of another training, not of gemkr train;"):
        require_own(tmp_path, TRAIN)


@pytest.mark.parametrize(
    ("command", "output", "owner"),
    [
        ("train", "pretrained", PRETRAIN),
        ("train", "retrieved", RETRIEVE),
        ("train", "retrieved/gemkr", RETRIEVE),
        ("pretrain", "trained", TRAIN),
        ("pretrain", "retrieved", RETRIEVE),
        ("eval", "trained", TRAIN),
        ("eval", "pretrained", PRETRAIN),
        ("retrieve", "trained", TRAIN),
    ],
)
def test_no_command_writes_into_the_folder_of_another(
    command: str, output: str, owner: str, material: Path
) -> None:
    before = sorted(material.rglob("*"))
    config = "eval.yaml" if command == "retrieve" else f"{command}.yaml"
    said = without_torch(command, material / config, f"output={material}/{output}")
    assert f"the output folder {material}/{output} holds the results of {owner}, not of gemkr " in said
    assert said.endswith("; set output to another folder")
    assert sorted(material.rglob("*")) == before


@pytest.mark.parametrize("output", ["trained/final", "pretrained/model"])
@pytest.mark.parametrize("command", ["train", "pretrain", "eval", "retrieve"])
def test_no_command_writes_into_a_model(command: str, output: str, material: Path) -> None:
    before = sorted(material.rglob("*"))
    config = "eval.yaml" if command == "retrieve" else f"{command}.yaml"
    said = without_torch(command, material / config, f"output={material}/{output}")
    assert f"the output folder {material}/{output} is itself a model or checkpoint" in said
    assert sorted(material.rglob("*")) == before


def test_a_tokenizer_or_corpus_of_another_index_is_told_before_a_model_is_loaded(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    class LoadedError(Exception):
        pass

    def load(*args: object, **settings: object) -> None:
        raise LoadedError

    monkeypatch.setattr(trained, "load_writer", load)
    argv = ["retrieve", str(material / "eval.yaml"), f"output={tmp_path}/run"]
    with pytest.raises(LoadedError):
        main(argv)
    assert main([*argv, f"retrievers.gemkr.model.llm={tmp_path}/nowhere"]) == 1
    assert f"the tokenizer {tmp_path}/nowhere does not exist" in capsys.readouterr().err
    corpus = tmp_path / "later.csv"
    corpus.write_text("kid,text\n" + "".join(f'{i},"later {text}"\n' for i, text in enumerate(DOCUMENTS)))
    assert main([*argv, f"corpus={corpus}"]) == 1
    assert "document '0' has other tokens in the index than" in capsys.readouterr().err


def test_a_run_folder_that_is_a_training_is_left_alone(material: Path, tmp_path: Path) -> None:
    (tmp_path / "gemkr").symlink_to(material / "trained")
    said = without_torch("retrieve", material / "eval.yaml", f"output={tmp_path}")
    assert f"{tmp_path}/gemkr holds the results of {TRAIN}" in said
    assert not (material / "trained" / "run.jsonl").exists()


def test_mining_notices_a_corpus_older_than_the_index(
    material: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    newer = [text.replace("eats", "sleeps") for text in DOCUMENTS]
    write_index(tmp_path / "newer.fmi", material, newer)
    argv = ["mine", str(material / "queries.jsonl"), "--corpus", str(material / "corpus.csv")]
    argv += ["--tokenizer", str(material / "t.model"), "-o", str(tmp_path / "clues.jsonl"), "--index"]
    assert main([*argv, str(tmp_path / "newer.fmi")]) == 1
    assert "has other tokens in the index than" in capsys.readouterr().err
    assert not (tmp_path / "clues.jsonl").exists()
    assert main([*argv, str(material / "corpus.fmi")]) == 0


def test_clues_of_an_older_corpus_than_the_index_are_reported(
    material: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = load_tokenizer(material / "t.model")
    index = FMIndex.load(material / "corpus.fmi")
    clues = [
        dataclasses.replace(clue, count=index.search(clue.tokens).count)
        for clue in read_clues(material / "clues.jsonl")
    ]
    write_clues(tmp_path / "clues.jsonl", clues)
    config = experiment(material, tmp_path / "run", max_steps=1)
    config = dataclasses.replace(
        config, data=dataclasses.replace(config.data, clues=str(tmp_path / "clues.jsonl"))
    )
    finetune(config)
    model = dataclasses.replace(config.model, checkpoint=str(tmp_path / "run" / "final"))
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        warn_of_other_corpus(model, index)
        warn_of_other_corpus(ModelConfig(llm="none"), index)
        assert not caplog.messages
        newer = [text.replace("fox", "dog") for text in DOCUMENTS]
        write_index(tmp_path / "newer.fmi", material, newer)
        other = FMIndex.load(tmp_path / "newer.fmi")
        warn_of_other_corpus(model, other)
    gone = [clue for clue in clues if other.search(clue.tokens).count != clue.count]
    assert gone
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(
        f"{len(gone)} of {len(clues)} clues looked at that {model.checkpoint} learned were mined from another corpus than that of "
        f"the index {tmp_path}/newer.fmi, such as "
    )
    assert tokenizer.decode(gone[0].tokens) in {clue.text for clue in gone}


def test_an_index_over_another_one_is_said(
    material: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    argv = ["index", "build", str(material / "corpus.csv"), "--tokenizer", str(material / "t.model")]
    argv += ["--threads", "1", "-o", str(tmp_path / "x.fmi")]
    assert main(argv) == 0
    assert main(argv) == 0
    assert "another index" not in capsys.readouterr().err
    write_index(tmp_path / "x.fmi", material, DOCUMENTS[:3])
    assert main(argv) == 0
    said = f"another index stood in {tmp_path}/x.fmi and is replaced; runs and clues made with it do not belong to this one"
    assert said in capsys.readouterr().err.splitlines()
    (tmp_path / "x.fmi").write_text("somebody's notes")
    assert main(argv) == 1
    assert "x.fmi holds no whole index of this version and would be replaced" in capsys.readouterr().err
    assert (tmp_path / "x.fmi").read_text() == "somebody's notes"


def test_what_a_later_retriever_lacks_is_told_before_the_first_one_works(
    material: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = f"{{kind: sentence_transformers, folder: {tmp_path}/none}}"
    scoring = f"{{inside_span: {{kind: dense, vectors: v, encoder: {encoder}}}}}"
    command = ["eval", str(material / "eval.yaml"), f"output={tmp_path}/out"]
    command.append(f"retrievers.inside={{kind: rescored, of: gemkr, scoring: {scoring}}}")
    command.append(f"retrievers.dense={{kind: dense, encoder: {encoder}}}")
    assert main([*command, "evaluate=[bm25,dense]"]) == 1
    assert f"the encoder folder {tmp_path}/none is not there; give a local folder" in capsys.readouterr().err
    assert main([*command, "evaluate=[bm25,inside]"]) == 1
    error = capsys.readouterr().err
    assert f"the retriever 'inside' reads encoder from {tmp_path}/none, which is not there; make it" in error
    assert not (tmp_path / "out" / "bm25").exists()
