"""What is relevant: qrels of TREC, BEIR, MS MARCO and M-BEIR, gold documents of queries, and documents that hold an answer.

Knows nothing of scores or of how documents were found.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from gemkr.data.columns import read_columns
from gemkr.errors import ConfigError, DataError
from gemkr.files import write_atomically
from gemkr.types import Qrels, Query, Run

MATCHES = ("exact", "lower", "word")
_WORD = re.compile(r"\w+")
_LAYOUTS = {
    4: ("query", "", "document", "relevance"),
    5: ("query", "", "document", "relevance", ""),
}
_RELEVANCE_NAMES = ("score", "relevance", "rel", "label")
_COLUMNS = (
    "qrels have 4 (query, 0, document, relevance), M-BEIR's a fifth (task), and BEIR's 3 under a header "
    "(query-id, corpus-id, score)"
)


def read_qrels(path: str | Path) -> dict[str, dict[str, int]]:
    """Read judgements, plain or `.gz`, in columns between tabs or white space, recognized by header and number of columns:

    - `query_id 0 doc_id relevance`: TREC, MS MARCO;
    - `query_id 0 doc_id relevance task_id`: M-BEIR;
    - a header such as `query-id corpus-id score` (BEIR), and columns in its order.

    Raises DataError naming file and line for another number of columns, an id that is empty or holds white space, a
    relevance that is no integer, or a pair that is judged twice; and for a file without judgements.
    """
    qrels: dict[str, dict[str, int]] = {}
    for _, query_id, doc_id, relevance in placed_qrels(path):
        qrels.setdefault(query_id, {})[doc_id] = relevance
    return qrels


def placed_qrels(path: str | Path) -> Iterator[tuple[str, str, str, int]]:
    """(file and line, query id, document id, relevance) of each row, as `read_qrels` reads them."""
    seen: set[tuple[str, str]] = set()
    for where, (query_id, doc_id, relevance) in read_columns(
        path, _COLUMNS, _LAYOUTS, {"relevance": _RELEVANCE_NAMES}, ("relevance",)
    ):
        if (query_id, doc_id) in seen:
            raise DataError(
                f"{where}: document {doc_id!r} is judged twice for query {query_id!r}; keep one row"
            )
        seen.add((query_id, doc_id))
        try:
            yield where, query_id, doc_id, int(relevance)
        except ValueError:
            raise DataError(f"{where}: the relevance {relevance!r} is not an integer") from None
    if not seen:
        raise DataError(f"the qrels {path} hold no judgement")


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
    `word`: the answer's words (runs of letters, digits and underscores, in lower case) follow each other in the
    text, whatever stands between them, so that "bike race" is found in "Bike-race" and not in "bike racer".
    """

    def __init__(self, answers: Sequence[str], match: str) -> None:
        """Prepare the answers (blank ones are dropped); raises ConfigError for an unknown kind of match."""
        if match not in MATCHES:
            raise ConfigError(f"the match {match!r} is unknown; use {', '.join(MATCHES)}")
        self._match = match
        forms = (self._form(answer.strip()) for answer in answers)
        self._answers = tuple(dict.fromkeys(form for form in forms if form.strip()))

    def __bool__(self) -> bool:
        """Whether there is any answer to find."""
        return bool(self._answers)

    def matches(self, text: str) -> bool:
        """Whether the text holds an answer; about 20 microseconds for 1,000 characters."""
        text = self._form(text)
        return any(answer in text for answer in self._answers)

    def find(self, text: str) -> list[tuple[int, int]]:
        """Half-open character ranges of all answers in the text, ascending, overlaps merged."""
        if self._match != "exact":
            text = _lower(text)
        patterns = [self._pattern(answer) for answer in self._answers]
        return merge_ranges(found.span() for pattern in patterns for found in re.finditer(pattern, text))

    def _pattern(self, answer: str) -> str:
        if self._match != "word":
            return re.escape(answer)
        return r"(?<!\w)" + r"\W+".join(map(re.escape, answer.split())) + r"(?!\w)"

    def _form(self, text: str) -> str:
        """What is compared: a text or an answer is held by another when its form is a substring of the other's."""
        if self._match == "exact":
            return text
        return _lower(text) if self._match == "lower" else f" {' '.join(words(text))} "


def words(text: str) -> list[str]:
    """The words that `word` matching compares: runs of letters, digits and underscores, in lower case."""
    return _WORD.findall(_lower(text))


def judge_answers(
    run: Run, queries: Iterable[Query], contents: Callable[[str], str], match: str
) -> dict[str, dict[str, int]]:
    """Answer relevance of the documents of a run: {query_id: {doc_id: 0 or 1}}, for queries that have answers.

    `contents(doc_id)` is the text of a document. Only documents of the run are judged, so metrics that need to know
    all relevant documents (R@k, nDCG@k, MAP) cannot be computed from the result. Raises DataError when no query has an
    answer.
    """
    qrels: dict[str, dict[str, int]] = {}
    for query in queries:
        matcher = AnswerMatcher(query.answers, match)
        if matcher:
            found = dict.fromkeys(hit.doc_id for hit in run.get(query.query_id, ()))
            qrels[query.query_id] = {doc_id: int(matcher.matches(contents(doc_id))) for doc_id in found}
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
    """Lower case of the same length, so that character positions stay true.

    A character that has a longer lower case (İ) stays as it is, and counts as a letter for its neighbours: whether a sigma
    is a final one depends on them.
    """
    lowered = text.lower()
    if len(lowered) == len(text):
        return lowered
    longer = [len(char.lower()) > 1 for char in text]
    lowered = "".join("I" if long else char for char, long in zip(text, longer)).lower()
    return "".join(char if long else low for char, low, long in zip(text, lowered, longer))
