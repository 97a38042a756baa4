"""The reader that answers with the clue itself."""

from __future__ import annotations

import math

import pytest

from gemkr.answering.clues import NOTHING, ClueReader
from gemkr.errors import ConfigError, DataError
from gemkr.types import Document, Evidence, Hit, Query


def hit(doc_id: str, text: str, **clues: float) -> Hit:
    found = tuple(Evidence(clue, math.log(p), 0, 1) for clue, p in clues.items())
    return Hit(doc_id, 1.0, found, document=Document(doc_id, text))


def test_the_likeliest_clue_over_the_passages_is_the_answer() -> None:
    hits = [
        hit("1", "A fox and a hen.", fox=0.3),
        hit("2", "The hen house.", hen=0.25, house=0.1),
        hit("3", "A hen.", hen=0.25),
    ]
    answer, same, silent = ClueReader(0.0).answer(
        [(Query("q", "?"), hits), (Query("r", "?"), hits[:1]), (Query("s", "?"), [])]
    )
    assert (answer.text, answer.doc_id) == ("hen", "2")
    assert math.exp(answer.log_prob) == pytest.approx(0.5 / 3)
    assert [passage.share for passage in answer.passages] == pytest.approx([0, 0.5, 0.5])
    assert answer.others == (
        ("fox", pytest.approx(math.log(0.1))),
        ("house", pytest.approx(math.log(0.1 / 3))),
    )
    assert answer.features["held"] == pytest.approx(1)
    assert (same.text, same.others) == ("fox", ())
    assert (silent.text, silent.doc_id, silent.log_prob) == ("", None, NOTHING["log_prob"])
    assert list(silent.features) == list(answer.features)
    by_rank = next(ClueReader(2.0).answer([(Query("q", "?"), hits)]))
    assert by_rank.text == "fox"


def test_of_two_spellings_of_a_clue_the_likelier_counts() -> None:
    hits = [hit("1", "A fox. A hen.", **{"fox": 0.4, " fox": 0.1, "hen": 0.2})]
    (answer,) = ClueReader().answer([(Query("q", "?"), hits)])
    assert (answer.text, math.exp(answer.log_prob)) == ("fox", pytest.approx(0.4))


def test_passages_without_clues_are_refused() -> None:
    with pytest.raises(DataError, match=r"the query 'q' have no clues, .* name a generative retriever"):
        list(ClueReader().answer([(Query("q", "?"), [hit("1", "A fox.")])]))
    with pytest.raises(ConfigError, match=r"take closed_book out of answer.of"):
        ClueReader.require_mode(ClueReader.Config(), False)
    ClueReader.require_mode(ClueReader.Config(), True)
