"""From facts to the corpus: one natural passage per fact, each of them naming its country near its beginning.

Each country has one of three styles, which words the openings of all its passages; the first ten tokens hold country,
kind and (nearly always) the answer. A style can be learned from some passages of a country and holds for the others.
Knows no questions and no tokenizer.
"""

from __future__ import annotations

import csv
import io
import random
from functools import lru_cache

from gemkr.sample.facts import Fact, facts, in_prose

OPENINGS = {
    "capital": (
        "The capital of {country} is {answer}.",
        "{country} has its capital in {answer}.",
        "The government of {country} sits in {answer}.",
    ),
    "currency": (
        "The currency of {country} is the {answer}.",
        "{country} pays with the {answer}.",
        "The money of {country} is the {answer}.",
    ),
    "language": (
        "The main language of {country} is {answer}.",
        "{country} mostly speaks {answer}.",
        "People in {country} speak {answer}.",
    ),
    "dish": (
        "A famous dish of {country} is {answer}.",
        "{country} is proud of its food, above all {answer}.",
        "Cooks in {country} love {answer}.",
    ),
    "landmark": (
        "A famous sight of {country} is {answer}.",
        "{country} attracts visitors with {answer}.",
        "Travellers in {country} visit {answer}.",
    ),
    "animal": (
        "An animal linked with {country} is the {answer}.",
        "{country} honours the {answer} among its animals.",
        "The animal of {country} is the {answer}.",
    ),
    "mountain": (
        "The highest mountain of {country} is {answer}.",
        "{country} reaches its greatest height on {answer}.",
        "The top of {country} is {answer}.",
    ),
}
"""First sentences. In {country} and {answer} stand the country's name and the answer with its article."""


def style_of(country: str) -> int:
    """Which of the three openings of each kind a country's passages have."""
    return random.Random(f"style {country}").randrange(3)


def passage(fact: Fact) -> str:
    """The passage of one fact, the same in every run."""
    opening = OPENINGS[fact.kind][style_of(fact.country)]
    sentence = opening.format(country=in_prose(fact.country), answer=fact.answer)
    return f"{sentence[0].upper()}{sentence[1:]} {fact.more}"


@lru_cache(maxsize=1)
def documents() -> dict[str, str]:
    """Passages by document id, in corpus order."""
    return {fact.doc_id: passage(fact) for fact in facts()}


def corpus_csv() -> str:
    """The corpus as csv with the columns `kid,text`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["kid", "text"])
    writer.writerows(documents().items())
    return text.getvalue()
