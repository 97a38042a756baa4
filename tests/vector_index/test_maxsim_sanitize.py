"""The kernels of MaxSim against plain loops, under ASan and UBSan; GEMKR_FUZZ_SECONDS makes longer runs by hand."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMPILER = shutil.which(os.environ.get("CXX", "c++"))


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")
def test_documents_are_scored_as_loops_would(tmp_path: Path) -> None:
    program = tmp_path / "fuzz"
    options = ["-std=c++17", "-O1", "-g1", "-Wall", "-Wextra", "-Werror", "-Wno-psabi"]
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    source = str(ROOT / "tests/cpp/fuzz_maxsim.cpp")
    include = f"-I{ROOT / 'gemkr/vector_index/csrc'}"
    command = [COMPILER, *options, *sanitizers, include, source, "-o", str(program)]
    compiled = subprocess.run(command, capture_output=True, text=True, check=False)
    if "cannot find -l" in compiled.stderr or "libclang_rt" in compiled.stderr:
        pytest.skip("this compiler has no address and undefined sanitizers")
    assert compiled.returncode == 0, compiled.stderr
    arguments = [os.environ.get("GEMKR_FUZZ_SECONDS", "2"), os.environ.get("GEMKR_FUZZ_SEED", "1")]
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert int(done.stdout) > 30
