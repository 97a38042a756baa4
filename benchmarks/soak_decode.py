"""A long soak of the decoder: random corpora, models and settings until N tokens are decoded, every promise checked.

    python benchmarks/soak_decode.py --tokens 1000000

Each clue must occur (its span equals a fresh search, count > 0), have a finite score and at least one token; each
query must get a clue. Stops at the first broken promise, naming the seed that repeats it.
"""

from __future__ import annotations

import argparse
import math

import numpy as np

from gemkr.decoding.beam import generate_clues
from gemkr.decoding.config import DecodingConfig
from gemkr.fm_index import FMIndex
from gemkr.testing import TableLM
from gemkr.types import Clue

EOS = 2


def random_settings(rng: np.random.Generator) -> DecodingConfig:
    """Any legal combination of flags."""
    groups = int(rng.choice([1, 1, 2, 5, 10]))
    return DecodingConfig(
        beam_size=10,
        groups=groups,
        diversity=float(rng.choice([0.0, 0.5])),
        max_tokens=int(rng.integers(1, 13)),
        length_penalty=float(rng.choice([0.0, 1.0, 1.5])),
        word_start=bool(rng.integers(2)),
        allow_eos=bool(rng.integers(2)),
        stop_at_one_document=bool(rng.integers(2)),
        document_penalty=float(rng.choice([0.0, 2.0, math.inf])),
        group_by_head=groups == 1 and bool(rng.integers(2)),
        batch_size=64,
    )


def soak(seed: int) -> int:
    """One corpus, model and setting: 64 queries; returns the number of decoded tokens."""
    rng = np.random.default_rng(seed)
    vocab = int(rng.choice([12, 100, 1000]))
    docs = [
        rng.zipf(1.4, size=int(rng.integers(0, 80))).clip(0, vocab - 1).tolist()
        for _ in range(int(rng.integers(1, 300)))
    ]
    docs.append([3, 4, 5])
    index = FMIndex.build(docs, vocab_size=vocab)
    model = TableLM(rng.normal(scale=rng.uniform(0.1, 4), size=(vocab, vocab)).astype(np.float32), (EOS,))
    starts = rng.random(vocab) < 0.7
    starts[3] = True
    prompts = [f"{seed} {i}" for i in range(64)]
    settings = random_settings(rng)
    found = generate_clues(model, index, prompts, settings, word_start=starts)
    return sum(checked(index, clues, seed) for clues in found)


def checked(index: FMIndex, clues: list[Clue], seed: int) -> int:
    """The number of tokens of one query's clues, each of which keeps its promises."""
    if not clues:
        raise SystemExit(f"seed {seed}: a query got no clue")
    for clue in clues:
        span = index.search(clue.tokens)
        if not (clue.tokens and span.count > 0 and span == clue.span and math.isfinite(clue.score)):
            raise SystemExit(f"seed {seed}: the clue {clue} breaks a promise")
    return sum(len(clue.tokens) for clue in clues)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    decoded, seed = 0, args.seed
    while decoded < args.tokens:
        decoded += soak(seed)
        seed += 1
        if seed % 10 == 0:
            print(f"{decoded:,} tokens, {seed - args.seed} corpora", flush=True)
    print(f"{decoded:,} tokens in {seed - args.seed} corpora: every prefix occurs, no query without a clue")


if __name__ == "__main__":
    main()
