"""Training data of clue generation: mined clues joined with their queries, as datasets that build examples, and the judged
clues of a rank loss.

Clues are taken as they were mined, token by token; the prompt comes from the model's own `InputBuilder`, the same that
evaluation uses. Knows no weights.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from gemkr.data.clues import MinedClue, read_clues
from gemkr.data.judged import JudgedClue, read_judged
from gemkr.data.queries import read_queries
from gemkr.errors import ConfigError, DataError
from gemkr.models.gemkr.inputs import Example
from gemkr.models.gemkr.rows import ClueTarget
from gemkr.text.tokenizer import Tokenizer
from gemkr.types import Query

ExampleBuilder = Callable[..., Example]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClueDataset:
    """Sample i teaches clue i to the query it was mined for; the model is shown the `form` when `show_form`.

    `queries` are those that have clues, `known` the names of all in the file.
    Indexing builds the example (reading its picture) and is safe in several processes.
    """

    queries: dict[str, Query]
    clues: list[MinedClue]
    build: ExampleBuilder
    show_form: bool
    known: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.clues)

    def __getitem__(self, number: int) -> Example:
        clue = self.clues[number]
        form = clue.form if self.show_form else None
        return self.build(self.queries[clue.query_id], clue=clue.tokens, form=form)

    def prompt(self, number: int) -> Example:
        """The prompt of sample `number`, without its clue."""
        clue = self.clues[number]
        return self.build(self.queries[clue.query_id], form=clue.form if self.show_form else None)

    def lengths(self) -> np.ndarray:
        """int64[n]: each sample's rough length, good enough to sort by: characters of the query, four a token."""
        words = {key: self._characters(query) // 4 for key, query in self.queries.items()}
        return np.array([words[clue.query_id] + len(clue.tokens) for clue in self.clues], dtype=np.int64)

    def groups(self) -> np.ndarray:
        """int64[n]: a number for each sample's query."""
        numbers = {key: number for number, key in enumerate(self.queries)}
        return np.array([numbers[clue.query_id] for clue in self.clues], dtype=np.int64)

    def _characters(self, query: Query) -> int:
        return len(query.question) + len(query.caption or "") + sum(len(d) + 2 for d in query.detections)


@dataclass(frozen=True)
class PromptDataset:
    """Sample i is a prompt with some of its mined clues behind it, and the judged clues of its query (`judged`, tokens to
    reward) behind those; a clue that is both stands there once."""

    clues: ClueDataset
    rows: list[tuple[int, ...]]
    judged: dict[str, dict[tuple[int, ...], float]] = field(default_factory=dict)

    @staticmethod
    def of(clues: ClueDataset, limit: int) -> PromptDataset:
        """Gather up to `limit` clues that share a prompt (query and, where it is shown, form), in order of appearance."""
        gathered: dict[tuple[str, str], list[int]] = {}
        for number, clue in enumerate(clues.clues):
            gathered.setdefault((clue.query_id, clue.form if clues.show_form else ""), []).append(number)
        rows = [tuple(m[i : i + limit]) for m in gathered.values() for i in range(0, len(m), limit)]
        return PromptDataset(clues, rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Example:
        row = self.rows[number]
        rewards = dict(self.judged.get(self.query_id(number), {}))
        learned = [tuple(self.clues.clues[i].tokens) for i in row]
        clues = [ClueTarget(tokens, True, rewards.pop(tokens, None)) for tokens in learned]
        clues += [ClueTarget(tokens, False, reward) for tokens, reward in rewards.items()]
        return replace(self.clues.prompt(row[0]), clues=tuple(clues))

    def query_id(self, number: int) -> str:
        """Whose prompt it is."""
        return self.clues.clues[self.rows[number][0]].query_id

    def lengths(self) -> np.ndarray:
        """int64[n]: rough lengths of the prompts with their judged clues."""
        owners = [self.query_id(number) for number in range(len(self))]
        behind = [sum(map(len, self.judged.get(owner, ()))) for owner in owners]
        prompts = self.clues.lengths()[[row[0] for row in self.rows]]
        return prompts + np.array(behind, dtype=np.int64)

    def groups(self) -> np.ndarray:
        """int64[n]: a number for each sample's query."""
        return self.clues.groups()[[row[0] for row in self.rows]]


def read_clue_dataset(
    queries: str | Path, clues: str | Path, build: ExampleBuilder, *, show_form: bool | None = None
) -> ClueDataset:
    """Join a clue file with its query file; queries without a clue are left out.

    Unless `show_form` says otherwise, the model is shown the form only when the file holds more than one. Raises
    DataError naming the first clue whose query is not in the query file, and as the readers do.
    """
    where = f"{clues} and {queries}"
    return join_clues(read_queries(queries), read_clues(clues), build, where=where, show_form=show_form)


def join_clues(
    queries: Iterable[Query],
    clues: Iterable[MinedClue],
    build: ExampleBuilder,
    *,
    where: str = "the clues",
    show_form: bool | None = None,
) -> ClueDataset:
    """As `read_clue_dataset`, from memory; `where` names the sources in errors."""
    known = {query.query_id: query for query in queries}
    kept = list(clues)
    for clue in kept:
        if clue.query_id not in known:
            raise DataError(
                f"{where} do not belong together: the query {clue.query_id!r} of a clue is not among the queries; "
                f"mine the clues from this query file"
            )
    used = {clue.query_id for clue in kept}
    if show_form is None:
        show_form = len({clue.form for clue in kept}) > 1
    return ClueDataset(
        {k: q for k, q in known.items() if k in used}, kept, build, show_form, frozenset(known)
    )


def join_judged(
    prompts: PromptDataset,
    clues: Iterable[JudgedClue],
    per_prompt: int,
    tokenizer: Tokenizer,
    where: str | Path,
) -> PromptDataset:
    """Give each prompt its query's first `per_prompt` judged clues (a prompt may have none).

    Raises DataError for a clue of an unknown query or of another tokenizer, and when no clue that a prompt is shown is worth
    anything; ConfigError when prompts show a form, which judged clues do not have.
    """
    if prompts.clues.show_form:
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
    worth = [query_id for query_id in prompts.clues.queries if any(judged.get(query_id, {}).values())]
    if not worth:
        raise DataError(
            f"{where}: of the queries that have clues to learn, none has a judged clue worth something among its first "
            f"{per_prompt}; there is nothing to prefer"
        )
    logger.info("a rank loss for %d of %d queries", len(worth), len(prompts.clues.queries))
    return replace(prompts, judged=judged)


def read_judged_prompts(
    prompts: PromptDataset, path: str | Path, per_prompt: int, tokenizer: Tokenizer
) -> PromptDataset:
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
