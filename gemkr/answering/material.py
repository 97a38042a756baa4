"""Training material of readers: queries joined with the passages of a run, and the answers to write for each.

The prompt comes from the model's own `InputBuilder`, the same that reading uses. Knows no weights.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gemkr.answering.config import ReaderDataConfig
from gemkr.answering.shown import shown_text
from gemkr.data.corpus import BadRows, read_corpus
from gemkr.data.qrels import AnswerMatcher
from gemkr.data.queries import read_queries
from gemkr.data.runs import load_run
from gemkr.errors import DataError
from gemkr.models.gemkr.inputs import Example
from gemkr.models.gemkr.rows import ClueTarget
from gemkr.text.answers import vqa_form
from gemkr.text.tokenizer import Tokenizer
from gemkr.types import Query

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReaderSample:
    """One reading: a query, a passage (None: closed book) as it is shown, and the tokens of the answers to learn."""

    query_id: str
    passage: str | None
    answers: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class ReaderDataset:
    """Sample i teaches the answers of `samples[i]` behind one prompt."""

    queries: Mapping[str, Query]
    samples: Sequence[ReaderSample]
    build: Callable[..., Example]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, number: int) -> Example:
        sample = self.samples[number]
        prompt = self.build(self.queries[sample.query_id], passage=sample.passage)
        return replace(prompt, clues=tuple(ClueTarget(tokens) for tokens in sample.answers))

    def lengths(self) -> np.ndarray:
        """int64[n]: each sample's rough length, good enough to sort by: characters, four a token."""
        characters = {
            key: len(query.question) + len(query.caption or "") for key, query in self.queries.items()
        }
        return np.array([characters[s.query_id] + len(s.passage or "") for s in self.samples], np.int64) // 4

    def groups(self) -> np.ndarray:
        """int64[n]: a number for each sample's query."""
        numbers = {key: number for number, key in enumerate(self.queries)}
        return np.array([numbers[sample.query_id] for sample in self.samples], dtype=np.int64)


def read_material(
    data: ReaderDataConfig, queries: str | Path, build: Callable[..., Example], tokenizer: Tokenizer
) -> ReaderDataset:
    """The samples of a query file under the run and corpus of `data`, in its order.

    Queries without answers are left out; one without passages is read closed book, where that is taught. Raises DataError when
    nothing is left, and for a passage that the corpus lacks.
    """
    known = {query.query_id: query for query in read_queries(queries) if any(map(str.strip, query.answers))}
    if not known:
        raise DataError(f"no query of {queries} has an answer to learn; give queries with the key 'answers'")
    found = load_run(data.run, ties="file")
    hits = {key: found.get(key, ())[: data.passages] for key in known}
    without = [key for key, own in hits.items() if not own]
    if len(without) == len(known):
        raise DataError(
            f"{data.run} holds no passages for any of the {len(known)} queries with answers of {queries}, such as {without[0]!r}, so "
            "there is nothing to read; make a run over these with `gemkr retrieve`"
        )
    if without:
        logger.warning("%d of %d queries have no passages in %s", len(without), len(known), data.run)
    texts = passage_texts(data.corpus, {hit.doc_id for own in hits.values() for hit in own}, data.run)
    samples = []
    for key, query in known.items():
        choose = _Targets(query, tokenizer, data)
        for hit in hits[key]:
            shown = texts[hit.doc_id], [clue.text for clue in hit.evidence], data.window
            held = choose.held_by(shown_text(*shown, mark=""))  # an answer may lie on both sides of a mark
            samples.append(ReaderSample(key, shown_text(*shown), held))
        if data.closed_book:
            samples.append(ReaderSample(key, None, choose.all()))
    return ReaderDataset(known, [sample for sample in samples if sample.answers], build)


def passage_texts(corpus: str | Path, wanted: set[str], run: str | Path) -> dict[str, str]:
    """doc_id -> contents of the wanted documents; reads the corpus once. DataError names one that it lacks."""
    texts = {
        document.doc_id: document.contents
        for document in read_corpus(corpus, skip_bad_rows=BadRows())
        if document.doc_id in wanted
    }
    if absent := wanted - texts.keys():
        raise DataError(
            f"{corpus} lacks {len(absent)} of the {len(wanted)} passages of {run}, such as {min(absent)!r}; give the corpus that "
            "the run was made with"
        )
    return texts


class _Targets:
    """The answers to learn for one query: those in the passage, in the query's order."""

    def __init__(self, query: Query, tokenizer: Tokenizer, data: ReaderDataConfig) -> None:
        distinct = distinct_answers(query.answers)
        self._matchers = [AnswerMatcher([answer], data.match) for answer in distinct]
        self._tokens = [tuple(tokenizer.encode(answer)) for answer in distinct]
        self._most = data.answers

    def all(self) -> tuple[tuple[int, ...], ...]:
        return tuple(tokens for tokens in self._tokens if tokens)[: self._most]

    def held_by(self, text: str) -> tuple[tuple[int, ...], ...]:
        held = [
            tokens
            for matcher, tokens in zip(self._matchers, self._tokens, strict=True)
            if tokens and matcher.matches(text)
        ]
        return tuple(held[: self._most]) or self.all()


def distinct_answers(answers: Iterable[str]) -> list[str]:
    """The answers, of those with one VQA form the first."""
    first: dict[str, str] = {}
    for answer in map(str.strip, answers):
        if answer:
            first.setdefault(vqa_form(answer) or answer, answer)
    return list(first.values())
