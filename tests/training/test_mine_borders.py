# ruff: noqa: RUF001
"""Mined clues over several scripts and odd white space: whole characters and words of what the index read."""

from __future__ import annotations

import pytest
from toy_text import train_byte_level, train_sentencepiece

from gemkr.data.documents import DocumentStore
from gemkr.fm_index import FMIndex
from gemkr.scorers.bm25 import BM25
from gemkr.text.borders import borders_of, is_border
from gemkr.text.normalize import normalize
from gemkr.text.tokenizer import Tokenizer, load_tokenizer
from gemkr.training.mining.mine import Miner, MiningSettings
from gemkr.types import Document, Query


@pytest.fixture(scope="module", params=["toy.model", "bytes"])
def tokenizer(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Tokenizer:
    path = tmp_path_factory.mktemp("mine") / request.param
    return load_tokenizer(train_sentencepiece(path) if path.suffix else train_byte_level(path))


MIXED = [
    Document("fr", "Le  cafe\u0301\nde  la gare\r\nest ouvert"),
    Document("hi", "\u0926\u093f\u0932\u094d\u0932\u0940\tभारत की राजधानी\u2028है 😀"),
    Document("th", "กรุงเทพ เป็นเมืองหลวงของน้ำใส"),
    Document("zh", "北京是中国的首都，天安门在北京。"),
]


@pytest.mark.parametrize(
    "settings",
    [{"max_tokens": 60}, {"full": True, "max_tokens": 30}, {"anchor": "opening", "max_tokens": 25}],
)
def test_mined_clues_are_whole_characters_and_words_of_what_the_index_read(
    tokenizer: Tokenizer, settings: dict
) -> None:
    index = FMIndex.build(tokenizer.encode_batch([d.text for d in MIXED]), [d.doc_id for d in MIXED])
    miner = Miner(index, DocumentStore(MIXED), tokenizer, BM25(MIXED), MiningSettings(**settings))
    borders = borders_of(tokenizer, tokenizer.vocab_size, words=True)
    answers = ("CAFE\u0301  de la", "café", "दिल्ली", "राजधानी", "กรุงเทพ", "北京是中国的首都")
    found = miner.mine(Query("q", "?", answers=answers, positives=tuple(d.doc_id for d in MIXED)))
    assert {clue.doc_id for clue in found} >= {"fr", "hi"}
    for clue in found:
        text = normalize(next(d.text for d in MIXED if d.doc_id == clue.doc_id))
        assert clue.text == tokenizer.decode(clue.tokens)
        assert clue.text in text
        assert any(
            is_border(text, at + len(clue.text)) and (at == 0 or text[at - 1] == " ")
            for at in range(len(text))
            if text.startswith(clue.text, at)
        )
        following, _ = index.next_tokens(index.search(clue.tokens))
        ends = index.count_ends(index.search(clue.tokens)) > 0
        if (
            clue.doc_id != "th"
        ):  # before the first byte of a Thai letter, which may be that of a mark, decoding goes on
            assert ends or borders.after(clue.tokens[-1])[following].any()
