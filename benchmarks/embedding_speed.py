"""How fast `gemkr embed` makes vectors beside sentence-transformers' own `encode`, on the same model and texts.

    python benchmarks/embedding_speed.py FOLDER CORPUS [--documents 2000] [--rounds 3] [--batch-size 32]

Both run in turn in one process, after one round that is not counted; `gemkr embed` also writes, checks and maps its folder. Seconds are
those of the processor (all threads), which other work on the machine changes least, beside those of the clock.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np

from gemkr.config.files import from_mapping
from gemkr.data.corpus import read_corpus
from gemkr.evaluation.config import EvalConfig
from gemkr.retrievers.dense import DenseRetriever
from gemkr.vector_index.store import VECTORS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="a folder of sentence-transformers")
    parser.add_argument("corpus")
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    args = parser.parse_args()
    from sentence_transformers import SentenceTransformer

    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        rows = list(islice(read_corpus(args.corpus), args.documents))
        texts = [document.contents for document in rows]
        lines = (json.dumps({"id": f"{i}", "text": text}) for i, text in enumerate(texts))
        (home / "corpus.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        encoder = {"kind": "sentence_transformers", "folder": args.folder, "batch_size": args.batch_size}
        values = {
            "corpus": str(home / "corpus.jsonl"), "output": name,
            "retrievers": {"own": {"kind": "dense", "encoder": encoder, "dtype": "float32", "vectors": ""}},
        }  # fmt: skip
        model = SentenceTransformer(args.folder, device="cpu")
        found: dict[str, np.ndarray] = {}

        def theirs(_: int) -> None:
            found["theirs"] = model.encode_document(
                texts, batch_size=args.batch_size, normalize_embeddings=True, show_progress_bar=False
            )

        def ours(number: int) -> None:
            values["retrievers"]["own"]["vectors"] = str(home / f"vectors{number}")
            config = from_mapping(values, EvalConfig, "benchmark")
            DenseRetriever.embed(config.retrievers["own"].config, sources, progress=False)
            found["ours"] = np.load(home / f"vectors{number}" / VECTORS)

        sources = from_mapping(values, EvalConfig, "benchmark").sources()
        ours(0)  # loads the model
        theirs(0)
        figures = {"theirs": [], "ours": []}
        for number in range(1, args.rounds + 1):
            for label, work in (("theirs", theirs), ("ours", ours)):
                figures[label].append(_timed(work, number))
        print(f"largest difference of a number: {np.abs(found['ours'] - found['theirs']).max():.1e}")
        for label, rounds in figures.items():
            cpu, wall = (min(values) for values in zip(*rounds, strict=True))
            print(
                f"{label:<8}{len(texts) / cpu:8.1f} documents a processor second{len(texts) / wall:8.1f} a second of the clock"
            )
    return 0


def _timed(work: Callable[[int], None], number: int) -> tuple[float, float]:
    """Seconds of the processor and of the clock."""
    cpu, wall = time.process_time(), time.perf_counter()
    work(number)
    return time.process_time() - cpu, time.perf_counter() - wall


if __name__ == "__main__":
    sys.exit(main())
