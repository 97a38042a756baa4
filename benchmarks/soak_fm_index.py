"""A long soak of the index: random corpora, every reachable span compared with the naive twin, until N answers agree.

    python benchmarks/soak_fm_index.py --comparisons 10000000

An answer is the span of one token after one span, the count of one next token, one word of a mask, the ends, one document of a
span, or the place of one row. Stops at the first difference, naming the seed that repeats it.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from gemkr.fm_index import FMIndex
from gemkr.fm_index.reference import ReferenceIndex


def random_corpus(rng: np.random.Generator) -> tuple[list[list[int]], int]:
    """Documents (some empty, some repeated, some one token over and over) and a vocabulary size."""
    vocab = int(rng.choice([1, 2, 3, 5, 17, 33, 64, 300]))
    docs = [rng.integers(0, vocab, rng.integers(0, 25)).tolist() for _ in range(rng.integers(0, 12))]
    if docs and rng.random() < 0.4:
        docs += [docs[int(rng.integers(len(docs)))] for _ in range(3)]
    if rng.random() < 0.2:
        docs.append([int(rng.integers(vocab))] * 30)
    return docs, vocab


def compare(seed: int) -> int:
    """Compare one corpus; returns how many answers agreed, raises AssertionError at the first that does not."""
    rng = np.random.default_rng(seed)
    docs, vocab = random_corpus(rng)
    options = {"sample_rate": int(rng.choice([1, 2, 4, 32])), "document_array": bool(rng.integers(2))}
    index = FMIndex.build(docs, vocab_size=vocab, threads=int(rng.integers(1, 3)), **options)
    twin = ReferenceIndex.build(docs, vocab_size=vocab)
    agreed = 0

    def same(name: str, ours: np.ndarray, theirs: np.ndarray) -> None:
        nonlocal agreed
        assert np.array_equal(ours, theirs), f"seed {seed}: {name} {ours} where the twin has {theirs}"
        agreed += np.size(theirs)

    rows = np.arange(index.root.hi, dtype=np.int64)
    for name, ours, theirs in zip(("doc", "gap"), index.locate_rows(rows), twin.locate_rows(rows)):
        same(f"{name} of rows", ours, theirs)
    spans, seen = [twin.root], {(twin.root.lo, twin.root.hi)}
    for span in spans:
        followers = twin.next_tokens(span)[0].tolist()
        for longer in (twin.extend(span, token) for token in followers):
            if (longer.lo, longer.hi) not in seen:
                seen.add((longer.lo, longer.hi))
                spans.append(longer)
    lo, hi = (np.array([getattr(s, side) for s in spans], np.int64) for side in ("lo", "hi"))
    for name, ours, theirs in zip("ptc", index.next_tokens_many(lo, hi), twin.next_tokens_many(lo, hi)):
        same(f"next tokens {name}", ours, theirs)
    masks = [np.zeros((len(lo), index.mask_words), np.uint32) for _ in range(2)]
    index.fill_mask(lo, hi, masks[0])
    twin.fill_mask(lo, hi, masks[1])
    same("mask", *masks)
    for name, ours, theirs in zip("pdc", index.documents_many(lo, hi), twin.documents_many(lo, hi)):
        same(f"documents {name}", ours, theirs)
    ends = [[each.count_ends(span) for span in spans] for each in (index, twin)]
    same("ends", *(np.array(column) for column in ends))
    at = np.repeat(np.arange(len(lo)), vocab)
    tokens = np.tile(np.arange(vocab, dtype=np.int64), len(lo))
    ours, theirs = index.extend_many(lo[at], hi[at], tokens), twin.extend_many(lo[at], hi[at], tokens)
    same("sizes after one more token", ours[1] - ours[0], theirs[1] - theirs[0])
    found = theirs[1] > theirs[0]
    same("spans after one more token", ours[0][found], theirs[0][found])
    return agreed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--comparisons", type=int, default=10_000_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first corpus")
    args = parser.parse_args()
    began, agreed, seed = time.perf_counter(), 0, args.seed
    while agreed < args.comparisons:
        agreed += compare(seed)
        seed += 1
    print(
        f"{agreed:,} answers over {seed - args.seed:,} corpora agree; {time.perf_counter() - began:.0f} seconds"
    )


if __name__ == "__main__":
    main()
