"""The reader of this library: a language model reads a query with each of its passages, and their answers are added up.

Unconstrained: an answer may be no passage's words. The passage that gives most of its probability is its evidence.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gemkr.answering.choice import choose, rank_weights
from gemkr.answering.config import LLMReaderConfig, reading_model
from gemkr.answering.reading import Reading, Tokens
from gemkr.answering.shown import shown_text
from gemkr.config.files import to_mapping
from gemkr.data.qrels import AnswerMatcher
from gemkr.data.queries import batches
from gemkr.errors import ConfigError
from gemkr.interfaces import LanguageModel
from gemkr.models.gemkr.config import model_files, require_passage
from gemkr.text.tokenizer import Tokenizer
from gemkr.types import Answer, Hit, Query, ReadPassage

if TYPE_CHECKING:
    from gemkr.sources import Sources

IDLE = {"batch_size", "model.checkpoint", "model.precision"}
"""Settings that do not decide what a reader is: how fast it works, and where its checkpoint lies."""
BELOW = {"model.llm", "model.tokenizer"}
"""Where lies what a checkpoint was trained over, and knows again."""


class LLMReader:
    """Answers queries from their passages, each shown as `shown_text` with `window` shows it; one without passages is read by itself.

    `prompts(query, text)` builds what `model.prefill` takes, `text` being a passage or None.
    """

    Config = LLMReaderConfig

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        prompts: Callable[[Query, str | None], Any],
        *,
        beam_size: int = 2,
        max_tokens: int = 10,
        rank_decay: float = 1.0,
        batch_size: int = 2,
        window: int | None = None,
    ) -> None:
        self.model, self.tokenizer, self.prompts = model, tokenizer, prompts
        self.beam_size, self.max_tokens = beam_size, max_tokens
        self.rank_decay, self.batch_size, self.window = rank_decay, batch_size, window

    @classmethod
    def from_config(cls, config: LLMReaderConfig, sources: Sources) -> LLMReader:
        """Raises CheckpointError for a checkpoint that is no reader's, and as loading models does."""
        from gemkr.answering.training import KIND
        from gemkr.training.checkpoints.trained import require_kind

        settings = reading_model(config.model)
        require_passage(settings, "a reader")
        require_kind(settings, KIND, "gemkr train-reader")
        model = sources.model(settings)
        pictures = regions = None
        if settings.tower is not None and sources.pictures is not None:
            pictures, regions = sources.pictures, sources.regions
        build = model.input_builder(pictures, regions, max_prompt_tokens=config.max_prompt_tokens)
        return cls(
            model,
            model.tokenizer,
            lambda query, text: build(query, passage=text),
            beam_size=config.beam_size,
            max_tokens=config.max_tokens,
            rank_decay=config.rank_decay,
            batch_size=config.batch_size,
            window=_trained_on(config).get("window"),
        )

    @staticmethod
    def input_files(config: LLMReaderConfig) -> dict[str, str | None]:
        """Every path that the model is read from."""
        return {f"model.{what}": path for what, path in model_files(reading_model(config.model)).items()}

    @staticmethod
    def fingerprint(config: LLMReaderConfig) -> str:
        """A hash of all that decides an answer: settings and trained parameters; without a checkpoint the model's path. No model is
        loaded."""
        settings = _flat(to_mapping(config))
        idle = IDLE if config.model.checkpoint is None else IDLE | BELOW
        parts = {name: value for name, value in settings.items() if name not in idle}
        if config.model.checkpoint is not None:
            from gemkr.training.checkpoints.manifest import WEIGHTS, read_manifest

            parts["trained"] = read_manifest(Path(config.model.checkpoint))["files"][WEIGHTS]["sha256"]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @staticmethod
    def require_mode(config: LLMReaderConfig, passages: bool) -> None:
        """ConfigError for a reader that never learned to do without passages and gets none."""
        if not passages and _trained_on(config).get("closed_book") is False:
            raise ConfigError(
                f"the reader {config.model.checkpoint} gets no passages under closed_book, and it was trained with passages "
                "only; take closed_book out of answer.of, or train it with data.closed_book: true"
            )

    @staticmethod
    def learned_queries(config: LLMReaderConfig) -> str | None:
        """The file of the queries that the reader learned from; None where none is recorded."""
        return _trained_on(config).get("queries")

    def answer(self, readings: Iterable[tuple[Query, Sequence[Hit]]]) -> Iterator[Answer]:
        """One answer for each query and its hits, best first, which carry their documents; in order, batch by batch.

        Cost: one prefill for each passage, then a step for each token of the texts.
        """
        for batch in batches(readings, self.batch_size):
            texts = [[self._shown(hit) for hit in hits] or [None] for _, hits in batch]
            prompts = [self.prompts(query, text) for (query, _), own in zip(batch, texts) for text in own]
            reading = Reading(self.model, prompts)
            written = iter(reading.write(self.beam_size, self.max_tokens))
            candidates = [self._candidates([next(written) for _ in own]) for own in texts]
            behind = [tokens for own, tokens in zip(texts, candidates) for _ in own]
            scored = iter(reading.log_probs(behind))
            for (query, hits), own, tokens in zip(batch, texts, candidates, strict=True):
                yield self._chosen(query, hits, tokens, np.stack([next(scored) for _ in own]))

    def _shown(self, hit: Hit) -> str:
        return shown_text(hit.document.contents, [clue.text for clue in hit.evidence], self.window)

    def _candidates(self, written: Sequence[Sequence[Tokens]]) -> list[Tokens]:
        """The distinct texts of a query's passages, those that say nothing left out unless all do."""
        every = list(dict.fromkeys(tokens for texts in written for tokens in texts))
        return [tokens for tokens in every if self.tokenizer.decode(tokens).strip()] or every

    def _chosen(
        self, query: Query, hits: Sequence[Hit], tokens: Sequence[Tokens], log_probs: np.ndarray
    ) -> Answer:
        weights = rank_weights(len(log_probs), self.rank_decay)

        def holds(text: str) -> np.ndarray:
            matcher = AnswerMatcher([text], "word")
            found = [bool(matcher) and matcher.matches(hit.document.contents) for hit in hits]
            return np.array(found or [False])

        choice = choose([self.tokenizer.decode(t) for t in tokens], log_probs, weights, holds)
        passages = tuple(
            ReadPassage(hit.doc_id, float(weight), float(share))
            for hit, weight, share in zip(hits, weights, choice.shares)
        )
        best = max(passages, key=lambda passage: passage.share, default=None)
        return Answer(
            query.query_id,
            choice.text,
            None if best is None else best.doc_id,
            choice.log_prob,
            passages,
            choice.others,
            choice.features,
        )


def _trained_on(config: LLMReaderConfig) -> dict[str, Any]:
    """The section `data` of a reader's training; empty without a checkpoint."""
    if config.model.checkpoint is None:
        return {}
    from gemkr.training.checkpoints.checkpoint import CONFIG
    from gemkr.training.checkpoints.manifest import read_manifest, verified

    folder = Path(config.model.checkpoint)
    facts = read_manifest(folder)["files"][CONFIG]
    return json.loads(verified(folder / CONFIG, facts)).get("data") or {}


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
