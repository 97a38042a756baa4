"""The parts in the order in which they are measured: what costs little and says much first."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu.decoding import decode, decode_large, profile
from benchmarks.gpu.learning import finetune
from benchmarks.gpu.reading import embed, late_interaction, search, vlm
from benchmarks.gpu.runner import ROOT, Part
from benchmarks.gpu.scale import Scale

GPU_TESTS = (
    "tests/decoding/test_device_index.py",
    "tests/decoding/test_device_search.py",
    "tests/decoding/test_decoding_logits.py",
)


def tests(scale: Scale) -> dict[str, Any]:
    """`pytest -m gpu` over the files that have such tests; a dry run only looks for them."""
    missing = [path for path in GPU_TESTS if "pytest.mark.gpu" not in (Path(ROOT) / path).read_text()]
    if missing:
        raise ValueError(f"{missing[0]} has no test for a GPU any more; name those that have in GPU_TESTS")
    if scale.dry:
        return {"files": len(GPU_TESTS), "passed": None}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *GPU_TESTS],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(
            f"the GPU tests ended with {done.returncode}: {' / '.join(done.stdout.split(chr(10))[-12:])}"
        )
    return {"files": len(GPU_TESTS), "passed": True}


PARTS = {
    "tests": Part(tests, 20),
    "embed": Part(embed, 12),
    "late_interaction": Part(late_interaction, 6),
    "search": Part(search, 6),
    "decode_7b": Part(partial(decode, shape="7b"), 70),
    "profile": Part(profile, 30),
    "finetune": Part(finetune, 45),
    "decode_1b": Part(partial(decode, shape="1b"), 30),
    "decode_tiny": Part(partial(decode, shape="tiny"), 30),
    "vlm": Part(vlm, 30),
    "decode_large": Part(decode_large, 160),
}
"""The seconds are guesses until a card was at hand: they decide only whether a part is begun in what is left of the time."""
