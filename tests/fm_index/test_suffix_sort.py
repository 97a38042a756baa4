"""Compiles and runs the C++ tests of the suffix sorter; the checks themselves are in tests/cpp/test_suffix_sort.cpp."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "tests" / "cpp" / "test_suffix_sort.cpp"
HEADERS = ROOT / "gemkr" / "fm_index" / "csrc"
COMPILER = shutil.which("g++")

pytestmark = pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")


def build(target: Path, *flags: str) -> Path:
    """Compiles the test program with the given flags; warnings are errors."""
    command = [COMPILER, "-std=c++17", "-Wall", "-Wextra", "-Werror", "-pthread", "-I", str(HEADERS), *flags]
    subprocess.run([*command, str(SOURCE), "-o", str(target)], check=True)
    return target


def run(program: Path, *arguments: str) -> str:
    """Runs one mode of the test program; its output is the failure message."""
    done = subprocess.run([str(program), *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("suffix_sort") / "test_suffix_sort", "-O3")


def test_small_random_texts_match_the_definition(program: Path) -> None:
    run(program, "small", "1", "30000")


def test_large_texts_of_every_kind_and_any_thread_count(program: Path) -> None:
    run(program, "large")


def test_hard_inputs_grow_near_linearly(program: Path) -> None:
    assert "fibonacci" in run(program, "growth")


def test_no_undefined_behaviour_on_small_texts(tmp_path: Path) -> None:
    checked = build(
        tmp_path / "sanitized", "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"
    )
    run(checked, "small", "2", "2000")
