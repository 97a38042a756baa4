"""With `allowed`, a ranking is that of all documents, filtered: every retriever that writes clues, every way of ranking.

Greedy coverage, and the random documents that take its place, count what allowed documents cover, so that their order is
their own; their documents are the same.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemkr.decoding.config import DecodingConfig
from gemkr.errors import DataError
from gemkr.fm_index import FMIndex
from gemkr.retrievers.free_text import FreeTextRetriever
from gemkr.retrievers.generative.clue_documents import ClueDocuments
from gemkr.retrievers.generative.config import ScoringConfig
from gemkr.retrievers.generative.retriever import GenerativeRetriever
from gemkr.retrievers.rescored import RescoredRetriever
from gemkr.scorers.bm25 import BM25
from gemkr.testing import RandomLM, ToyTokenizer, toy_corpus
from gemkr.types import Query, Ranking

DOCUMENTS = toy_corpus()
TOKENIZER = ToyTokenizer(d.text for d in DOCUMENTS)
TOKENS = [TOKENIZER.encode(d.text) for d in DOCUMENTS]
INDEX = FMIndex.build(TOKENS, [d.doc_id for d in DOCUMENTS], vocab_size=TOKENIZER.vocab_size)
SECOND = BM25(DOCUMENTS)
QUERIES = [Query("1", "What is the capital of Japan?"), Query("2", "Which animal eats grass?")]
METHODS = ["coverage", "reference", "seal", "random_document"]
OWN_ORDER = {"coverage", "random_document"}


def rank(kind: str, method: str, **given: object) -> list[Ranking]:
    parts = (RandomLM(TOKENIZER.vocab_size, (2,)), INDEX, TOKENIZER, lambda query: query.question)
    decoding = DecodingConfig(beam_size=8, groups=2, max_tokens=4)
    scoring = ScoringConfig(method=method, second_weight=1.5)
    if kind == "rescored":
        clues = {ranking.query_id: ranking.clues for ranking in rank("generative", method)}
        retriever = RescoredRetriever(clues, ClueDocuments(INDEX, scoring, SECOND, None))
    else:
        cls = GenerativeRetriever if kind == "generative" else FreeTextRetriever
        retriever = cls(*parts, decoding, scoring, SECOND)
    return list(retriever.retrieve(QUERIES, len(DOCUMENTS), **given))


@pytest.mark.parametrize("kind", ["generative", "free_text", "rescored"])
@pytest.mark.parametrize("method", METHODS)
def test_allowed_is_the_whole_ranking_filtered(kind: str, method: str) -> None:
    whole = rank(kind, method)

    @settings(max_examples=12, deadline=None)
    @given(st.sets(st.sampled_from([d.doc_id for d in DOCUMENTS])))
    def agrees(allowed: set[str]) -> None:
        for some, every in zip(rank(kind, method, allowed=allowed), whole, strict=True):
            kept = [hit.doc_id for hit in every.hits if hit.doc_id in allowed]
            found = [hit.doc_id for hit in some.hits]
            assert sorted(found) == sorted(kept) if method in OWN_ORDER else found == kept

    agrees()


def test_a_name_is_no_set_of_documents() -> None:
    with pytest.raises(DataError, match="allowed must be a set of document ids, it is the text 'wiki'"):
        rank("generative", "coverage", allowed="wiki")
