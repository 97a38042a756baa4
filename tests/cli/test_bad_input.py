"""Bad input on the command line: one sentence that names the thing, exit status 1 (usage: 2), nothing half-written."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sentencepiece
import torch

from gemkr.cli import main
from gemkr.config.files import load_config
from gemkr.errors import ConfigError
from gemkr.testing import FakeLM, toy_corpus
from gemkr.training.config import PretrainConfig

GARBAGE = bytes(range(128, 256)) * 8


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus, its tokenizer and index, a query, a boxes file, an empty folder and files of garbage."""
    folder = tmp_path_factory.mktemp("material")
    texts = [document.text for document in toy_corpus()]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_prefix=str(folder / "pieces"),
        vocab_size=90,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    rows = "".join(f'd{i},"{text}"\n' for i, text in enumerate(texts))
    (folder / "corpus.csv").write_text("kid,text\n" + rows)
    (folder / "queries.jsonl").write_text('{"query_id": "1", "question": "x", "answers": ["Paris"]}\n')
    (folder / "unanswered.jsonl").write_text('{"query_id": "1", "question": "x"}\n')
    (folder / "run.trec").write_text("1 Q0 d0 1 2.0 t\n")
    (folder / "qrels").write_text("1 0 d0 1\n")
    (folder / "pictures").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "boxes.jsonl").write_text('{"format": 1}\n')
    for name in ("bad.csv", "bad.pt", "bad.fmi", "bad.yaml", "bad.txt"):
        (folder / name).write_bytes(GARBAGE)
    assert main(build(folder, folder / "corpus.fmi")) == 0
    return folder


def build(folder: Path, output: Path | str, *more: str, corpus: str = "corpus.csv") -> list[str]:
    words = ["index", "build", str(folder / corpus), "--tokenizer", str(folder / "pieces.model")]
    return [*words, "-o", str(output), "--threads", "1", *more]


def refused(argv: list[str], capsys: pytest.CaptureFixture) -> str:
    """The one line that a command with exit status 1 says."""
    capsys.readouterr()
    assert main(argv) == 1
    lines = [line for line in capsys.readouterr().err.replace("\r", "\n").splitlines() if "gemkr: " in line]
    assert len(lines) == 1
    return lines[0]


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file of this process can grow beyond `size` bytes: what a full disk looks like to a program."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("output", ["corpus.csv/x.fmi", "pictures", "pipe", "corpus.csv"])
def test_an_output_that_is_no_place_for_a_file(
    output: str, material: Path, capsys: pytest.CaptureFixture
) -> None:
    before = (material / "corpus.csv").read_bytes()
    said = refused(build(material, material / output), capsys)
    assert "with -o" in said
    assert Path(output).name in said or "corpus.csv" in said
    assert (material / "corpus.csv").read_bytes() == before
    assert (material / "pipe").is_fifo()


@pytest.mark.parametrize(
    "words",
    [
        ["index", "build", "c", "--tokenizer", "t", "-o", "o", "--sample-rate", "0"],
        ["index", "build", "c", "--tokenizer", "t", "-o", "o", "--sample-rate", "99999999999999999999"],
        ["index", "build", "c", "--tokenizer", "t", "-o", "o", "--threads", "-1"],
        ["index", "build", "c", "--tokenizer", "t", "-o", "o", "--memory-limit", "nan"],
        ["index", "build", "c", "--tokenizer", "t", "-o", "o", "--memory-limit", "0"],
        ["index", "query", "i", "text", "--tokenizer", "t", "--limit", "-1"],
        ["mine", "q", "--corpus", "c", "--index", "i", "--tokenizer", "t", "-o", "o", "--limit", "-1"],
        ["mine", "q", "--corpus", "c", "--index", "i", "--tokenizer", "t", "-o", "o", "--sample", "-1"],
        ["regions", "detect", "p", "--weights", "w", "-o", "o", "--confidence", "nan"],
        ["regions", "detect", "p", "--weights", "w", "-o", "o", "--overlap", "1.5"],
        ["regions", "encode", "p", "b", "-o", "o", "--weights", "w", "--margin", "-1"],
        ["score", "r", "--seed", "-1"],
        ["quickstart", "--max-steps", "-1"],
    ],
    ids=" ".join,
)
def test_numbers_out_of_range_are_usage_errors(words: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    assert f"argument {words[-2]}: must be" in capsys.readouterr().err


def test_a_tower_is_random_only_by_name(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["regions", "encode", "p", "b", "-o", "o"])
    assert stop.value.code == 2
    assert "required: --weights" in capsys.readouterr().err


def test_garbage_as_csv_is_told_in_a_short_line(material: Path, capsys: pytest.CaptureFixture) -> None:
    said = refused(build(material, material / "new.fmi", corpus="bad.csv"), capsys)
    assert "bad.csv: the header" in said
    assert len(said) < 300
    assert not (material / "new.fmi").exists()


@pytest.mark.parametrize("name", ["corpus", "pictures/none.xyz"])
def test_an_absent_corpus_is_not_blamed_on_its_extension(
    name: str, material: Path, capsys: pytest.CaptureFixture
) -> None:
    assert "does not exist" in refused(build(material, material / "new.fmi", corpus=name), capsys)


def test_a_full_disk_is_one_sentence_and_leaves_the_old_index(
    material: Path, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    output = tmp_path / "old.fmi"
    output.write_bytes(b"old")
    with file_size_limit(2048):
        said = refused(build(material, output), capsys)
    assert "old.fmi" in said
    assert [path.name for path in tmp_path.iterdir()] == ["old.fmi"]
    assert output.read_bytes() == b"old"


@pytest.mark.parametrize("name", ["file/x", "x" * 250])
def test_a_file_name_that_cannot_be_is_told_by_every_writer(tmp_path: Path, name: str) -> None:
    from gemkr.data.rows import write_records
    from gemkr.errors import DataError, TokenizerError
    from gemkr.files import write_atomically
    from gemkr.text.vocabulary import train_vocabulary

    (tmp_path / "file").write_text("in the way")
    reason = "Not a directory|File name too long"
    with pytest.raises(DataError, match=reason):
        write_atomically(tmp_path / name, "text")
    with pytest.raises(DataError, match=reason):
        write_records(tmp_path / f"{name}xx", [], "clues")
    with pytest.raises(TokenizerError, match=reason):
        train_vocabulary(["a b"], tmp_path / name, pieces=300)


def test_a_disk_that_fills_up_during_a_run_keeps_what_was_done(tmp_path: Path) -> None:
    from gemkr.data.records import RunLog, read_records
    from gemkr.errors import DataError
    from gemkr.types import Hit, Ranking

    def retrieve() -> None:
        with file_size_limit(1024), RunLog(tmp_path) as run:
            run.append(Ranking("1", (Hit("d0", 1.0),), ()))
            run.append(Ranking("2", tuple(Hit(f"d{i}", 1.0) for i in range(100)), ()))

    with pytest.raises(DataError, match=r"run\.jsonl cannot be written .*the 1 queries done are kept"):
        retrieve()
    with RunLog(tmp_path) as run:
        assert run.done == {"1"}
    assert [ranking.query_id for ranking in read_records(tmp_path / "run.jsonl")] == ["1"]


def test_a_disk_that_fills_up_in_training_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gemkr.errors import CheckpointError
    from gemkr.training.loop import log as log_module

    monkeypatch.setattr(log_module, "_has_tensorboard", lambda: False)

    def train() -> None:
        with file_size_limit(64), log_module.RunLog(tmp_path, start=0, total=2, title="train") as log:
            log.row(1, loss=0.5, note="x" * 100)

    with pytest.raises(CheckpointError, match=r"loss\.jsonl cannot be written .* --resume auto"):
        train()


def test_a_disk_that_fills_up_under_a_new_model_is_named(material: Path, tmp_path: Path) -> None:
    from gemkr.errors import CheckpointError
    from gemkr.text.tokenizer import load_tokenizer
    from gemkr.training.config import LlamaConfig
    from gemkr.training.pretrain import build_llama, save_llama

    tokenizer = load_tokenizer(material / "pieces.model")
    llm = build_llama(LlamaConfig(hidden=32, layers=1, heads=2, intermediate=32, context=64), tokenizer)

    def save() -> None:
        with file_size_limit(4096):
            save_llama(llm, tokenizer, tmp_path / "model")

    with pytest.raises(CheckpointError, match=r"^the model folder .*model cannot be written .* resume$"):
        save()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("queries", "options", "said"),
    [
        ("unanswered", [], "none of the 1 queries"),
        ("queries", ["--anchor", "question"], "has a gold passage to quote"),
    ],
)
def test_mining_without_answers_or_gold_passages(
    material: Path, capsys: pytest.CaptureFixture, queries: str, options: list[str], said: str
) -> None:
    output = material / "clues.jsonl"
    words = ["mine", f"{material}/{queries}.jsonl", "--corpus", f"{material}/corpus.csv", "-o", str(output)]
    words += ["--index", f"{material}/corpus.fmi", "--tokenizer", f"{material}/pieces.model", *options]
    assert said in refused(words, capsys)
    assert not output.exists()


def test_a_score_does_not_overwrite_its_run(material: Path, capsys: pytest.CaptureFixture) -> None:
    run = str(material / "run.trec")
    assert "same file as an input" in refused(["score", run, f"{material}/qrels", "--json", run], capsys)


def test_configurations_that_are_none(material: Path) -> None:
    with pytest.raises(ConfigError, match=r"bad\.yaml is not UTF-8 text"):
        load_config(material / "bad.yaml", PretrainConfig)
    with pytest.raises(ConfigError, match="is not a file"):
        load_config(material / "pictures", PretrainConfig)
    with pytest.raises(ConfigError, match="unknown key") as refusal:
        load_config(material / "corpus.csv", PretrainConfig)
    assert len(str(refusal.value)) < 300


def detect(material: Path, weights: Path, *more: str) -> list[str]:
    return ["regions", "detect", f"{material}/pictures", "--weights", str(weights), *more]


def test_detector_weights_that_are_none(
    material: Path, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    output = ["-o", str(tmp_path / "boxes.jsonl")]
    assert "are a folder" in refused(detect(material, material / "pictures", *output), capsys)
    assert "end in '.csv'" in refused(detect(material, material / "corpus.csv", *output), capsys)
    assert "'tpu' is unknown" in refused(detect(material, material, *output, "--device", "tpu"), capsys)
    assert "cuda:99" in refused(detect(material, material, *output, "--device", "cuda:99"), capsys)
    assert list(tmp_path.iterdir()) == []


def test_boxes_go_to_a_file_that_can_be_one(material: Path, capsys: pytest.CaptureFixture) -> None:
    words = detect(material, material / "bad.pt")
    assert "is a folder" in refused([*words, "-o", str(material / "pictures")], capsys)
    preview = ["-o", str(material / "b.jsonl"), "--preview", "1", "--preview-dir", f"{material}/bad.pt/x"]
    assert "cannot be written" in refused([*words, *preview], capsys)


def test_boxes_files_that_are_none(material: Path, tmp_path: Path) -> None:
    from gemkr.errors import VisionError
    from gemkr.vision.boxes import read_boxes

    with pytest.raises(VisionError, match="names no detector"):
        read_boxes(material / "boxes.jsonl")
    with pytest.raises(VisionError, match="is not UTF-8 text"):
        read_boxes(material / "bad.txt")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_foreign_tower_weights_are_told_in_one_line(material: Path, tmp_path: Path) -> None:
    from gemkr.errors import VisionError
    from gemkr.vision.config import TowerConfig
    from gemkr.vision.encode import load_tower

    tower = {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 8, "layers": 1, "width": 16, "patch_size": 8, "head_width": 8},
    }
    (tmp_path / "vit.json").write_text(json.dumps(tower))
    for weights in ("bad.pt", "corpus.csv", "pictures", "none.pt"):
        with pytest.raises(VisionError, match=weights) as refusal:
            load_tower(TowerConfig(config=str(tmp_path / "vit.json"), weights=str(material / weights)))
        assert "\n" not in str(refusal.value)
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(VisionError, match="must be a json object, it is list"):
        load_tower(TowerConfig(config=str(tmp_path / "list.json")))


def test_texts_that_are_not_utf8_and_files_that_are_absent(material: Path) -> None:
    from gemkr.errors import DataError, ModelError
    from gemkr.models.gemkr.prompt import Template
    from gemkr.training.checkpoints.origin import hash_files

    with pytest.raises(ModelError, match="not UTF-8"):
        Template.load(material / "bad.txt")
    with pytest.raises(DataError, match=r"none\.txt cannot be read"):
        hash_files([material / "none.txt"])


def test_an_unforeseen_refusal_of_the_system_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    import gemkr.cli.score

    def full(args: object) -> int:
        raise OSError(28, "No space left on device", "out.json")

    monkeypatch.setattr(gemkr.cli.score, "run", full)
    assert "No space left on device (out.json)" in refused(["score", "run"], capsys)


@pytest.mark.parametrize(
    ("told", "figures"),
    [
        (
            "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which 1.06 GiB is "
            "free. Including non-PyTorch memory, this process has 78.04 GiB memory in use.",
            " (Tried to allocate 2.00 GiB, GPU 0 has a total capacity of 79.11 GiB of which 1.06 GiB is free)",
        ),
        ("", ""),
    ],
)
def test_a_full_gpu_is_one_sentence(
    told: str, figures: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def run_out(args: object) -> int:
        raise torch.cuda.OutOfMemoryError(told)

    monkeypatch.setattr("gemkr.cli.settings.run", run_out)
    said = refused(["settings", "eval"], capsys)
    assert f"the GPU ran out of memory{figures}; lower batch_size (and raise gradient_accumulation" in said
    assert "decoding.batch_size or decoding.beam_size" in said


def test_an_error_before_torch_is_there_imports_no_torch() -> None:
    code = (
        "import sys, gemkr.cli, gemkr.cli.settings\n"
        "def fail(args): raise ZeroDivisionError\n"
        "gemkr.cli.settings.run = fail\n"
        "try: gemkr.cli.main(['settings', 'eval'])\n"
        "except ZeroDivisionError: sys.exit('torch' in sys.modules)\n"
        "sys.exit(2)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_fake_model_without_logits_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="logits_of"):
        FakeLM(5, ())


def test_an_extension_that_is_not_built_is_one_sentence(tmp_path: Path) -> None:
    package = Path(main.__code__.co_filename).parents[1]
    for file in package.rglob("*.py"):
        copy = tmp_path / "gemkr" / file.relative_to(package)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    command = [sys.executable, "-m", "gemkr", "settings", "train"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1
    assert line.startswith("gemkr: gemkr's C++ extension is not built")
    assert "run `make install`" in line


@pytest.mark.parametrize("package", ["PIL", "torch", "uvicorn"])
def test_a_package_that_is_not_installed_is_one_sentence(tmp_path: Path, package: str) -> None:
    service = package == "uvicorn"
    command, extra = (["serve", "x"], "serve") if service else (["quickstart", "-o", "runs"], "model,yolo")
    code = (
        f"import sys; sys.modules[{package!r}] = None; sys.argv = ['gemkr', *{command!r}]; "
        "from gemkr.__main__ import main; raise SystemExit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    line = done.stderr.splitlines()[-1]
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert line == (
        f"gemkr: this command needs the package {package}, which is not installed; pip install 'gemkr[{extra}]'"
    )
