"""The README's promises: its Python runs, its commands parse, its links and configurations exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from gemkr.cli import build_parser

ROOT = Path(__file__).resolve().parents[1]
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
