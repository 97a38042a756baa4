"""Stand-ins for tests, tutorials and benchmarks: language models and encoders without weights, a toy tokenizer, a toy corpus.

All of it is deterministic and small. The models implement `LanguageModel`; their prompts are plain strings.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gemkr.interfaces import TokenVectors
from gemkr.types import Document, Query, Ranking


@dataclass(frozen=True, slots=True)
class PrefixState:
    """The memory of a fake model: each row's prompt and the tokens after it."""

    rows: tuple[tuple[Any, tuple[int, ...]], ...]

    def select(self, rows: Any) -> PrefixState:
        return PrefixState(tuple(self.rows[int(r)] for r in rows))


class FakeLM(ABC):
    """A language model whose logits are a function of (prompt, prefix): override `logits_of`."""

    def __init__(self, vocab_size: int, eos_token_ids: Sequence[int]) -> None:
        self.vocab_size = vocab_size
        self.eos_token_ids = tuple(eos_token_ids)
        self.device = torch.device("cpu")

    @abstractmethod
    def logits_of(self, prompt: Any, prefix: tuple[int, ...]) -> np.ndarray:
        """float32[V] after `prefix`; must not depend on anything else."""

    def prefill(self, prompts: Sequence[Any]) -> tuple[torch.Tensor, PrefixState]:
        return self._look(PrefixState(tuple((prompt, ()) for prompt in prompts)))

    def step(self, tokens: Any, state: PrefixState) -> tuple[torch.Tensor, PrefixState]:
        rows = zip(tokens.tolist(), state.rows, strict=True)
        return self._look(PrefixState(tuple((prompt, (*prefix, token)) for token, (prompt, prefix) in rows)))

    def _look(self, state: PrefixState) -> tuple[torch.Tensor, PrefixState]:
        logits = [self.logits_of(prompt, prefix) for prompt, prefix in state.rows]
        return torch.from_numpy(np.stack(logits).astype(np.float32)), state


class RandomLM(FakeLM):
    """Pseudo-random logits, N(0, `scale`²), a fixed function of (seed, prompt, prefix)."""

    def __init__(
        self, vocab_size: int, eos_token_ids: Sequence[int] = (), *, seed: int = 0, scale: float = 2.0
    ) -> None:
        super().__init__(vocab_size, eos_token_ids)
        self.seed = seed
        self.scale = scale

    def logits_of(self, prompt: Any, prefix: tuple[int, ...]) -> np.ndarray:
        digest = hashlib.blake2b(repr((self.seed, prompt, prefix)).encode(), digest_size=8).digest()
        rng = np.random.default_rng(int.from_bytes(digest, "little"))
        return self.scale * rng.standard_normal(self.vocab_size, dtype=np.float32)


class ScriptedLM(FakeLM):
    """A model that wants to write given texts: `scripts[prompt]` maps token sequences to weights.

    After a prefix it follows the scripts that begin with it, by their weights, and ends where a script ends;
    a share of `noise` is spread over the whole vocabulary. A prompt without script gets noise only.
    """

    def __init__(
        self,
        vocab_size: int,
        eos_token_id: int,
        scripts: Mapping[Hashable, Mapping[tuple[int, ...], float]],
        *,
        noise: float = 0.01,
    ) -> None:
        super().__init__(vocab_size, (eos_token_id,))
        self.scripts = scripts
        self.noise = noise

    def logits_of(self, prompt: Any, prefix: tuple[int, ...]) -> np.ndarray:
        wanted = np.zeros(self.vocab_size)
        for tokens, weight in self.scripts.get(prompt, {}).items():
            if tokens[: len(prefix)] == prefix:
                follower = tokens[len(prefix)] if len(tokens) > len(prefix) else self.eos_token_ids[0]
                wanted[follower] += weight
        if wanted.sum() > 0:
            wanted *= (1 - self.noise) / wanted.sum()
        return np.log(wanted + self.noise / self.vocab_size)


@dataclass(frozen=True, slots=True)
class TableState:
    """The memory of `TableLM`: one row of prompt logits per beam, float32[B, V]."""

    bias: torch.Tensor

    def select(self, rows: Any) -> TableState:
        return TableState(self.bias[rows])


class TableLM:
    """A fast fake for large tests: logits = table[last token] + a pseudo-random vector of the prompt.

    `table` float32[V, V]; the first step sees the prompt's vector alone.
    """

    def __init__(self, table: np.ndarray, eos_token_ids: Sequence[int] = ()) -> None:
        self.table = torch.as_tensor(table, dtype=torch.float32)
        self.vocab_size = self.table.shape[1]
        self.eos_token_ids = tuple(eos_token_ids)
        self.device = torch.device("cpu")

    def prefill(self, prompts: Sequence[Any]) -> tuple[torch.Tensor, TableState]:
        base = RandomLM(self.vocab_size)
        bias = torch.from_numpy(np.stack([base.logits_of(prompt, ()) for prompt in prompts]))
        return bias.clone(), TableState(bias)

    def step(self, tokens: Any, state: TableState) -> tuple[torch.Tensor, TableState]:
        return self.table[tokens] + state.bias, state


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


class WordEncoder:
    """An `Encoder` without weights: the sum of a text's words, each a pseudo-random vector of its own, of length 1.

    Texts with many words in common are near. A query's instruction counts as words of it; pictures count as a word each.
    """

    @dataclass(frozen=True)
    class Config:
        """`width` numbers a vector, drawn by `seed`."""

        width: int = 64
        seed: int = 0

    def __init__(self, width: int = 64, seed: int = 0) -> None:
        self.width, self.seed = width, seed

    @classmethod
    def from_config(cls, config: Config, sources: Any) -> WordEncoder:
        return cls(config.width, config.seed)

    @property
    def fingerprint(self) -> str:
        return f"words {self.width} {self.seed}"

    def encode_queries(self, queries: Sequence[Query]) -> np.ndarray:
        return self._encode([_words(query.instruction, query.question, query.image) for query in queries])

    def encode_documents(self, documents: Sequence[Document]) -> np.ndarray:
        return self._encode([_words(document.contents, document.image) for document in documents])

    def word_vectors(self, words: Sequence[str]) -> np.ndarray:
        """float32[words, width], each of length 1."""
        vectors = np.empty((len(words), self.width), np.float32)
        for number, word in enumerate(words):
            digest = hashlib.blake2b(f"{self.seed} {word}".encode(), digest_size=8).digest()
            random = np.random.default_rng(int.from_bytes(digest, "little"))
            vectors[number] = random.standard_normal(self.width)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def _encode(self, texts: Sequence[Sequence[str]]) -> np.ndarray:
        vectors = np.zeros((len(texts), self.width), np.float32)
        for number, words in enumerate(texts):
            if words:
                vectors[number] = self.word_vectors(words).sum(axis=0)
                vectors[number] /= np.linalg.norm(vectors[number])
        return vectors


class WordTokenEncoder:
    """A `TokenEncoder` without weights: one vector for each word, those of `WordEncoder`."""

    @dataclass(frozen=True)
    class Config:
        """As for WordEncoder."""

        width: int = 64
        seed: int = 0

    def __init__(self, width: int = 64, seed: int = 0) -> None:
        self.width, self._words = width, WordEncoder(width, seed)

    @classmethod
    def from_config(cls, config: Config, sources: Any) -> WordTokenEncoder:
        return cls(config.width, config.seed)

    @property
    def fingerprint(self) -> str:
        return f"tokens of {self._words.fingerprint}"

    def encode_queries(self, queries: Sequence[Query]) -> TokenVectors:
        return self._encode([_words(query.question, query.image) for query in queries])

    def encode_documents(self, documents: Sequence[Document]) -> TokenVectors:
        return self._encode([_words(document.contents, document.image) for document in documents])

    def _encode(self, texts: Sequence[Sequence[str]]) -> TokenVectors:
        offsets = np.cumsum([0, *(len(words) for words in texts)], dtype=np.int64)
        every = [word for words in texts for word in words]
        return TokenVectors(self._words.word_vectors(every).astype(np.float16), offsets)


class ReversingReranker:
    """A `Reranker` that turns a ranking round."""

    @dataclass(frozen=True)
    class Config:
        """No settings."""

    @classmethod
    def from_config(cls, config: Config, sources: Any) -> ReversingReranker:
        return cls()

    def rerank(self, query: Query, ranking: Ranking) -> Ranking:
        hits = tuple(replace(hit, score=-hit.score) for hit in reversed(ranking.hits))
        return replace(ranking, hits=hits)


def _words(*texts: str | None) -> list[str]:
    return [
        word.strip(".,?!").lower() for text in texts if text for word in text.split() if word.strip(".,?!")
    ]


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
