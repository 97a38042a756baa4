"""Training material for the rank loss: prompts with the clues to learn and the judged clues to rank. Knows no weights."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gemkr.data.judged import JudgedClue, read_judged
from gemkr.errors import ConfigError, DataError
from gemkr.models.gemkr.ranked import RankedClue, RankedExample
from gemkr.text.tokenizer import Tokenizer
from gemkr.training.data import PromptDataset

logger = logging.getLogger(__name__)


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
        rewards = dict(self.judged.get(self.prompts.query_id(number), {}))
        clues = [RankedClue(tokens, True, rewards.pop(tokens, None)) for tokens in learned]
        clues += [RankedClue(tokens, False, reward) for tokens, reward in rewards.items()]
        return prompt, tuple(clues)

    def lengths(self) -> np.ndarray:
        """int64[n]: rough lengths of the prompts with their judged clues."""
        owners = [self.prompts.query_id(number) for number in range(len(self))]
        behind = [sum(map(len, self.judged.get(owner, ()))) for owner in owners]
        return self.prompts.lengths() + np.array(behind, dtype=np.int64)

    def groups(self) -> np.ndarray:
        """int64[n]: a number for each sample's query."""
        return self.prompts.groups()


def join_judged(
    prompts: PromptDataset,
    clues: Iterable[JudgedClue],
    per_prompt: int,
    tokenizer: Tokenizer,
    where: str | Path,
) -> RankedDataset:
    """Give each prompt its query's first `per_prompt` judged clues (a prompt may have none).

    Raises DataError for a clue of an unknown query or of another tokenizer, and when no clue that a prompt is shown is worth
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
        _require_own(clue, tokenizer, where, read=clue.query_id not in judged)
        own = judged.setdefault(clue.query_id, {})
        if len(own) < per_prompt:
            own.setdefault(clue.tokens, clue.reward)
    told = [query_id for query_id in prompts.clues.queries if any(judged.get(query_id, {}).values())]
    if not told:
        raise DataError(
            f"{where}: of the queries that have clues to learn, none has a judged clue worth something among its first "
            f"{per_prompt}; there is nothing to prefer"
        )
    logger.info("a rank loss for %d of %d queries", len(told), len(prompts.clues.queries))
    return RankedDataset(prompts, judged)


def read_ranked_dataset(
    prompts: PromptDataset, path: str | Path, per_prompt: int, tokenizer: Tokenizer
) -> RankedDataset:
    """`join_judged` with the clues of a file."""
    return join_judged(prompts, read_judged(path), per_prompt, tokenizer, path)


def _require_own(clue: JudgedClue, tokenizer: Tokenizer, where: str | Path, *, read: bool) -> None:
    """A clue's tokens must be among the tokenizer's and, where they are `read`, make its text."""
    size = tokenizer.vocab_size
    beyond = [token for token in clue.tokens if not 0 <= token < size]
    if beyond:
        wrong = f"holds the token {beyond[0]}, the model's tokenizer has {size}"
    elif read and (text := tokenizer.decode(clue.tokens)) != clue.text:
        wrong = f"reads {clue.text!r}, the model's tokenizer makes {text!r} of its tokens"
    else:
        return
    raise DataError(
        f"{where}: a clue of the query {clue.query_id!r} {wrong}; judge clues of a model with the same tokenizer"
    )
