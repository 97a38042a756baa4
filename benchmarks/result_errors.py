"""What the errors of an evaluation are made of: sorts each query of a generative run into one of four kinds.

Reads the files of an evaluation folder and those its configuration names (queries, corpus, training questions). The
counts may be published; the examples quote questions and passages and belong on a page that is not committed. Knows
nothing of models, and judges by answers only, so runs with gold documents are not its matter.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gemkr.corpus import json_lines
from gemkr.documents import DocumentStore
from gemkr.errors import DataError
from gemkr.evaluation.qrels import AnswerMatcher, words
from gemkr.evaluation.records import read_records
from gemkr.queries import read_queries
from gemkr.types import Document, Hit, Query, Ranking

K = 5
CLUES = 10
EXAMPLES = 4
EXCERPT_WORDS = 15
KINDS = {
    "answered": f"a document among the first {K} holds an answer",
    "clue_without_document": f"one of the {CLUES} most probable clues holds an answer, no document among the first {K} does",
    "answer_never_seen": "no answer of the question is an answer of any training question",
    "other": "an answer is known from training, but the clues name something else",
}


@dataclass(frozen=True, slots=True)
class Example:
    """One query with its clues (text, probability, right) and first documents (id, excerpt, right)."""

    question: str
    caption: str
    answers: tuple[str, ...]
    question_type: str
    clues: tuple[tuple[str, float, bool], ...]
    documents: tuple[tuple[str, str, bool], ...]


@dataclass(slots=True)
class ErrorAnalysis:
    """Counts per kind of error (`KINDS`), in all and per question type, with a few examples of each kind.

    `never_seen`: questions without an answer that training had, answered or not; `by_chance`: answered ones of which no
    clue among the first `CLUES` holds an answer.
    """

    queries: int = 0
    never_seen: int = 0
    by_chance: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    by_type: dict[str, dict[str, int]] = field(default_factory=dict)
    examples: dict[str, list[Example]] = field(default_factory=dict)

    def published(self) -> dict[str, Any]:
        """The counts alone, as plain values: no question, answer or passage is in them."""
        return {
            "k": K,
            "queries": self.queries,
            "no_answer_seen_in_training": self.never_seen,
            "answered_without_right_clue": self.by_chance,
            "counts": dict(self.counts),
            "by_question_type": {name: dict(counts) for name, counts in sorted(self.by_type.items())},
        }


def kind_of(
    ranking: Ranking, matcher: AnswerMatcher, texts: Mapping[str, str], known: bool
) -> tuple[str, list[bool], list[bool]]:
    """The kind of error, and which of the first clues and documents are right.

    `texts` holds the contents of the ranking's first `K` documents, `known` says whether training had an answer.
    """
    documents = [matcher.matches(texts[hit.doc_id]) for hit in ranking.hits[:K]]
    clues = [matcher.matches(clue.text) for clue in first_clues(ranking)]
    if any(documents):
        return "answered", clues, documents
    if any(clues):
        return "clue_without_document", clues, documents
    return ("other" if known else "answer_never_seen"), clues, documents


def first_clues(ranking: Ranking) -> list:
    """The `CLUES` most probable clues, best first."""
    return sorted(ranking.clues, key=lambda clue: -clue.log_prob)[:CLUES]


def analyse(folder: Path, config: Mapping[str, Any], train: Path, *, seed: int = 0) -> ErrorAnalysis:
    """Sort all queries that have answers; reads the corpus once (about 5 s for 100,000 passages).

    `config` is the configuration in the folder's metrics.json. Raises DataError when a file is missing, a query has
    no ranking, or the run holds no clue.
    """
    match = config["match"] or "word"
    rankings = {ranking.query_id: ranking for ranking in read_records(folder / "run.jsonl")}
    if not any(ranking.clues for ranking in rankings.values()):
        raise DataError(f"{folder / 'run.jsonl'} holds no clue; errors are sorted for generative runs only")
    queries = list(read_queries(config["queries"]))[: config.get("limit")]
    types = question_types(Path(config["queries"]))
    seen = {tuple(words(answer)) for query in read_queries(train) for answer in query.answers}
    documents = DocumentStore.open(config["corpus"])
    analysis = ErrorAnalysis()
    members: dict[str, list[tuple[Query, list[bool], list[bool]]]] = {kind: [] for kind in KINDS}
    for query in queries:
        matcher = AnswerMatcher(query.answers, match)
        if not matcher:
            continue
        if query.query_id not in rankings:
            raise DataError(
                f"{folder / 'run.jsonl'} has no ranking of query {query.query_id!r}; let the evaluation end first"
            )
        ranking = rankings[query.query_id]
        texts = {hit.doc_id: documents.by_id(hit.doc_id).contents for hit in ranking.hits[:K]}
        known = any(tuple(words(answer)) in seen for answer in query.answers)
        kind, clues, right = kind_of(ranking, matcher, texts, known)
        analysis.queries += 1
        analysis.never_seen += not known
        analysis.by_chance += kind == "answered" and not any(clues)
        analysis.counts[kind] += 1
        counts = analysis.by_type.setdefault(types.get(query.query_id, "not told"), dict.fromkeys(KINDS, 0))
        counts[kind] += 1
        members[kind].append((query, clues, right))
    draw = random.Random(seed)
    for kind, found in members.items():
        analysis.examples[kind] = [
            make_example(query, rankings[query.query_id], documents, clues, right, types)
            for query, clues, right in draw.sample(found, min(EXAMPLES, len(found)))
        ]
    return analysis


def question_types(path: Path) -> dict[str, str]:
    """query_id -> question_type of a jsonl file of questions; empty for files that do not tell."""
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        return {}
    rows = (row for _, row in json_lines(path) if isinstance(row, dict))
    return {str(row["query_id"]): str(row["question_type"]) for row in rows if row.get("question_type")}


def make_example(
    query: Query,
    ranking: Ranking,
    documents: DocumentStore,
    clues: list[bool],
    right: list[bool],
    types: Mapping[str, str],
) -> Example:
    """What the page shows of one query."""
    return Example(
        query.question,
        query.caption or "",
        query.answers,
        types.get(query.query_id, ""),
        tuple((clue.text, math.exp(clue.log_prob), good) for clue, good in zip(first_clues(ranking), clues)),
        tuple(
            (hit.doc_id, excerpt(documents.by_id(hit.doc_id), hit), good)
            for hit, good in zip(ranking.hits[:K], right)
        ),
    )


def excerpt(document: Document, hit: Hit, size: int = EXCERPT_WORDS) -> str:
    """At most `size` words of a document around its most probable evidence, or from its start."""
    pieces = document.contents.split()
    at = 0
    if hit.evidence:
        best = max(hit.evidence, key=lambda evidence: evidence.log_prob)
        found = AnswerMatcher((best.text,), "word").find(document.contents)
        at = len(document.contents[: found[0][0]].split()) if found else 0
    start = max(0, min(at - size // 2, len(pieces) - size))
    stop = start + size
    return f"{'… ' if start else ''}{' '.join(pieces[start:stop])}{' …' if stop < len(pieces) else ''}"
