"""Documents in which a clue ends with a word: against a look at every occurrence, over random corpora."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gemkr.fm_index import FMIndex
from gemkr.retrievers.generative.clue_documents import ClueDocuments
from gemkr.retrievers.generative.config import ScoringConfig
from gemkr.retrievers.generative.ends import ending_documents
from gemkr.retrievers.generative.scoring import scorer_of
from gemkr.text.borders import FREE, WORD, Borders
from gemkr.types import Clue, Query

VOCAB = 5


def borders_before(breaks: np.ndarray) -> Borders:
    """Words end before the tokens of `breaks` and nowhere else."""
    every = np.ones(len(breaks), dtype=bool)
    first = np.where(breaks, FREE, WORD).astype(np.int8)
    return Borders(first, np.full(len(breaks), WORD, dtype=np.int8), every, every)


@given(
    st.lists(st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=8), min_size=1, max_size=8),
    st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=3),
    st.lists(st.booleans(), min_size=VOCAB, max_size=VOCAB),
)
def test_a_word_ends_where_one_may_break(docs: list, clue: list, breaks: list) -> None:
    index = FMIndex.build(docs, vocab_size=VOCAB, threads=1)
    span = index.search(clue)
    if not span:
        return
    length = len(clue)
    held, whole = set(), set()
    for number, doc in enumerate(docs):
        for start in range(len(doc) - length + 1):
            if doc[start : start + length] == clue:
                held.add(number)
                if start + length == len(doc) or breaks[doc[start + length]]:
                    whole.add(number)
    found = ending_documents(index, span, np.array(breaks), 1000)
    assert sorted(found.tolist()) == sorted(whole or held)


def test_a_frequent_clue_keeps_documents_of_whole_words_only() -> None:
    """Its first occurrences are in none of them; of those looked at, the document with the most comes first."""
    ski, ing, end = range(3)
    docs = [*[[ski, ing]] * 6, [ski, end], [ski, end, ski, end], [ski, end, ski, ing, end]]
    index = FMIndex.build(docs, vocab_size=3, threads=1)
    breaks = np.array([True, False, True])
    span = index.search([ski])
    assert ending_documents(index, span, breaks, 5).tolist() == [7, 6, 8]
    clues = [Clue((ski,), "ski", -1.0, -1.0, span), Clue((ing,), "ing", -2.0, -2.0, index.search([ing]))]
    settings, borders = ScoringConfig(rows_per_clue=5), borders_before(breaks)
    hits = scorer_of(ClueDocuments(index, settings, None, borders)).rank(Query("q", "?"), clues[:1], 10)
    assert [hit.doc_id for hit in hits] == ["7", "6", "8"]
    assert scorer_of(ClueDocuments(index, settings, None, borders)).rank(Query("q", "?"), clues, 10)


def test_a_span_without_rows_has_no_documents() -> None:
    index = FMIndex.build([[0, 1], [1]], vocab_size=3, threads=1)
    clues = [Clue((t,), str(t), -1.0, -1.0, index.search([t])) for t in (1, 2)]
    for borders in (None, borders_before(np.ones(3, dtype=bool))):
        hits = scorer_of(ClueDocuments(index, ScoringConfig(), None, borders)).rank(
            Query("q", "?"), clues, 10
        )
        assert [hit.doc_id for hit in hits] == ["0", "1"]


def test_scoring_by_ends_of_words() -> None:
    ski, ing, end, slope = range(4)
    index = FMIndex.build(
        [[ski, ing, end], [slope, ski], [ski, ing, slope, ski, end]], vocab_size=4, threads=1
    )
    breaks = np.array([True, False, True, True])
    clue = Clue((ski,), "ski", -1.0, -1.0, index.search([ski]))
    plain = scorer_of(ClueDocuments(index, ScoringConfig())).rank(Query("q", "?"), [clue], 10)
    assert {hit.doc_id for hit in plain} == {"0", "1", "2"}
    lookup = ClueDocuments(index, ScoringConfig(), None, borders_before(breaks))
    hits = scorer_of(lookup).rank(Query("q", "?"), [clue], 10)
    assert {hit.doc_id: (hit.evidence[0].start, hit.evidence[0].stop) for hit in hits} == {
        "1": (1, 2),
        "2": (3, 4),
    }
