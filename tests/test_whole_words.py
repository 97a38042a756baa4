"""Documents of a clue as whole words: against a look at every occurrence, over random corpora."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemkr.config import ScoringConfig
from gemkr.errors import ConfigError
from gemkr.fm_index import FMIndex
from gemkr.retrievers.scoring import make_scorer
from gemkr.retrievers.whole_words import whole_word_documents
from gemkr.types import Clue, Query

VOCAB = 5


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
    found = whole_word_documents(index, span, np.array(breaks), 1000)
    assert sorted(found.tolist()) == sorted(whole or held)


def test_scoring_by_whole_words() -> None:
    ski, ing, end, slope = range(4)
    index = FMIndex.build(
        [[ski, ing, end], [slope, ski], [ski, ing, slope, ski, end]], vocab_size=4, threads=1
    )
    breaks = np.array([True, False, True, True])
    clue = Clue((ski,), "ski", -1.0, -1.0, index.search([ski]))
    plain = make_scorer(index, ScoringConfig()).rank(Query("q", "?"), [clue], 10)
    assert {hit.doc_id for hit in plain} == {"0", "1", "2"}
    settings = ScoringConfig(whole_words=True)
    hits = make_scorer(index, settings, None, breaks).rank(Query("q", "?"), [clue], 10)
    assert {hit.doc_id: (hit.evidence[0].start, hit.evidence[0].stop) for hit in hits} == {
        "1": (1, 2),
        "2": (3, 4),
    }
    with pytest.raises(ConfigError, match="needs the tokenizer's word breaks"):
        make_scorer(index, settings)
