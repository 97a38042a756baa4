"""The package as others get it: a wheel that needs nothing of the checkout, and a source tree that was never built."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from zipfile import ZipFile

import pytest

from gemkr import __version__

ROOT = Path(__file__).resolve().parents[2]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources, without anything that was built of them."""
    tree = tmp_path_factory.mktemp("sources")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for name in ("gemkr", "data_process", "benchmarks"):
        built = shutil.ignore_patterns("*.so", "*.pyd", "__pycache__")
        shutil.copytree(ROOT / name, tree / name, ignore=built)
    return tree


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("pybind11")
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("wheel")
    # The extensions that these tests run with, where setuptools finds them up to date and does not compile them again.
    built = tree / "build" / f"lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
    for file in (ROOT / "gemkr").rglob(f"*{sysconfig.get_config_var('EXT_SUFFIX')}"):
        copy = built / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    words = [*PIP, "wheel", ".", "--no-build-isolation", "--no-deps", "-w", str(folder)]
    subprocess.run(words, cwd=tree, check=True, timeout=300)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    subprocess.run(
        [*PIP, "install", "--no-deps", "--target", str(folder), str(wheel)], check=True, timeout=120
    )
    return folder


def run(words: list[str], folder: Path, site: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Python in a folder; what is installed in `site` comes before what the tests run with."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GEMKR_")}
    environment |= {} if site is None else {"PYTHONPATH": str(site)}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )


def test_a_tree_that_is_not_built_says_how_to_build_it(tree: Path) -> None:
    done = run(["-c", "import gemkr.fm_index"], tree)
    assert done.returncode == 1
    assert "partially initialized" not in done.stderr
    assert "run `make install`, or `python setup.py build_ext --inplace`" in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_a_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"gemkr", f"gemkr-{__version__}.dist-info"}
    assert sum(name.endswith(sysconfig.get_config_var("EXT_SUFFIX")) for name in names) == 4
    data = {
        path
        for path in (ROOT / "gemkr").rglob("*")
        if path.suffix in {".yaml", ".txt", ".csv", ".html", ".pt", ".json"}
    }
    assert {str(path.relative_to(ROOT)) for path in data} <= set(names)


@pytest.mark.slow
def test_a_wheel_works_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    version = run(["-m", "gemkr", "--version"], tmp_path, installed)
    assert version.stdout.split() == ["gemkr", __version__], version.stderr
    script = """
import gemkr, json, os, re
from pathlib import Path
from gemkr.config.files import has_section, load_config
from gemkr.config.packaged import find_config, names_of
from gemkr.evaluation.config import EvalConfig
from gemkr.fm_index import FMIndex
from gemkr.sample import materialize
from gemkr.training.config import PretrainConfig, TrainConfig
from gemkr.training.contrastive.config import ContrastiveConfig
from gemkr.rerankers.config import RerankerTrainConfig

kinds = {"pretrain": PretrainConfig, "train": TrainConfig, "eval": EvalConfig}
for command, kind in kinds.items():
    for name in names_of(command):
        path = find_config(name, command)
        os.environ |= dict.fromkeys(re.findall(r"oc.env:([A-Z_]+)\\}", path.read_text()), "somewhere")
        sections = {"encoder": ContrastiveConfig, "rerank": RerankerTrainConfig}
        kind = next((kind for section, kind in sections.items() if has_section(path, section)), kinds[command])
        config = load_config(path, kind)
        if command == "train" and name == "quickstart":
            assert Path(config.model.tower.weights).is_file() and Path(config.model.llm).is_dir()
assert FMIndex.build([[5, 6]]).search([5, 6]).count == 1
scenes = [scene for scene in materialize.plan(0) if scene.scene_id.endswith("00")]
materialize.plan = lambda seed: scenes
documents = materialize.materialize("data", progress=False)["documents"]
print(json.dumps([gemkr.__file__, names_of("train"), documents]))
"""
    done = run(["-c", script], tmp_path, installed)
    assert done.returncode == 0, done.stderr
    assert str(installed) in done.stdout
    own = [
        "blip_ff",
        "clip_sf",
        "lamra_rank",
        "lamra_ret",
        "preflmr",
        "quickstart",
        "quickstart_preflmr",
        "quickstart_vlm",
        "small",
        "vlm2vec",
    ]
    assert json.dumps(own) in done.stdout
    assert (tmp_path / "data" / "manifest.json").is_file()
    assert (tmp_path / "data" / "images" / "train-0700.jpg").is_file()
    assert len((tmp_path / "data" / "test.jsonl").read_text().splitlines()) == 12
