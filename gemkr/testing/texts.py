"""A toy corpus, and a toy tokenizer of its words."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from gemkr.types import Document


class ToyTokenizer:
    """Words split at single spaces, one id each; ids 0, 1, 2 are unknown, begin and end. A `Tokenizer`."""

    path = Path("toy")
    unk_id, bos_id, eos_ids, pad_id = 0, 1, (2,), 0
    special_ids = frozenset({0, 1, 2})

    def __init__(self, texts: Iterable[str]) -> None:
        words = sorted({word for text in texts for word in text.split(" ")})
        self._words = ["<unk>", "<s>", "</s>", *words]
        self._ids = {word: i for i, word in enumerate(self._words)}
        self.vocab_size = len(self._words)
        self.word_start = np.arange(self.vocab_size) > max(self.special_ids)

    def encode(self, text: str) -> list[int]:
        return [self._ids.get(word, self.unk_id) for word in text.split(" ") if word]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.encode(text) for text in texts]

    def encode_with_offsets(self, text: str) -> tuple[list[int], np.ndarray]:
        starts = np.cumsum([0, *(len(word) + 1 for word in text.split(" "))])
        return self.encode(text), np.maximum(np.minimum(starts, len(text) + 1) - 1, 0)

    def decode(self, ids: Iterable[int]) -> str:
        return " ".join(self._words[int(i)] for i in ids if int(i) not in self.special_ids)

    def piece(self, token: int) -> str:
        return self._words[token]

    def piece_bytes(self, token: int) -> bytes:
        return b"" if token in self.special_ids else f" {self._words[token]}".encode()

    def fingerprint(self) -> str:
        return hashlib.sha256("\n".join(self._words).encode()).hexdigest()


def toy_corpus() -> list[Document]:
    """Twelve short passages about four countries and four animals."""
    facts = [
        "Paris is the capital of France and lies on the Seine .",
        "France is known for cheese and for bread .",
        "Tokyo is the capital of Japan and lies on Tokyo Bay .",
        "Japan is known for sushi and for green tea .",
        "Nairobi is the capital of Kenya and lies on the Nairobi River .",
        "Kenya is known for tea and for coffee .",
        "Lima is the capital of Peru and lies on the Pacific coast .",
        "Peru is known for potatoes and for llamas .",
        "The lion hunts at night and sleeps in the sun .",
        "The bear eats fish and sleeps in the winter .",
        "The owl hunts at night and sleeps in the day .",
        "The camel eats grass and drinks little water .",
    ]
    return [Document(f"d{i}", text) for i, text in enumerate(facts)]
