"""Training material for the rank loss: prompts with the clues to learn and the judged clues to rank. Knows no weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gemkr.errors import ConfigError, DataError
from gemkr.models.ranked import RankedClue, RankedExample
from gemkr.training.data import PromptDataset
from gemkr.training.judged import JudgedClue, read_judged


@dataclass(frozen=True)
class RankedDataset:
    """Sample i is prompt i with its clues to learn, and the judged clues of its query behind them; a clue that is both
    stands there once."""

    prompts: PromptDataset
    judged: dict[str, dict[tuple[int, ...], float]]

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, number: int) -> RankedExample:
        prompt, learned = self.prompts[number]
        rewards = self.judged.get(self.prompts.query_id(number), {})
        clues = [RankedClue(tokens, True, rewards.get(tokens)) for tokens in learned]
        clues += [RankedClue(tokens, False, r) for tokens, r in rewards.items() if tokens not in learned]
        return prompt, tuple(clues)

    def lengths(self) -> np.ndarray:
        """int64[n]: rough lengths of the prompts."""
        return self.prompts.lengths()

    def groups(self) -> np.ndarray:
        """int64[n]: a number for each sample's query."""
        return self.prompts.groups()


def join_judged(
    prompts: PromptDataset, clues: Iterable[JudgedClue], per_prompt: int, vocab_size: int, where: str | Path
) -> RankedDataset:
    """Give each prompt its query's first `per_prompt` judged clues (a prompt may have none).

    Raises DataError for a clue of an unknown query or with a token beyond `vocab_size`, and when no judged clue is worth
    anything; ConfigError when prompts tell a form, which judged clues do not have.
    """
    if prompts.clues.tell_form:
        raise ConfigError(
            "the rank loss knows one form of clue and data.clues holds two; mine one form for it"
        )
    judged: dict[str, dict[tuple[int, ...], float]] = {}
    for clue in clues:
        if clue.query_id not in prompts.clues.known:
            raise DataError(
                f"{where}: the query {clue.query_id!r} of a judged clue is not among the queries of data.queries; judge a "
                "run over these"
            )
        if not 0 <= min(clue.tokens) <= max(clue.tokens) < vocab_size:
            raise DataError(
                f"{where}: a clue of the query {clue.query_id!r} holds the token {max(clue.tokens)}, the model's tokenizer has "
                f"{vocab_size}; judge clues of a model with the same tokenizer"
            )
        own = judged.setdefault(clue.query_id, {})
        if len(own) < per_prompt:
            own.setdefault(clue.tokens, clue.reward)
    if not any(reward for own in judged.values() for reward in own.values()):
        raise DataError(f"{where}: no judged clue is worth anything; there is nothing to prefer")
    return RankedDataset(prompts, judged)


def read_ranked_dataset(
    prompts: PromptDataset, path: str | Path, per_prompt: int, vocab_size: int
) -> RankedDataset:
    """`join_judged` with the clues of a file."""
    return join_judged(prompts, read_judged(path), per_prompt, vocab_size, path)
