"""From clues to documents: each way of scoring on a corpus small enough to reckon by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from gemkr.errors import ConfigError
from gemkr.fm_index import FMIndex
from gemkr.retrievers.generative.clue_documents import ClueDocuments
from gemkr.retrievers.generative.config import ScoringConfig
from gemkr.retrievers.generative.random_document import RandomDocumentScorer
from gemkr.retrievers.generative.scoring import scorer_of
from gemkr.scorers.random_order import RandomOrder
from gemkr.types import Clue, Query

DOCS = [[3, 4, 5], [3, 4, 6, 3, 4], [7, 3, 8], [9, 9], [7, 8, 5]]
QUERY = Query("q1", "what")


@pytest.fixture(scope="module")
def index() -> FMIndex:
    return FMIndex.build(DOCS, [f"d{i}" for i in range(5)], vocab_size=10)


def clue(index: FMIndex, tokens: Sequence[int], p: float) -> Clue:
    return Clue(tuple(tokens), " ".join(map(str, tokens)), math.log(p), math.log(p), index.search(tokens))


class Prefers:
    """A second scorer with a fixed opinion of each document."""

    def __init__(self, scores: Sequence[float]) -> None:
        self.scores = np.array(scores, dtype=np.float32)

    def score(self, query: Query, docs: np.ndarray) -> np.ndarray:
        return self.scores[docs]


def test_coverage_spreads_over_the_clues(index) -> None:
    clues = [clue(index, [3, 4], 0.6), clue(index, [7], 0.3), clue(index, [9, 9], 0.1)]
    settings = ScoringConfig(method="coverage", discount=0.3, second_weight=0.0)
    hits = scorer_of(ClueDocuments(index, settings, Prefers([1, 0, 0, 0, 0]))).rank(QUERY, clues, 10)
    assert [h.doc_id for h in hits] == ["d0", "d2", "d1", "d3", "d4"]
    np.testing.assert_allclose([h.score for h in hits], [0.6, 0.3, 0.18, 0.1, 0.09])
    assert [(e.start, e.stop) for e in hits[0].evidence] == [(0, 2)]
    assert [(e.text, e.start) for e in hits[1].evidence] == [("7", 0)]


def test_the_second_scorer_chooses_inside_a_span(index) -> None:
    clues = [clue(index, [3, 4], 0.6), clue(index, [7], 0.3)]
    settings = ScoringConfig(second_weight=0.1)
    first = scorer_of(ClueDocuments(index, settings, Prefers([0, 1, 0, 0, 3]))).rank(QUERY, clues, 10)
    assert [h.doc_id for h in first] == ["d1", "d4", "d0", "d2"]
    few = ScoringConfig(second_weight=0.1, documents_per_clue=1)
    hits = scorer_of(ClueDocuments(index, few, Prefers([0, 1, 0, 0, 3]))).rank(QUERY, clues, 10)
    assert [h.doc_id for h in hits] == ["d1", "d4"]
    by_occurrences = scorer_of(ClueDocuments(index, few, None)).rank(QUERY, clues, 1)
    assert [h.doc_id for h in by_occurrences] == ["d1"]


def test_a_document_of_two_clues_counts_both_even_off_one_shortlist(index) -> None:
    clues = [clue(index, [3], 0.5), clue(index, [7], 0.5)]
    settings = ScoringConfig(documents_per_clue=1, second_weight=0.0)
    hits = scorer_of(ClueDocuments(index, settings, Prefers([5, 0, 1, 0, 0]))).rank(QUERY, clues, 2)
    assert [h.doc_id for h in hits] == ["d2", "d0"]
    assert hits[0].score == pytest.approx(1.0)
    assert len(hits[0].evidence) == 2


def test_reference_keeps_one_document_of_each_clue(index) -> None:
    clues = [clue(index, [9], 0.2), clue(index, [3, 4, 6], 0.5), clue(index, [6, 3], 0.3)]
    hits = scorer_of(ClueDocuments(index, ScoringConfig(method="reference"))).rank(QUERY, clues, 10)
    assert [h.doc_id for h in hits] == ["d1", "d3"]
    assert hits[0].score == pytest.approx(math.log(0.5))
    assert [e.text for e in hits[0].evidence] == ["3 4 6", "6 3"]


def test_seal_weights_rare_clues_and_counts_overlaps_once(index) -> None:
    clues = [clue(index, [3], 0.4), clue(index, [3, 4, 6], 0.4), clue(index, [7], 0.4)]
    scorer = scorer_of(ClueDocuments(index, ScoringConfig(method="seal", alpha=2.0, beta=0.8)))
    n = index.n_tokens

    def w(count: int) -> float:
        prior = count / n
        return math.log(0.4 * (1 - prior) / (prior * 0.6))

    hits = {h.doc_id: h.score for h in scorer.rank(QUERY, clues, 10)}
    assert hits["d0"] == pytest.approx(w(4) ** 2)
    assert hits["d1"] == pytest.approx(w(1) ** 2 + w(4) ** 2 * 0.2)
    assert hits["d2"] == pytest.approx(w(2) ** 2 + w(4) ** 2)
    assert hits["d4"] == pytest.approx(w(2) ** 2)
    assert list(hits.values()) == sorted(hits.values(), reverse=True)
    common = clue(index, [3], 0.01)
    assert scorer.weight(common) == 0.0


@pytest.mark.parametrize("method", ["coverage", "seal", "reference"])
def test_no_clues_no_hits_and_k_is_kept(index, method) -> None:
    scorer = scorer_of(ClueDocuments(index, ScoringConfig(method=method), RandomOrder()))
    assert scorer.rank(QUERY, [], 5) == ()
    assert len(scorer.rank(QUERY, [clue(index, [3], 0.4), clue(index, [7], 0.2)], 2)) == 2
    hits = scorer.rank(QUERY, [clue(index, [3], 1.0)], 10)
    assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)
    for hit in hits:
        doc = DOCS[int(hit.doc_id[1:])]
        assert all(doc[e.start : e.stop] == [3] for e in hit.evidence)
        assert hit.evidence


def test_random_order_is_a_fixed_draw_per_query() -> None:
    docs = np.arange(2000)
    scores = RandomOrder().score(Query("a"), docs)
    assert scores.dtype == np.float32
    assert 0 <= scores.min() < 0.01
    assert 0.99 < scores.max() < 1
    assert abs(scores.mean() - 0.5) < 0.02
    np.testing.assert_array_equal(RandomOrder().score(Query("a"), docs[::-1]), scores[::-1])
    assert abs(np.corrcoef(scores, RandomOrder().score(Query("b"), docs))[0, 1]) < 0.1
    assert abs(np.corrcoef(scores, RandomOrder(seed=1).score(Query("a"), docs))[0, 1]) < 0.1


def test_a_drawn_document_holds_the_heaviest_clue_left(index) -> None:
    clues = [clue(index, [3, 4], 0.6), clue(index, [7], 0.3), clue(index, [9, 9], 0.1)]
    lookup = ClueDocuments(index, ScoringConfig(discount=0.3))
    seen = []
    for seed in range(200):
        hits = RandomDocumentScorer(lookup, seed).rank(QUERY, clues, 10)
        assert sorted(h.doc_id for h in hits) == [f"d{i}" for i in range(5)]
        np.testing.assert_allclose([h.score for h in hits], [0.6, 0.3, 0.18, 0.1, 0.09])
        assert [h.evidence[0].text for h in hits] == ["3 4", "7", "3 4", "9 9", "7"]
        seen.append(hits[0].doc_id)
        assert hits[:2] == RandomDocumentScorer(lookup, seed).rank(QUERY, clues, 2)
    assert 70 < seen.count("d0") < 130
    assert set(seen) == {"d0", "d1"}
    assert RandomDocumentScorer(lookup).rank(QUERY, [], 10) == ()


def test_every_document_of_a_span_is_drawn_alike(index) -> None:
    lookup = ClueDocuments(index, ScoringConfig(discount=1.0, documents_per_clue=1, second_weight=5.0))
    drawn = [
        RandomDocumentScorer(lookup).rank(Query(str(n), "what"), [clue(index, [3], 1.0)], 1)[0].doc_id
        for n in range(300)
    ]
    assert {name: drawn.count(name) > 70 for name in set(drawn)} == {"d0": True, "d1": True, "d2": True}


def test_an_unknown_method_is_named(index) -> None:
    with pytest.raises(
        ConfigError, match="'bm42' is unknown; known are coverage, seal, reference, random_document"
    ):
        scorer_of(ClueDocuments(index, ScoringConfig(method="bm42")))
