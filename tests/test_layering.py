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
    {"types", "errors", "interfaces", "progress", "files"},
    {"config", "text"},
    {"data"},
    {"vector_index", "collection", "vision", "decoding"},
    {"models", "scorers", "testing"},
    {"training"},
    {"sources"},
    {"retrievers", "rerankers", "answering"},
    {"evaluation"},
    {"loaded", "sample", "serve", "client"},
    {"cli"},
]
DOORS = {
    "omegaconf": {"gemkr/config/files.py"},
    "ultralytics": {"gemkr/vision/detect.py", "gemkr/sample/train_yolo.py"},
    "open_clip": {"gemkr/vision/encode.py", "gemkr/sample/train_clip.py"},
    "gguf": {"gemkr/text/gguf_file.py"},
    "bm25s": {"gemkr/scorers/bm25.py"},
    "faiss": {"gemkr/vector_index/faiss_library.py"},
    "sentence_transformers": {"gemkr/models/hf/sentence_transformers.py"},
    "ray": {"gemkr/collection/cluster.py", "gemkr/serve/ray_app.py"},
    "fastapi": {"gemkr/serve/app.py"},
    "vllm": {"gemkr/decoding/engines/vllm.py"},
    "pybind11": set(),
}
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
OUTSIDE = {"benchmarks", "data_process", "tests", "train", "eval"}
"""What nothing in the package may import."""
TORCH_SIDE = {"torch", "transformers", "peft", "accelerate", "open_clip", "ultralytics", "timm", "bm25s"}


def sources() -> list[Path]:
    return sorted((ROOT / "gemkr").rglob("*.py"))


def floor_of(module: str) -> int | None:
    """The floor of a gemkr module; None for the package itself."""
    parts = module.split(".")[1:]
    for length in (3, 2, 1):
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


def _home(path: Path) -> str:
    """The folder of a file, or the file itself where it lies directly in the package."""
    return module_name(path) if path.parent == ROOT / "gemkr" else str(path.parent.relative_to(ROOT))


def _graph() -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Who imports whom: between files, and between folders. Imports in functions and for type checkers count."""
    paths = {module_name(path): path for path in sources()}
    files: dict[str, set[str]] = {name: set() for name in paths}
    folders: dict[str, set[str]] = {}
    for name, path in paths.items():
        for target in imports(path) & paths.keys():
            longer = any(other.startswith(f"{target}.") for other in imports(path) & paths.keys())
            if target == name or (longer and paths[target].name == "__init__.py"):
                continue
            files[name].add(target)
            if _home(path) != _home(paths[target]):
                folders.setdefault(_home(path), set()).add(_home(paths[target]))
    return files, folders


def _circle(graph: dict[str, set[str]]) -> list[str]:
    """A circle of the graph, its first node again at its end; empty where there is none."""
    done: set[str] = set()

    def follow(node: str, above: tuple[str, ...]) -> list[str]:
        if node in above:
            return [*above[above.index(node) :], node]
        if node in done:
            return []
        for target in sorted(graph.get(node, ())):
            if found := follow(target, (*above, node)):
                return found
        done.add(node)
        return []

    return next((found for node in sorted(graph) if (found := follow(node, ()))), [])


def test_no_circle_of_files_or_folders() -> None:
    files, folders = _graph()
    assert sum(map(len, files.values())) > 300
    assert " -> ".join(_circle(files)) == ""
    assert " -> ".join(_circle(folders)) == ""


def test_a_circle_would_be_found() -> None:
    assert _circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert _circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_the_package_imports_nothing_that_stands_beside_it(path: Path) -> None:
    assert not {name.split(".")[0] for name in imports(path)} & OUTSIDE


def test_files_are_small() -> None:
    folders = ("gemkr", "benchmarks", "tests", "data_process")
    lengths = {
        str(p.relative_to(ROOT)): len(p.read_text(encoding="utf-8").splitlines())
        for folder in folders
        for p in (ROOT / folder).rglob("*.py")
    }
    assert {name: length for name, length in lengths.items() if length > 400} == {}
    ours = sorted(length for name, length in lengths.items() if name.startswith("gemkr"))
    assert ours[len(ours) // 2] < 120


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_heavy_packages_have_one_door(path: Path) -> None:
    relative = str(path.relative_to(ROOT))
    for name in imports(path):
        package = name.split(".")[0]
        if package in DOORS:
            assert relative in DOORS[package], f"{relative} must not import {package}"


def names_of(path: Path) -> set[str]:
    """What a module binds at its top, within `if` and `try` as well, and its submodules."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in _walk_top(tree):
        if isinstance(node, DEFINITIONS):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    if path.name == "__init__.py":
        names |= {child.stem for child in path.parent.iterdir() if child.suffix in ("", ".py", ".so")}
        names |= {child.name.split(".")[0] for child in path.parent.glob("*.so")}
        names |= set(_lazy_names(tree))
    return names


def _walk_top(tree: ast.Module) -> list[ast.AST]:
    """Nodes that are not inside a function or class."""
    found: list[ast.AST] = []
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        found.append(node)
        if not isinstance(node, DEFINITIONS):
            waiting += ast.iter_child_nodes(node)
    return found


def _lazy_names(tree: ast.Module) -> list[str]:
    """The keys of `_HOMES`, which `gemkr/__init__.py` loads when first touched."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            return [key.value for key in node.value.keys if isinstance(key, ast.Constant)]
    return []


def programs() -> list[Path]:
    folders = ("data_process", "benchmarks", "tests")
    return [*sources(), *ROOT.glob("*.py"), *(p for f in folders for p in sorted((ROOT / f).rglob("*.py")))]


@pytest.mark.parametrize("path", programs(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_imported_name_exists(path: Path) -> None:
    """Imports inside functions run late: a name moved elsewhere would be missed until a user comes by."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not (
            isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").startswith("gemkr")
        ):
            continue
        home = ROOT / node.module.replace(".", "/")
        if home.with_suffix(".py").exists() or home.is_dir():
            module = home / "__init__.py" if home.is_dir() else home.with_suffix(".py")
            missing = {alias.name for alias in node.names} - names_of(module)
            assert not missing, f"line {node.lineno} imports {missing} from {node.module}, which lacks them"
        else:
            assert list(home.parent.glob(f"{home.name}.*.so")), f"line {node.lineno}: no module {node.module}"


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
    "module", ["gemkr", "gemkr.fm_index", "gemkr.data.corpus", "gemkr.decoding.matcher", "gemkr.cli"]
)
def test_importing_the_light_floors_loads_no_torch(module: str) -> None:
    code = f"import sys, {module}; gemkr_cli = {module!r} == 'gemkr.cli'\nif gemkr_cli: {module}.build_parser()\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
