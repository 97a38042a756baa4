"""`python -m benchmarks.okvqa.kinds RUN --queries DEV --train TRAIN --corpus CORPUS`: where a generative run wins and where it loses.

Questions are told apart by whether training questions give one of their answers (what a classifier can know), then by whether a
clue that holds an answer was written, early or late, and by whether a passage with an answer was chosen.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.okvqa.learned_weights import classes_of
from gemkr.data.documents import DocumentStore
from gemkr.data.qrels import AnswerMatcher
from gemkr.data.queries import read_queries
from gemkr.data.records import read_records
from gemkr.errors import GemkrError
from gemkr.files import write_atomically
from gemkr.types import Query, Ranking

KNOWN, UNKNOWN = "an answer that two training questions give", "none"
FIRST = 10
"""Clues that count as early."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one question: whether training gives an answer of it, the place of the first clue that holds one (None: none does), and
    whether each of the first ten documents holds one."""

    known: bool
    clue: int | None
    documents: tuple[bool, ...]

    def success(self, k: int) -> float:
        return float(any(self.documents[:k]))

    def precision(self, k: int) -> float:
        return sum(self.documents[:k]) / k


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.okvqa.kinds", description=__doc__.splitlines()[0])
    parser.add_argument("run", help="the run.jsonl of a generative retriever")
    for name in ("queries", "train", "corpus"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--json", type=Path, help="write the table there too")
    args = parser.parse_args()
    try:
        queries, training = list(read_queries(args.queries)), list(read_queries(args.train))
        found = outcomes(read_records(args.run), queries, training, DocumentStore.open(args.corpus))
        table = {name: row_of(group) for name, group in groups(found).items()}
    except GemkrError as error:
        print(f"benchmarks.okvqa.kinds: {error}", file=sys.stderr)
        return 1
    print_table(table)
    if args.json is not None:
        write_atomically(args.json, json.dumps(table, indent=1) + "\n")
    return 0


def outcomes(
    rankings: Iterable[Ranking],
    queries: Sequence[Query],
    training: Sequence[Query],
    documents: DocumentStore,
) -> list[Outcome]:
    """One for each ranking of a query with answers; answers are matched as words. DataError where no training answer is given
    twice, or a hit is not in the corpus."""
    known = set(classes_of(training, 2))
    answers = {query.query_id: query.answers for query in queries}
    found = []
    for ranking in rankings:
        own = answers.get(ranking.query_id, ())
        matcher = AnswerMatcher(own, "word")
        if not matcher:
            continue
        clues = sorted(ranking.clues, key=lambda clue: -clue.log_prob)
        place = next((at for at, clue in enumerate(clues) if matcher.matches(clue.text)), None)
        hits = tuple(matcher.matches(documents.by_id(hit.doc_id).contents) for hit in ranking.hits[:10])
        found.append(Outcome(any(answer in known for answer in own), place, hits))
    return found


def groups(found: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """All questions; by known answers; and each of these by the clues that were written."""

    def of(known: bool, wanted: Callable[[int | None], bool] = lambda place: True) -> list[Outcome]:
        return [one for one in found if one.known == known and wanted(one.clue)]

    parts: dict[str, list[Outcome]] = {"all questions": list(found)}
    for known, name in ((True, KNOWN), (False, UNKNOWN)):
        parts[name] = of(known)
        parts[f"{name}: in the first {FIRST} clues"] = of(known, lambda at: at is not None and at < FIRST)
        parts[f"{name}: in a later clue"] = of(known, lambda at: at is not None and at >= FIRST)
        parts[f"{name}: in no clue"] = of(known, lambda at: at is None)
    return parts


def row_of(group: Sequence[Outcome]) -> dict[str, float]:
    """Size of a group, and the means of P@5, S@5 and S@10 over it (0 for an empty one)."""
    size = max(len(group), 1)
    return {
        "questions": len(group),
        "P@5": sum(one.precision(5) for one in group) / size,
        "S@5": sum(one.success(5) for one in group) / size,
        "S@10": sum(one.success(10) for one in group) / size,
    }


def print_table(table: Mapping[str, Mapping[str, float]]) -> None:
    """One line for each group."""
    print(f"{'':<62}{'questions':>10}{'P@5':>8}{'S@5':>8}{'S@10':>8}")
    for name, row in table.items():
        print(f"{name:<62}{row['questions']:>10.0f}{row['P@5']:>8.3f}{row['S@5']:>8.3f}{row['S@10']:>8.3f}")


if __name__ == "__main__":
    sys.exit(main())
