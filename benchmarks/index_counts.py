"""Instructions that a fixed workload of the index takes, under callgrind: the same on a busy machine as on an idle one.

    python benchmarks/index_counts.py    # prints them; index_gate.py compares them with their limits

Builds index_counts.cpp with the core and runs it once (half a minute). Needs a C++ compiler and valgrind with its
headers; says so in one sentence where one is missing. Counts depend on the compiler and on the processor's instructions.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
CORE = HERE.parent / "gemkr" / "fm_index" / "csrc"
PYTHON_SIDE = {"bindings.cpp", "span.cpp"}
LENGTHS = (1, 3, 8)
STAGES = (
    "build",
    "build_in_blocks",
    *(f"{what}_{length}" for length in LENGTHS for what in ("mask", "next", "extend")),
    "document",
)
ITEMS = {"build": 200_000, "build_in_blocks": 200_000, "document": 1000}
STATES = 640


def missing() -> str | None:
    """The sentence that says what stands in the way, or None."""
    if shutil.which("valgrind") is None or not Path("/usr/include/valgrind/callgrind.h").exists():
        return "instructions are not counted, because valgrind and its headers are not installed"
    if shutil.which("c++") is None:
        return "instructions are not counted, because there is no C++ compiler"
    return None


def count() -> dict[str, float]:
    """Instructions per token (builds), state (mask, next tokens, extend after 1, 3, 8 tokens) and row (document)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = folder / "counts"
        sources = [str(p) for p in sorted(CORE.glob("*.cpp")) if p.name not in PYTHON_SIDE]
        command = ["c++", "-std=c++17", "-O3", "-DNDEBUG", "-g0", "-pthread", f"-I{CORE}", *sources]
        subprocess.run([*command, str(HERE / "index_counts.cpp"), "-o", str(program)], check=True)
        out = folder / "out"
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", str(program)]
        environment = os.environ | {"TMPDIR": name}
        subprocess.run(command, check=True, capture_output=True, env=environment)
        found = {}
        for number, stage in enumerate(STAGES, start=1):
            totals = re.search(
                r"^(?:totals|summary): (\d+)", Path(f"{out}.{number}").read_text(), re.MULTILINE
            )
            if totals is None:
                raise SystemExit(f"callgrind wrote no total for {stage}; is this valgrind 3.15 or newer?")
            found[stage] = int(totals[1]) / ITEMS.get(stage, STATES)
        return found


def main() -> int:
    if (sentence := missing()) is not None:
        print(sentence)
        return 0
    for stage, instructions in count().items():
        print(f"{stage:<16} {instructions:10.1f} instructions")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
