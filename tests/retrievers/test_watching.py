"""Clues looked at while they grow, and searches stopped, in every retriever that writes clues or is built over one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gemkr.decoding.config import DecodingConfig
from gemkr.decoding.watch import watched
from gemkr.fm_index import FMIndex
from gemkr.interfaces import GrowingClue, Retriever
from gemkr.retrievers.free_text import FreeTextRetriever
from gemkr.retrievers.fusion import FusionRetriever
from gemkr.retrievers.generative.retriever import GenerativeRetriever
from gemkr.retrievers.lexical import BM25Retriever
from gemkr.retrievers.reranked import RerankedRetriever
from gemkr.scorers.bm25 import BM25
from gemkr.testing import RandomLM, ReversingReranker, ToyTokenizer, toy_corpus
from gemkr.types import Query

DOCUMENTS = toy_corpus()
TOKENIZER = ToyTokenizer(d.text for d in DOCUMENTS)
INDEX = FMIndex.build(
    [TOKENIZER.encode(d.text) for d in DOCUMENTS],
    [d.doc_id for d in DOCUMENTS],
    vocab_size=TOKENIZER.vocab_size,
)
LEXICAL = BM25Retriever(BM25(DOCUMENTS), [d.doc_id for d in DOCUMENTS])
QUERIES = [Query(str(number), f"question number {number}") for number in range(5)]


def build(kind: str) -> Retriever:
    if kind in ("fusion", "reranked"):
        base = build("generative")
        return (
            FusionRetriever([base, LEXICAL], depth=10)
            if kind == "fusion"
            else RerankedRetriever(base, ReversingReranker(), depth=10)
        )
    cls = GenerativeRetriever if kind == "generative" else FreeTextRetriever
    decoding = DecodingConfig(beam_size=4, groups=2, max_tokens=5, batch_size=2)
    return cls(RandomLM(TOKENIZER.vocab_size, (2,)), INDEX, TOKENIZER, lambda q: q.question, decoding)


@pytest.mark.parametrize("kind", ["generative", "free_text", "fusion", "reranked"])
def test_looking_on_changes_nothing_and_shows_what_grows(kind: str) -> None:
    seen: dict[str, list[list[GrowingClue]]] = {}

    def look(query: Query, growing: Callable[[], list[GrowingClue]]) -> bool:
        seen.setdefault(query.query_id, []).append(growing())
        return True

    retriever = build(kind)
    plain = list(retriever.retrieve(QUERIES, 5))
    assert list(watched(retriever, look).retrieve(QUERIES, 5)) == plain
    assert seen.keys() == {query.query_id for query in QUERIES}
    for steps in seen.values():
        longest = [max(len(clue.tokens) for clue in step) for step in steps]
        assert longest[0] == 1
        assert 3 <= max(longest) <= len(steps)
        assert all(length <= step for step, length in enumerate(longest, 1))
        for step in steps:
            assert all(clue.text == TOKENIZER.decode(clue.tokens) for clue in step)
            assert [clue.log_prob for clue in step] == sorted((clue.log_prob for clue in step), reverse=True)
            assert len({clue.tokens for clue in step}) == len(step) <= 4


@pytest.mark.parametrize("kind", ["generative", "free_text", "reranked"])
def test_a_stopped_query_finds_nothing_and_the_others_what_they_found(kind: str) -> None:
    retriever = build(kind)
    plain = list(retriever.retrieve(QUERIES, 5))
    steps: list[str] = []

    def stop_one(query: Query, _: object) -> bool:
        steps.append(query.query_id)
        return query.query_id != "2" or steps.count("2") < 2

    stopped = list(watched(retriever, stop_one).retrieve(QUERIES, 5))
    assert stopped[2].clues == stopped[2].hits == ()
    assert steps.count("2") == 2
    assert [r for r in stopped if r.query_id != "2"] == [r for r in plain if r.query_id != "2"]


def test_a_retriever_without_clues_is_itself() -> None:
    assert watched(LEXICAL, lambda query, growing: True) is LEXICAL
