"""What the report shows of one query: plain values, and the places of clues and answers in the documents.

Knows tokenizers only by `encode_with_offsets`, and no files.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from gemkr.data.qrels import AnswerMatcher, merge_ranges
from gemkr.types import Document, Evidence, Query, Ranking


class Offsets(Protocol):
    """The part of a tokenizer that evidence needs."""

    def encode_with_offsets(self, text: str) -> tuple[list[int], np.ndarray]: ...


@dataclass(frozen=True, slots=True)
class Box:
    """One region of a picture: corners in shares of its width and height, and what the detector called it."""

    left: float
    top: float
    right: float
    bottom: float
    label: str = ""
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Matched:
    """A token that vectors of the query found: a half-open character range of `document.contents`, its weight in (0, 1], and which
    vectors found it."""

    start: int
    stop: int
    weight: float
    label: str


@dataclass(frozen=True, slots=True)
class ShownDocument:
    """One retrieved document: `clue` and `answer` are half-open character ranges of `document.contents`, `matched` what the query's
    vectors found there."""

    document: Document
    score: float
    relevant: bool
    clue: tuple[tuple[int, int], ...] = ()
    answer: tuple[tuple[int, int], ...] = ()
    matched: tuple[Matched, ...] = ()


@dataclass(frozen=True, slots=True)
class Heat:
    """A part of a picture, corners in shares of it, and how much it found in the first document, 0 to 1; `label` says what."""

    left: float
    top: float
    right: float
    bottom: float
    weight: float
    label: str


@dataclass(frozen=True, slots=True)
class Card:
    """One query of the report. `right`: the first document is relevant; `found`: any shown document is."""

    query: Query
    documents: tuple[ShownDocument, ...]
    clues: tuple[tuple[str, float], ...] = ()
    """(text, log-probability), best first."""
    picture: Path | None = None
    boxes: tuple[Box, ...] = ()
    heat: tuple[Heat, ...] = ()

    @property
    def right(self) -> bool:
        return bool(self.documents) and self.documents[0].relevant

    @property
    def found(self) -> bool:
        return any(shown.relevant for shown in self.documents)


def make_card(
    query: Query,
    ranking: Ranking,
    documents: Mapping[str, Document],
    judged: Mapping[str, int],
    *,
    tokenizer: Offsets | None = None,
    match: str | None = None,
    picture: Path | None = None,
    boxes: Sequence[Box] = (),
    most: int = 5,
) -> Card:
    """The card of one query with its first `most` documents.

    `documents[doc_id]` must hold them (a dict, or anything with `[]` by id); `judged` are the query's judgements. Clues are
    marked when the tokenizer that the index was built with is given, answers when `match` is.
    """
    matcher = AnswerMatcher(query.answers, match) if match else None
    shown = []
    for hit in ranking.hits[:most]:
        document = documents[hit.doc_id]
        shown.append(
            ShownDocument(
                document,
                hit.score,
                judged.get(hit.doc_id, 0) > 0,
                tuple(clue_ranges(document.contents, hit.evidence, tokenizer)) if tokenizer else (),
                tuple(matcher.find(document.contents)) if matcher else (),
            )
        )
    clues = sorted(((clue.text, clue.log_prob) for clue in ranking.clues), key=lambda clue: -clue[1])
    return Card(query, tuple(shown), tuple(clues), picture, tuple(boxes))


def clue_ranges(text: str, evidence: Iterable[Evidence], tokenizer: Offsets) -> list[tuple[int, int]]:
    """Character ranges of the clues in a document's contents, white space before them left out, overlaps merged."""
    evidence = list(evidence)
    if not evidence:
        return []
    _, starts = tokenizer.encode_with_offsets(text)
    found = []
    for each in evidence:
        if not 0 <= each.start < each.stop < len(starts):
            continue
        start, stop = int(starts[each.start]), int(starts[each.stop])
        while start < stop and text[start].isspace():
            start += 1
        while stop > start and text[stop - 1].isspace():
            stop -= 1
        if start < stop:
            found.append((start, stop))
    return merge_ranges(found)


def choose_queries(right: Mapping[str, bool], most: int, *, seed: int = 0) -> list[str]:
    """At most `most` query ids, half of them right and half wrong as far as there are any, drawn by seed, in order."""
    rng = random.Random(seed)
    good = [query_id for query_id, is_right in right.items() if is_right]
    bad = [query_id for query_id, is_right in right.items() if not is_right]
    share = min(len(good), max(most - most // 2, most - len(bad)))
    chosen = set(rng.sample(good, share)) | set(rng.sample(bad, min(len(bad), most - share)))
    return [query_id for query_id in right if query_id in chosen]
