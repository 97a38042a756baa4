"""Mining: slices are the documents' own tokens, hold the answer, begin with words, and are as rare as said."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_text import documents, train_byte_level, train_sentencepiece

from gemkr.data.clues import MinedClue, read_clues, require_tokens, write_clues
from gemkr.data.documents import DocumentStore
from gemkr.errors import DataError, TokenizerError
from gemkr.fm_index import FMIndex
from gemkr.text.tokenizer import Tokenizer, load_tokenizer
from gemkr.training.mining.mine import Miner, MiningSettings
from gemkr.training.mining.quotes import shared_runs
from gemkr.training.mining.reasons import reason_without_clues
from gemkr.training.mining.statistics import NAMED, MiningStatistics, mine_all
from gemkr.types import Document, Query

bm25_module = pytest.importorskip("gemkr.scorers.bm25")
pytest.importorskip("bm25s")

QUERIES = [
    Query(
        "tokyo", "Which city is this?", "i1", "a large city at night", answers=("tokyo", "Paris", "nowhere")
    ),
    Query("neck", "What is special about this animal?", "i2", "a giraffe", answers=("long neck", "blue")),
    Query("gold", "Where was this invented?", "i3", answers=("hawaii",), positives=("d4",)),
    Query("opening", "What is this?", "i4", answers=("zebra",), positives=("d3", "d7")),
    Query("quoted", "Who rides?", "i5", answers=("pony",)),
    Query("nothing", "What?", "i6", answers=("zebra",)),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mine")
    train_sentencepiece(folder / "toy.model")
    train_byte_level(folder / "bytes")
    return folder


@pytest.fixture(scope="module", params=["toy.model", "bytes"])
def tokenizer(folder: Path, request: pytest.FixtureRequest) -> Tokenizer:
    return load_tokenizer(folder / request.param)


def build(tokenizer: Tokenizer, docs: list[Document]) -> FMIndex:
    encoded = tokenizer.encode_batch([d.contents for d in docs])
    return FMIndex.build(encoded, [d.doc_id for d in docs], vocab_size=tokenizer.vocab_size)


def miner_of(tokenizer: Tokenizer, docs: list[Document] | None = None, **settings: object) -> Miner:
    docs = documents() if docs is None else docs
    store = DocumentStore(docs)
    return Miner(build(tokenizer, docs), store, tokenizer, bm25_module.BM25(docs), MiningSettings(**settings))


def occurrences(tokens: tuple[int, ...], texts: list[list[int]]) -> int:
    n = len(tokens)
    return sum(tuple(text[i : i + n]) == tokens for text in texts for i in range(len(text) - n + 1))


@pytest.mark.parametrize(
    "settings",
    [{}, {"per_question": 1}, {"max_tokens": 4}, {"common": 1}, {"anchor": "opening"}, {"full": True}],
)
def test_every_clue_is_a_true_slice_with_a_true_count(tokenizer: Tokenizer, settings: dict) -> None:
    docs = documents()
    texts = tokenizer.encode_batch([d.contents for d in docs])
    miner = miner_of(tokenizer, **settings)
    clues = [clue for query in QUERIES for clue in miner.mine(query)]
    assert {clue.form for clue in clues} == {"short", "long"}
    for clue in clues:
        doc = int(clue.doc_id[1:])
        assert tuple(texts[doc][clue.start : clue.stop]) == clue.tokens
        assert 0 < len(clue.tokens) <= settings.get("max_tokens", 10)
        assert clue.text in docs[doc].contents
        assert tokenizer.decode(clue.tokens) == clue.text
        assert clue.count == occurrences(clue.tokens, texts)
        assert tokenizer.word_start[clue.tokens[0]]
        end = docs[doc].contents.find(clue.text) + len(clue.text)
        assert not docs[doc].contents[end : end + 1].isalnum()
        if clue.answer is not None and settings.get("anchor") != "opening":
            assert clue.answer.lower() in clue.text.lower()
        if clue.form == "short":
            assert clue.text.lower() == clue.answer.lower()


def test_answers_take_turns_and_forms_pair_up(tokenizer: Tokenizer) -> None:
    clues = miner_of(tokenizer).mine(QUERIES[0])
    assert [clue.answer for clue in clues[:4]] == ["tokyo", "tokyo", "Paris", "Paris"]
    assert [clue.form for clue in clues[:4]] == ["short", "long", "short", "long"]
    assert {clue.doc_id for clue in clues if clue.answer == "tokyo"} == {"d1", "d6"}
    assert clues[1].doc_id == "d6"
    assert sum(clue.form == "short" and clue.answer == "tokyo" for clue in clues) == 1


def test_long_clues_begin_with_the_answer_and_are_unique(tokenizer: Tokenizer) -> None:
    (clue,) = miner_of(tokenizer, forms=("long",)).mine(QUERIES[2])
    assert (clue.doc_id, clue.count) == ("d4", 1)
    assert clue.text.startswith("Hawaii")


def test_an_answer_at_the_end_is_held_by_a_slice_that_begins_before_it(tokenizer: Tokenizer) -> None:
    docs = [Document("a", "acacia leaves feed giraffes"), Document("b", "giraffes eat leaves feed giraffes")]
    (clue,) = miner_of(tokenizer, docs, forms=("long",), per_question=1, max_tokens=30).mine(
        Query("q", "acacia?", answers=("giraffes",), positives=("a",))
    )
    assert clue.text == "acacia leaves feed giraffes"
    assert clue.count == 1


def test_when_nothing_is_unique_the_rarest_is_taken_and_counted(tokenizer: Tokenizer) -> None:
    docs = [
        Document("a", "blue tongue of Japan"),
        Document("b", "blue tongue of Japan"),
        Document("c", "blue"),
    ]
    short, long = miner_of(tokenizer, docs, per_question=1).mine(
        Query("q", "tongue", answers=("blue",), positives=("a",))
    )
    assert (short.text, short.count) == ("blue", 3)
    assert (long.text, long.count) == ("blue tongue", 2)


@given(question=st.lists(st.integers(0, 3), max_size=8), passage=st.lists(st.integers(0, 3), max_size=12))
def test_shared_runs_are_all_the_longest_common_runs(question: list[int], passage: list[int]) -> None:
    def quoted(start: int, stop: int) -> list[int]:
        """Where in the question the range stands."""
        n = stop - start
        return [i for i in range(len(question) - n + 1) if question[i : i + n] == passage[start:stop]]

    def longest(start: int, stop: int) -> bool:
        """Some place in the question that goes on neither to the left nor to the right."""
        return any(
            not (i and start and question[i - 1] == passage[start - 1])
            and not (
                i + stop - start < len(question)
                and stop < len(passage)
                and question[i + stop - start] == passage[stop]
            )
            for i in quoted(start, stop)
        )

    ranges = [(i, j) for i in range(len(passage)) for j in range(i + 1, len(passage) + 1)]
    expected = [pair for pair in ranges if longest(*pair)]
    assert shared_runs(np.array(question, dtype=np.int64), np.array(passage, dtype=np.int64)) == expected


QUOTING = [
    Document("a", "The acacia trees of Kenya feed giraffes."),
    Document("b", "Trees of Japan are cut by gardeners."),
    Document("c", "Giraffes eat leaves."),
]


def test_questions_quote_their_gold_passages(tokenizer: Tokenizer) -> None:
    settings = {"anchor": "question", "per_question": 3}
    asked = Query("q", "What do trees of Kenya feed? Giraffes or", answers=("leaves",), positives=("a",))
    clues = miner_of(tokenizer, QUOTING, **settings).mine(asked)
    short = [clue for clue in clues if clue.form == "short"]
    long = [clue for clue in clues if clue.form == "long"]
    assert [clue.text.removesuffix(" feed") for clue in short] == ["trees of Kenya"]
    assert [(clue.doc_id, clue.count, clue.answer) for clue in short] == [("a", 1, None)]
    assert all(clue.count == 1 and clue.text.startswith("trees of") for clue in long)
    assert not miner_of(tokenizer, QUOTING, common=0, **settings).mine(asked)
    assert not miner_of(tokenizer, QUOTING, **settings).mine(Query("q", "trees?", answers=("leaves",)))
    apart = Query("q", "Kenya trees feed the acacia?", positives=("a",))
    quotes = miner_of(tokenizer, QUOTING, forms=("short",), anchor="question", per_question=2).mine(apart)
    assert len(quotes) == 2
    assert {clue.text for clue in quotes} <= {"Kenya", "trees", "feed", "acacia", "The acacia"}
    assert [clue.count for clue in quotes] == sorted(clue.count for clue in quotes)


def test_full_clues_go_on_where_others_end(tokenizer: Tokenizer) -> None:
    settings = {"forms": ("long",), "anchor": "opening"}
    short, full = miner_of(tokenizer, **settings), miner_of(tokenizer, **settings, full=True)
    for query in QUERIES:
        for a, b in zip(short.mine(query), full.mine(query), strict=True):
            assert (a.doc_id, a.start) == (b.doc_id, b.start)
            assert b.tokens[: len(a.tokens)] == a.tokens
            assert b.count <= a.count
    assert any(len(clue.tokens) > 5 for query in QUERIES for clue in full.mine(query))


def test_gold_passages_without_the_answer_give_their_openings(tokenizer: Tokenizer) -> None:
    clues = miner_of(tokenizer).mine(QUERIES[3])
    assert [(clue.doc_id, clue.form, clue.start, clue.answer) for clue in clues] == [
        ("d3", "long", 0, None),
        ("d7", "long", 0, None),
    ]
    assert miner_of(tokenizer).mine(replace(QUERIES[3], positives=("d3", "d3", "d7", "d3"))) == clues
    assert clues[0].text.startswith("A pony")
    assert all(clue.count == 1 for clue in clues)


def test_no_clue_without_answer_and_gold_passage(tokenizer: Tokenizer) -> None:
    assert miner_of(tokenizer).mine(QUERIES[5]) == []
    assert miner_of(tokenizer).mine(Query("x", "What?")) == []


def test_it_is_said_why_there_is_no_clue(tokenizer: Tokenizer) -> None:
    """Each reason from a query that has just this fault."""

    def reason(query: Query, docs: list[Document] | None = None, **settings: object) -> str:
        miner = miner_of(tokenizer, docs, **settings)
        assert not miner.mine(query)
        return reason_without_clues(miner, query)

    assert reason(Query("x", "What?")) == "neither an answer nor a gold passage"
    assert reason(QUERIES[5]) == "none of its answers occurs in the corpus as whole words"
    assert (
        reason(Query("x", "bee", answers=("bee",)))
        == "none of its answers occurs in the corpus as whole words"
    )
    docs = [
        Document("a", "Giraffes eat leaves."),
        Document("b", "A pony of Kenya feeds in Japan, not in Paris."),
    ]
    apart = Query("x", "What do giraffes eat? leaves", answers=("Paris",))
    assert reason(apart, docs, common=0, candidates=1).startswith(
        "its answers are frequent, and the passages that"
    )
    short = {"forms": ("short",)}
    assert reason(QUERIES[3], **short) == "its gold passages hold none of its answers"
    long_answer = Query("x", "a neck", answers=("long neck",))
    assert reason(long_answer, max_tokens=1) == "its answers take more than 1 tokens"
    asked = Query("q", "What do trees of Kenya feed?", positives=("a",))
    quoting = {"anchor": "question"}
    assert reason(replace(asked, positives=()), QUOTING, **quoting) == "no gold passage to quote"
    assert reason(asked, QUOTING, common=0, **quoting) == (
        "what the question quotes of its gold passages occurs more than 0 times"
    )
    assert reason(replace(asked, question="Why?"), QUOTING, **quoting).startswith(
        "the question quotes no whole word"
    )


def test_only_whole_words_count_as_the_answer(tokenizer: Tokenizer) -> None:
    assert miner_of(tokenizer).mine(Query("x", "bee", answers=("bee",))) == []
    assert miner_of(tokenizer).mine(Query("x", "bee", answers=("BEES",))) != []


def test_the_same_call_gives_the_same_clues(tokenizer: Tokenizer) -> None:
    first, second = miner_of(tokenizer), miner_of(tokenizer)
    assert [first.mine(q) for q in QUERIES] == [second.mine(q) for q in reversed(QUERIES)][::-1]


def test_material_that_does_not_belong_together(tokenizer: Tokenizer, folder: Path) -> None:
    docs = documents()
    with pytest.raises(DataError, match="'d9' is not among the 8 documents"):
        miner_of(tokenizer).mine(Query("x", "?", answers=("a",), positives=("d9",)))
    bm25 = bm25_module.BM25(docs)
    with pytest.raises(DataError, match="the index holds 7 documents, the corpus 8"):
        Miner(build(tokenizer, docs[:7]), DocumentStore(docs), tokenizer, bm25)
    other = load_tokenizer(train_sentencepiece(folder / "other.model", vocab_size=380))
    with pytest.raises(TokenizerError, match="other tokens in the index"):
        Miner(build(tokenizer, docs), DocumentStore(docs), other, bm25).mine(QUERIES[2])
    for wrong in (
        {"forms": ("tall",)},
        {"forms": ()},
        {"anchor": "end"},
        {"per_question": 0},
        {"max_tokens": 0},
    ):
        with pytest.raises(DataError):
            MiningSettings(**wrong)


def test_statistics_and_the_clue_file(tokenizer: Tokenizer, tmp_path: Path) -> None:
    statistics = MiningStatistics()
    path = tmp_path / "clues.jsonl"
    written = write_clues(path, mine_all(miner_of(tokenizer), QUERIES, statistics))
    assert [p.name for p in tmp_path.iterdir()] == ["clues.jsonl"]
    clues = list(read_clues(path))
    assert len(clues) == written == sum(len(rows) for rows in statistics.rows.values())
    assert clues == [clue for query in QUERIES for clue in miner_of(tokenizer).mine(query)]
    missed = {query.query_id for query in QUERIES} - {clue.query_id for clue in clues}
    assert (statistics.queries, statistics.without) == (6, sorted(missed))
    assert len(missed) == 1
    text = "\n".join(statistics.lines())
    assert text.endswith(
        f"without a clue             1  {missed.pop()}\n                           1  none of its answers occurs in the corpus as whole words"
    )
    assert "short clues" in text
    assert "unique" in text
    assert list(MiningStatistics().lines())


def test_statistics_name_some_of_the_queries_without_a_clue() -> None:
    statistics = MiningStatistics()
    for number in range(NAMED + 2):
        statistics.add(Query(f"q{number}", "?"), [], "no reason" if number else "another")
    named = ", ".join(f"q{number}" for number in range(NAMED))
    names, *reasons = list(statistics.lines())[-3:]
    assert names.endswith(f"  {named} and 2 more")
    assert [line.split(maxsplit=1) for line in reasons] == [[str(NAMED + 1), "no reason"], ["1", "another"]]


def test_clue_files_that_cannot_be_used(tmp_path: Path) -> None:
    clue = MinedClue("q", "d", 2, 4, (5, 6), "text", "long", 1, None)
    path = tmp_path / "clues.jsonl"
    for bad, reason in [
        (replace(clue, form="tall"), "has the form 'tall'"),
        (replace(clue, stop=5), "has 2 tokens"),
    ]:
        write_clues(path, [clue, bad])
        with pytest.raises(DataError, match=rf"clues\.jsonl:2: .*{reason}"):
            list(read_clues(path))
    for key, value in [
        ("query_id", 7),
        ("doc_id", None),
        ("text", None),
        ("form", ["long"]),
        ("start", None),
        ("stop", "4"),
        ("count", 1.5),
        ("tokens", None),
        ("tokens", ["a", "b"]),
        ("tokens", [True, 6]),
        ("answer", 3),
    ]:
        path.write_text(json.dumps(asdict(clue) | {key: value}) + "\n")
        with pytest.raises(DataError, match=rf"clues\.jsonl:1: the clue has the {key} ") as caught:
            list(read_clues(path))
        assert repr(value) in str(caught.value)
    path.write_text('{"query_id": "q"}\n')
    with pytest.raises(DataError, match=r"clues\.jsonl:1: the clue lacks the key 'answer'"):
        list(read_clues(path))
    path.write_text("")
    with pytest.raises(DataError, match="holds no clue"):
        list(read_clues(path))
    with pytest.raises(DataError, match="cannot be written"):
        write_clues(tmp_path / "none" / "clues.jsonl", [clue])


@pytest.mark.parametrize("strange", [-3, 10**6])
def test_the_token_that_no_tokenizer_has_is_named(tokenizer: Tokenizer, strange: int) -> None:
    clue = MinedClue("q", "d", 0, 2, (strange, 7), "text", "long", 1, None)
    with pytest.raises(DataError, match=rf"clues\.jsonl: a clue of the query 'q' holds the token {strange},"):
        require_tokens([clue], tokenizer, "clues.jsonl")


def test_an_interrupted_mining_leaves_the_old_file(tmp_path: Path) -> None:
    clue = MinedClue("q", "d", 2, 4, (5, 6), "text", "long", 1, None)
    path = tmp_path / "clues.jsonl"
    write_clues(path, [clue])

    def broken():
        yield replace(clue, query_id="new")
        raise RuntimeError("the power went out")

    with pytest.raises(RuntimeError):
        write_clues(path, broken())
    assert [c.query_id for c in read_clues(path)] == ["q"]


def test_two_processes_that_write_one_file_leave_whole_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clue = MinedClue("q", "d", 2, 4, (5, 6), "text", "long", 1, None)
    path = tmp_path / "clues.jsonl"

    def first():
        yield clue
        with monkeypatch.context() as other:
            other.setattr(os, "getpid", lambda: -1)
            assert write_clues(path, [replace(clue, query_id="other")] * 5) == 5
        assert [c.query_id for c in read_clues(path)] == ["other"] * 5
        yield clue

    assert write_clues(path, first()) == 2
    assert list(read_clues(path)) == [clue, clue]
    assert [p.name for p in tmp_path.iterdir()] == ["clues.jsonl"]
