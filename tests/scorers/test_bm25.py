"""BM25: scores of given documents and best documents agree, with each other and with the library."""

from __future__ import annotations

import numpy as np
import pytest
from toy_text import documents

from gemkr.types import Document, Query

bm25_module = pytest.importorskip("gemkr.scorers.bm25")
pytest.importorskip("bm25s")


def test_bm25_scores_and_tops_agree() -> None:
    docs = documents()
    bm25 = bm25_module.BM25(docs)
    text = "What is the capital of Japan? a city, tokyo tokyo"
    best, scores = bm25.top(text, 5)
    assert best.tolist()[:2] == [1, 6] or best.tolist()[:2] == [6, 1]
    assert (np.diff(scores) <= 0).all()
    assert scores.dtype == np.float32
    everything = np.arange(len(docs))
    assert np.allclose(bm25.score_text(text, best), scores)
    assert np.allclose(bm25.score_text(text, everything[::-1])[::-1], bm25.score_text(text, everything))
    assert set(np.flatnonzero(bm25.score_text(text, everything) > 0)) == set(
        bm25.top(text, len(docs))[0].tolist()
    )
    assert bm25.score_text(text, np.array([], dtype=np.int64)).shape == (0,)
    assert bm25.top("zzz", 3)[0].tolist() == []
    assert bm25.top("", 3)[0].tolist() == []
    assert bm25.top(text, 0)[0].tolist() == []


def test_bm25_agrees_with_the_library() -> None:
    import bm25s
    import Stemmer

    docs = documents()
    stem = Stemmer.Stemmer("english")
    reference = bm25s.BM25(k1=1.5, b=0.75)
    tokens = bm25s.tokenize([d.contents for d in docs], stopwords="en", stemmer=stem, show_progress=False)
    reference.index(tokens, show_progress=False)
    query = Query("q", "Which city hosted the games?", caption="giraffes eating honey", detections=("pony",))
    for detections in (False, True):
        bm25 = bm25_module.BM25(docs, detections=detections)
        text = bm25.query_text(query)
        assert ("pony" in text) == detections
        words = bm25s.tokenize(text, stopwords="en", stemmer=stem, show_progress=False, return_ids=False)[0]
        wanted = reference.get_scores(words)
        assert np.allclose(bm25.score(query, np.arange(len(docs))), wanted, atol=1e-6)


def test_bm25_ties_go_to_the_smaller_number() -> None:
    bm25 = bm25_module.BM25([Document(str(i), "same words here") for i in range(9)])
    assert bm25.top("same", 4)[0].tolist() == [0, 1, 2, 3]


def test_bm25_of_nothing() -> None:
    empty = bm25_module.BM25([])
    assert (len(empty), empty.top("hello", 3)[0].tolist(), empty.score_all("hello").tolist()) == (0, [], [])
    assert (empty.documents_per_term().tolist(), empty.count_terms("hello")) == ([], [])
    bm25 = bm25_module.BM25([Document("a", "the of"), Document("b", "hello")])
    assert bm25.top("of", 2)[0].tolist() == []
    assert bm25.score_text("the", np.array([0, 1])).tolist() == [0.0, 0.0]
