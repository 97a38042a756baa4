"""A toy corpus, and its index under a tokenizer."""

from __future__ import annotations

from pathlib import Path

from gemkr.fm_index import FMIndex
from gemkr.testing import toy_corpus

TEXTS = [document.text for document in toy_corpus()]


def build_index(path: Path, tokenizer, texts: list[str], *, anonymous: bool = False, wide: int = 0) -> None:
    index = FMIndex.build(
        [tokenizer.encode(text) for text in texts],
        [f"d{i}" for i in range(len(texts))],
        vocab_size=tokenizer.vocab_size + wide,
        tokenizer=None if anonymous else tokenizer,
    )
    index.save(path)
