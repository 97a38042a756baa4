"""The facts of the embedded sample: what is asked about a country, and the table `facts.csv`.

Knows nothing of passages, questions or pictures.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

KINDS = ("capital", "currency", "language", "dish", "landmark", "animal", "mountain")
"""Kinds of facts: each country has exactly one fact of each, and each fact one passage."""
SAMPLE_FOLDER = Path(__file__).resolve().parent

WITH_ARTICLE = frozenset({"Philippines", "Seychelles"})


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact. `answer` as it stands in a sentence ("the Eiffel Tower"); `more` is a sentence that goes with it."""

    country: str
    kind: str
    answer: str
    more: str

    @property
    def doc_id(self) -> str:
        """The id of the passage that states this fact, such as `kenya-capital`."""
        return f"{self.country.lower()}-{self.kind}"

    @property
    def name(self) -> str:
        """The answer without its article."""
        return self.answer.removeprefix("the ")


@lru_cache(maxsize=1)
def facts() -> tuple[Fact, ...]:
    """All facts, by country and kind in the order of the table (72 countries x 7 kinds)."""
    with (SAMPLE_FOLDER / "facts.csv").open(encoding="utf-8", newline="") as file:
        return tuple(
            Fact(row["country"], row["kind"], row["answer"], row["more"]) for row in csv.DictReader(file)
        )


@lru_cache(maxsize=1)
def countries() -> tuple[str, ...]:
    """Names of all countries, in alphabetical order."""
    return tuple(sorted({fact.country for fact in facts()}))


def fact_of(country: str, kind: str) -> Fact:
    """The fact of one kind about one country; KeyError when there is none."""
    return _by_key()[country, kind]


def in_prose(country: str) -> str:
    """A country's name as it stands inside a sentence, such as `the Philippines`."""
    return f"the {country}" if country in WITH_ARTICLE else country


@lru_cache(maxsize=1)
def _by_key() -> dict[tuple[str, str], Fact]:
    return {(fact.country, fact.kind): fact for fact in facts()}
