"""What is relevant: 4-column TREC qrels, gold documents of queries, and documents that hold an answer.

Knows nothing of scores or of how documents were found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from gemkr.corpus import open_text
from gemkr.errors import ConfigError, DataError
from gemkr.evaluation.files import write_atomically
from gemkr.types import Document, Qrels, Query, Run

MATCHES = ("exact", "lower", "word")


def read_qrels(path: str | Path) -> dict[str, dict[str, int]]:
    """Read `query_id 0 doc_id relevance` lines, plain or `.gz`, separated by white space.

    Raises DataError naming file and line for a row without four columns, a relevance that is no integer, or a
    pair that is judged twice; and for a file without judgements.
    """
    qrels: dict[str, dict[str, int]] = {}
    with open_text(path) as stream:
        for line, text in enumerate(stream, 1):
            columns = text.split()
            if not columns:
                continue
            if len(columns) != 4:
                raise DataError(
                    f"{path}:{line}: the row has {len(columns)} columns, qrels have 4 (query, 0, document, relevance)"
                )
            query_id, _, doc_id, relevance = columns
            judged = qrels.setdefault(query_id, {})
            if doc_id in judged:
                raise DataError(
                    f"{path}:{line}: document {doc_id!r} is judged twice for query {query_id!r}; keep one row"
                )
            try:
                judged[doc_id] = int(relevance)
            except ValueError:
                raise DataError(f"{path}:{line}: the relevance {relevance!r} is not an integer") from None
    if not qrels:
        raise DataError(f"the qrels {path} hold no judgement")
    return qrels


def write_qrels(path: str | Path, qrels: Qrels) -> None:
    """Write 4-column TREC qrels, in the order of the mapping, under a temporary name first."""
    lines = (
        f"{query_id} 0 {doc_id} {grade}\n"
        for query_id, judged in qrels.items()
        for doc_id, grade in judged.items()
    )
    write_atomically(path, "".join(lines))


def gold_qrels(queries: Iterable[Query]) -> dict[str, dict[str, int]]:
    """Relevance from `Query.positives`; queries without any are left out."""
    return {query.query_id: dict.fromkeys(query.positives, 1) for query in queries if query.positives}


class AnswerMatcher:
    """Finds the answers of one query in texts.

    `exact`: case-sensitive substring, as the GeMKR paper's script judges; `lower`: the same in lower case;
    `word`: lower case, and no letter, digit or underscore may touch an answer's ends.
    """

    def __init__(self, answers: Sequence[str], match: str) -> None:
        """Prepare the answers (blank ones are dropped); raises ConfigError for an unknown kind of match."""
        if match not in MATCHES:
            raise ConfigError(f"the match {match!r} is unknown; use {', '.join(MATCHES)}")
        stripped = (answer.strip() for answer in answers)
        self._fold = match != "exact"
        self._word = match == "word"
        self._answers = tuple(
            dict.fromkeys(_lower(answer) if self._fold else answer for answer in stripped if answer)
        )

    def __bool__(self) -> bool:
        """Whether there is any answer to find."""
        return bool(self._answers)

    def matches(self, text: str) -> bool:
        """Whether the text holds an answer; about a microsecond per answer and 1,000 characters."""
        if self._fold:
            text = _lower(text)
        return any(self._first(text, answer, 0) >= 0 for answer in self._answers)

    def find(self, text: str) -> list[tuple[int, int]]:
        """Half-open character ranges of all answers in the text, ascending, overlaps merged."""
        if self._fold:
            text = _lower(text)
        found = []
        for answer in self._answers:
            at = self._first(text, answer, 0)
            while at >= 0:
                found.append((at, at + len(answer)))
                at = self._first(text, answer, at + 1)
        return merge_ranges(found)

    def _first(self, text: str, answer: str, start: int) -> int:
        """The first place at or after `start`, or -1 as `str.find` has it."""
        at = text.find(answer, start)
        while at >= 0 and self._word and _continues(text, at, at + len(answer)):
            at = text.find(answer, at + 1)
        return at


def judge_answers(
    run: Run, queries: Iterable[Query], texts: Mapping[str, Document], match: str
) -> dict[str, dict[str, int]]:
    """Answer relevance of the documents of a run: {query_id: {doc_id: 0 or 1}}, for queries that have answers.

    `texts` maps the run's doc_ids to documents. Only documents of the run are judged, so metrics that need to
    know all relevant documents (R@k, nDCG@k) cannot be computed from the result. Raises DataError when no query
    has an answer, or a document is unknown.
    """
    qrels: dict[str, dict[str, int]] = {}
    for query in queries:
        matcher = AnswerMatcher(query.answers, match)
        if not matcher:
            continue
        judged = qrels[query.query_id] = {}
        for hit in run.get(query.query_id, ()):
            if hit.doc_id not in texts:
                raise DataError(
                    f"the run names document {hit.doc_id!r}, which the corpus does not hold; give the corpus of the run"
                )
            judged[hit.doc_id] = int(matcher.matches(texts[hit.doc_id].contents))
    if not qrels:
        raise DataError("no query has an answer to look for; give queries with answers, or qrels")
    return qrels


def merge_ranges(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Half-open ranges in ascending order, those that overlap or touch made one."""
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged


def _lower(text: str) -> str:
    """Lower case of the same length, so that character positions stay true."""
    lowered = text.lower()
    if len(lowered) == len(text):
        return lowered
    return "".join(low if len(low := char.lower()) == 1 else char for char in text)


def _continues(text: str, start: int, stop: int) -> bool:
    """Whether a word runs on over either end of text[start:stop]."""
    before = start > 0 and _in_word(text[start - 1]) and _in_word(text[start])
    return before or (stop < len(text) and _in_word(text[stop - 1]) and _in_word(text[stop]))


def _in_word(char: str) -> bool:
    return char.isalnum() or char == "_"
