"""The README's promises: its Python runs, its commands parse, its links and configurations exist."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from gemkr.cli import build_parser, main

ROOT = Path(__file__).resolve().parents[2]
PAPERS = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "index/README.md",
    "dataset/README.md",
    "docs/real-data.md",
]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands(text: str) -> list[str]:
    return [line.strip().split("  #")[0] for line in text.splitlines() if re.match(r" {4}gemkr ", line)]


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL))
def test_python_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), scope)
    if "counts" in scope:
        assert (list(scope["tokens"]), list(scope["counts"])) == ([8], [1])
        assert (tmp_path / "tiny.fmi").exists()
    else:
        assert scope["hit"].evidence


@pytest.mark.parametrize("paper", PAPERS)
def test_commands_parse(paper: str) -> None:
    parser = build_parser()
    for command in commands((ROOT / paper).read_text(encoding="utf-8")):
        parser.parse_args(shlex.split(command)[1:])


@pytest.mark.parametrize("paper", PAPERS)
def test_links_lead_somewhere(paper: str) -> None:
    path = ROOT / paper
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), f"{paper} links to {target}"


def test_named_configurations_exist() -> None:
    for name in re.findall(r"(?:train|eval)_configs/\w+\.yaml", README):
        assert (ROOT / name).is_file(), name


def test_the_way_without_base_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    section = README.split("## Your own corpus, without base models")[1].split("\n## ")[0]
    monkeypatch.chdir(tmp_path)
    places = ["a barn", "the attic", "a tall tower", "the old mill", "a river bed", "the harbour"]
    things = ["kite", "drum", "harp", "lamp", "boat", "bell", "rope", "coin", "mask", "flute", "map", "key"]
    found = {thing: places[number % len(places)] for number, thing in enumerate(things)}
    corpus = [
        f"{n},The {thing} was found in {place} by a boy." for n, (thing, place) in enumerate(found.items())
    ]
    Path("corpus.csv").write_text("kid,text\n" + "\n".join(corpus) + "\n")
    questions = [
        {
            "query_id": thing,
            "question": f"Where was the {thing} found?",
            "caption": f"a {thing}",
            "answers": [place],
        }
        for thing, place in found.items()
    ]
    for name in ("train.jsonl", "test.jsonl"):
        Path(name).write_text("".join(json.dumps(row) + "\n" for row in questions))
    small = {
        "pretrain": ["vocabulary.pieces=330"],
        "train": ["batch_size=4", "optimizer.lr=3e-3", "epochs=30"],
    }
    for command in commands(section):
        words = shlex.split(command)[1:]
        assert main([*words, *small.get(words[0], ())]) == 0, command
    row = json.loads(Path("runs/small/eval/metrics.json").read_text())["rows"]["gemkr"]
    assert row["S@1"] > 0.5
    assert "kite" in Path("runs/small/eval/report.html").read_text()
