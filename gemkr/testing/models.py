"""Language models without weights: `LanguageModel`s whose prompts are plain strings."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


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
