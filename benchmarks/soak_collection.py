"""Random changes of a collection for a given time, every call of its index compared with the naive twin after each.

    PYTHONPATH=.:tests python benchmarks/soak_collection.py --minutes 60

The changes are those of the suite's state machine (tests/collection/test_collection_states.py), in longer runs.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from collection.test_collection_states import Changes
from hypothesis import HealthCheck, settings
from toy_text import train_sentencepiece

from gemkr.collection import policy


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    args = parser.parse_args()
    os.fsync = lambda descriptor: None  # nothing here is about a machine that loses power
    comparisons = runs = 0
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = train_sentencepiece(Path(folder) / "tokenizer.model")
        began = time.monotonic()
        while time.monotonic() < began + 60 * args.minutes:
            policy.SMALL_TOKENS = (0, 40, 400)[runs % 3]
            machine = type("Here", (Changes,), {"tokenizer": tokenizer})
            test = machine.TestCase()
            test.settings = settings(
                max_examples=5,
                stateful_step_count=40,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            )
            test.runTest()
            runs, comparisons = runs + 1, comparisons + machine.comparisons
            print(f"{runs} runs, about {comparisons:,} comparisons, all equal", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
