"""Damaged files, hostile arguments and concurrent readers under ASan, UBSan and TSan.

GEMKR_FUZZ_SECONDS (default 45 for files, 15 for readers) and GEMKR_FUZZ_SEED make longer runs by hand.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "gemkr" / "fm_index" / "csrc"
SOURCES = [p for p in sorted(CORE.glob("*.cpp")) if p.name not in ("bindings.cpp", "span.cpp")]
COMPILER = shutil.which(os.environ.get("CXX", "c++"))

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sanitizer", "mode"), [("address,undefined", "files"), ("thread", "readers")], ids=["asan-ubsan", "tsan"]
)
def test_nothing_undefined_happens(tmp_path: Path, sanitizer: str, mode: str):
    program = tmp_path / "fuzz"
    options = ["-std=c++17", "-O1", "-g1", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all", "-pthread"]
    sources = [*map(str, SOURCES), str(ROOT / "tests/cpp/fuzz_index.cpp")]
    command = [COMPILER, *options, f"-I{CORE}", *sources, "-o", str(program)]
    compiled = subprocess.run(command, capture_output=True, text=True)
    if "cannot find -l" in compiled.stderr or "libclang_rt" in compiled.stderr:
        pytest.skip(f"this compiler has no {sanitizer} sanitizer")
    assert compiled.returncode == 0, compiled.stderr
    seconds = os.environ.get("GEMKR_FUZZ_SECONDS", {"files": "45", "readers": "15"}[mode])
    seed = os.environ.get("GEMKR_FUZZ_SEED", "1")
    done = subprocess.run(
        [program, mode, seconds, seed],
        capture_output=True,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path), "ASAN_OPTIONS": "allocator_may_return_null=0"},
    )
    assert done.returncode == 0, done.stderr[-6000:]
    assert int(done.stdout) > 0
