"""Who may import whom (ARCHITECTURE.md): read from the source text, so that nothing heavy is imported."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = [
    {"fm_index"},
    {"types", "errors", "interfaces"},
    {"corpus", "documents", "queries", "tokenizer", "tokenization", "config", "evaluation"},
    {"decoding.matcher"},
    {"decoding", "vision", "models", "testing"},
    {"retrievers", "rerankers", "training"},
    {"cli", "serve"},
]
DOORS = {
    "omegaconf": {"gemkr/config.py"},
    "ultralytics": {"gemkr/vision/detect.py"},
    "open_clip": {"gemkr/vision/encode.py"},
    "vllm": {"gemkr/decoding/vllm.py"},
    "pybind11": set(),
}
TORCH_SIDE = {"torch", "transformers", "peft", "accelerate", "open_clip", "ultralytics", "timm", "bm25s"}


def sources() -> list[Path]:
    return sorted((ROOT / "gemkr").rglob("*.py"))


def floor_of(module: str) -> int | None:
    """The floor of a gemkr module; None for the package itself."""
    parts = module.split(".")[1:]
    for length in (2, 1):
        name = ".".join(parts[:length])
        for number, floor in enumerate(FLOORS):
            if name and name in floor:
                return number
    return None


def module_name(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_no_module_imports_from_a_higher_floor(path: Path) -> None:
    own = floor_of(module_name(path))
    if own is None:
        return
    for name in imports(path):
        if name.startswith("gemkr."):
            other = floor_of(name)
            assert other is None or other <= own, f"{module_name(path)} must not import {name}"


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_heavy_packages_have_one_door(path: Path) -> None:
    relative = str(path.relative_to(ROOT))
    for name in imports(path):
        package = name.split(".")[0]
        if package in DOORS:
            assert relative in DOORS[package], f"{relative} must not import {package}"


@pytest.mark.parametrize("path", sorted((ROOT / "gemkr" / "cli").glob("*.py")), ids=module_name)
def test_command_modules_are_light(path: Path) -> None:
    heavy = {name.split(".")[0] for name in imports(path, top_level_only=True)} & TORCH_SIDE
    assert not heavy, f"{path.name} imports {heavy} before run()"


def test_every_module_says_what_it_is() -> None:
    silent = [str(p.relative_to(ROOT)) for p in sources() if not ast.get_docstring(ast.parse(p.read_text()))]
    assert silent == []


def test_every_gemkr_module_has_a_floor() -> None:
    homeless = {module_name(p) for p in sources() if floor_of(module_name(p)) is None}
    assert homeless <= {"gemkr", "gemkr.__main__"}


@pytest.mark.parametrize(
    "module", ["gemkr", "gemkr.fm_index", "gemkr.corpus", "gemkr.decoding.matcher", "gemkr.cli"]
)
def test_importing_the_light_floors_loads_no_torch(module: str) -> None:
    code = f"import sys, {module}; gemkr_cli = {module!r} == 'gemkr.cli'\nif gemkr_cli: {module}.build_parser()\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
