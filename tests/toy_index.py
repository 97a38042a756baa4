"""A small index with everything in it, for the tests of the index."""

from __future__ import annotations

import os
import random
import tempfile

from gemkr.fm_index import FMIndex


class FakeTokenizer:
    def __init__(self, name: str = "toy:1", vocab_size: int = 50) -> None:
        self.name = name
        self.vocab_size = vocab_size

    def fingerprint(self) -> str:
        return self.name


def toy_docs(seed: int = 0, documents: int = 12) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.choice((0, 1, 1, 2, 7, 49)) for _ in range(rng.randrange(14))] for _ in range(documents)]


def toy_index(**options) -> FMIndex:
    docs = toy_docs()
    ids = [f"dok-{k}-é" for k in range(len(docs))]
    return FMIndex.build(docs, ids, tokenizer=FakeTokenizer(), sample_rate=4, **options)


def image_of(index: FMIndex) -> bytes:
    """The bytes that `save` would write."""
    with tempfile.TemporaryFile() as file:
        index._write(file.fileno())
        return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)
