"""The retrievers end to end on the toy corpus: clues, hits, evidence, streaming, and the control without an index."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gemkr.decoding.config import DecodingConfig
from gemkr.fm_index import FMIndex
from gemkr.retrievers.free_text import FreeTextRetriever
from gemkr.retrievers.generative.config import ScoringConfig
from gemkr.retrievers.generative.retriever import GenerativeRetriever
from gemkr.scorers.random_order import RandomOrder
from gemkr.testing import RandomLM, ScriptedLM, ToyTokenizer, toy_corpus
from gemkr.text.words import word_breaks, words_of
from gemkr.types import Query

DOCUMENTS = toy_corpus()
TOKENIZER = ToyTokenizer(d.text for d in DOCUMENTS)
PLAIN = DecodingConfig(groups=1, diversity=0.0, length_penalty=0.0, batch_size=2)


@pytest.fixture(scope="module")
def index() -> FMIndex:
    docs = [TOKENIZER.encode(d.text) for d in DOCUMENTS]
    return FMIndex.build(docs, [d.doc_id for d in DOCUMENTS], vocab_size=TOKENIZER.vocab_size)


def script(**texts: dict[str, float]) -> ScriptedLM:
    scripts = {
        prompt: {tuple(TOKENIZER.encode(text)): weight for text, weight in wanted.items()}
        for prompt, wanted in texts.items()
    }
    return ScriptedLM(TOKENIZER.vocab_size, 2, scripts)


def test_it_finds_what_the_model_writes(index) -> None:
    model = script(a={"capital of Kenya": 0.7, "capital of Peru": 0.3}, b={"tea": 1.0})
    retriever = GenerativeRetriever(
        model, index, TOKENIZER, lambda q: q.question, PLAIN, second=RandomOrder()
    )
    queries = [Query("1", "a"), Query("2", "b"), Query("3", "a")]
    first, second, third = retriever.retrieve(queries, 3)
    assert [r.query_id for r in (first, second, third)] == ["1", "2", "3"]
    assert [h.doc_id for h in first.hits][:2] == ["d4", "d6"]
    assert {h.doc_id for h in second.hits[:2]} == {"d3", "d5"}
    assert third.clues == first.clues
    assert len(first.hits) == 3
    evidence = first.hits[0].evidence[0]
    assert evidence.text == "capital of Kenya"
    words = DOCUMENTS[4].text.split(" ")
    assert words[evidence.start : evidence.stop] == ["capital", "of", "Kenya"]


def test_rankings_stream_batch_by_batch(index) -> None:
    seen = []

    def prompts(query: Query) -> str:
        seen.append(query.query_id)
        return query.question

    retriever = GenerativeRetriever(RandomLM(TOKENIZER.vocab_size, (2,)), index, TOKENIZER, prompts, PLAIN)
    rankings = retriever.retrieve((Query(str(i), "x") for i in range(6)), 5)
    assert next(rankings).query_id == "0"
    assert seen == ["0", "1"]
    assert [r.query_id for r in rankings] == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize(
    "decoding",
    [
        DecodingConfig(),
        DecodingConfig(
            groups=1,
            length_penalty=0.0,
            word_start=True,
            group_by_head=True,
            stop_at_one_document=True,
            document_penalty=5.0,
        ),
    ],
    ids=["reference", "aware"],
)
@pytest.mark.parametrize("method", ["reference", "coverage", "seal"])
def test_evidence_stands_where_it_says(index, decoding, method) -> None:
    model = RandomLM(TOKENIZER.vocab_size + 5, (2,), scale=1.5)
    retriever = GenerativeRetriever(
        model, index, TOKENIZER, lambda q: q.question, decoding, ScoringConfig(method=method)
    )
    for ranking in retriever.retrieve([Query(str(i), f"{i}") for i in range(8)], 10):
        assert ranking.hits
        assert len({h.doc_id for h in ranking.hits}) == len(ranking.hits)
        for hit in ranking.hits:
            words = DOCUMENTS[int(hit.doc_id[1:])].text.split(" ")
            assert hit.evidence
            for e in hit.evidence:
                assert " ".join(words[e.start : e.stop]) == e.text


def test_ten_beams_mean_ten_documents(index) -> None:
    model = RandomLM(TOKENIZER.vocab_size, (2,), scale=1.0)
    decoding = DecodingConfig(
        groups=1, length_penalty=0.0, stop_at_one_document=True, document_penalty=20.0, max_tokens=8
    )
    retriever = GenerativeRetriever(
        model, index, TOKENIZER, lambda q: q.question, decoding, ScoringConfig(method="reference")
    )
    distinct = [len(r.hits) for r in retriever.retrieve([Query(str(i), f"{i}") for i in range(20)], 10)]
    assert sum(distinct) / len(distinct) >= 8.0


def test_free_text_keeps_the_longest_known_beginning(index) -> None:
    model = script(a={"capital of Kenya hunts": 0.8, "hunts Lima": 0.2}, b={"<unk> tea": 1.0})
    retriever = FreeTextRetriever(model, index, TOKENIZER, lambda q: q.question, PLAIN)
    known, unknown = retriever.retrieve([Query("1", "a"), Query("2", "b")], 2)
    assert known.hits[0].doc_id == "d4"
    assert known.clues[0].text == "capital of Kenya"
    assert known.clues[0].span == index.search(TOKENIZER.encode("capital of Kenya"))
    assert unknown.clues == ()
    assert unknown.hits == ()


def test_word_breaks_are_word_starts_and_punctuation() -> None:
    breaks = word_breaks(TOKENIZER)
    assert breaks[TOKENIZER.encode(".")[0]]
    assert breaks[TOKENIZER.encode("Paris")[0]]

    class Pieces:
        vocab_size = 8
        word_start = (False, True, *[False] * 6)
        special_ids = frozenset({0})
        pieces = (b"", b" Fr", b"ance", b",", b"\xe2", b"'s", "\u093e".encode(), "é".encode())

        def piece_bytes(self, token: int) -> bytes:
            return self.pieces[token]

    assert word_breaks(Pieces()).tolist() == [True, True, False, True, False, True, False, False]


def test_heads_that_differ_in_case_are_one() -> None:
    texts = ["Lake Como is deep .", "the lake is cold .", "a lake freezes .", "water is wet ."]
    tokenizer = ToyTokenizer(texts)
    words = words_of(tokenizer, tokenizer.vocab_size + 3)
    upper, lower = tokenizer.encode("Lake lake")
    assert words.fold[lower] == words.fold[upper]
    assert words.fold[-1] == tokenizer.vocab_size + 2
    index = FMIndex.build([tokenizer.encode(t) for t in texts], vocab_size=tokenizer.vocab_size)
    scripts = {"q": {(lower,): 0.5, (upper,): 0.4, tuple(tokenizer.encode("water is")): 0.1}}
    model = ScriptedLM(tokenizer.vocab_size, 2, scripts)
    heads = DecodingConfig(beam_size=2, groups=1, length_penalty=0.0, group_by_head=True)
    for decoding, expected in (
        (heads, ["lake", "water is"]),
        (replace(heads, group_by_head=False), ["lake", "Lake"]),
    ):
        retriever = GenerativeRetriever(model, index, tokenizer, lambda q: q.question, decoding)
        (ranking,) = retriever.retrieve([Query("1", "q")], 1)
        assert [clue.text for clue in ranking.clues] == expected
