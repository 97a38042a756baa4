"""The memory of words under ASan and UBSan; the checks themselves are in tests/cpp/fuzz_words.cpp."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMPILER = shutil.which("c++")


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")
def test_nothing_undefined_happens(tmp_path: Path) -> None:
    program = tmp_path / "fuzz"
    flags = [
        "-std=c++17",
        "-O1",
        "-g1",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
    ]
    source = str(ROOT / "tests/cpp/fuzz_words.cpp")
    command = [COMPILER, *flags, f"-I{ROOT / 'gemkr/text/csrc'}", source, "-o", str(program)]
    compiled = subprocess.run(command, capture_output=True, text=True, check=False)
    if "cannot find -l" in compiled.stderr or "libclang_rt" in compiled.stderr:
        pytest.skip("this compiler has no sanitizers")
    assert compiled.returncode == 0, compiled.stderr
    done = subprocess.run([program, "1"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
