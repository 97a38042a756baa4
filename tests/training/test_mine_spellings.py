"""Mining under a vocabulary of the project's own, which folds case and splits digits."""

from __future__ import annotations

import numpy as np
import pytest

from gemkr.data.documents import DocumentStore
from gemkr.fm_index import FMIndex
from gemkr.text.tokenizer import Tokenizer, load_tokenizer
from gemkr.text.vocabulary import train_vocabulary
from gemkr.training.mining.mine import Miner, MiningSettings
from gemkr.types import Document, Query

bm25_module = pytest.importorskip("gemkr.scorers.bm25")
pytest.importorskip("bm25s")


def miner_of(tokenizer: Tokenizer, docs: list[Document], **settings: object) -> Miner:
    encoded = tokenizer.encode_batch([d.contents for d in docs])
    index = FMIndex.build(encoded, [d.doc_id for d in docs], vocab_size=tokenizer.vocab_size)
    return Miner(index, DocumentStore(docs), tokenizer, bm25_module.BM25(docs), MiningSettings(**settings))


@pytest.fixture(scope="module")
def folding(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """A vocabulary of the project's own, which folds case and writes `▁`, `1`, `9` for " 19"."""
    path = tmp_path_factory.mktemp("folding") / "v.model"
    texts = [f"In {year} a tower of {year % 97} metres was Built." for year in range(1800, 2000)]
    train_vocabulary(texts, path, pieces=310, fold_case=True)
    return load_tokenizer(path)


def test_numbers_are_clues_with_the_token_of_the_space_before_them(folding: Tokenizer) -> None:
    docs = [Document("d0", "A tower was built in 1889 of 7 metres."), Document("d1", "1889 was a year.")]
    assert [folding.piece(t) for t in folding.encode("in 18")] == ["▁in", "▁", "1", "8"]
    query = Query("q", "When?", answers=("1889", "7 metres"))
    clues = miner_of(folding, docs, forms=("short",)).mine(query)
    assert {clue.text for clue in clues} == {"1889", "7 metres"}
    for clue in clues:
        assert list(clue.tokens) == folding.encode(clue.text)
        assert clue.count == (2 if clue.text == "1889" else 1)


def test_spellings_that_a_vocabulary_reads_alike_are_counted_once(folding: Tokenizer) -> None:
    docs = [Document(f"d{i}", f"{'Built' if i % 2 else 'BUILT'} in {i}.") for i in range(10)]
    query = Query("q", "What?", answers=("built",))
    settings = {"forms": ("short",), "per_question": 20, "patience": 20, "candidates": 3}
    everywhere = miner_of(folding, docs, common=10, **settings).rank(query, "built", np.array([], np.int64))
    assert len(everywhere) == 10
    beyond = miner_of(folding, docs, common=9, **settings).rank(query, "built", np.array([], np.int64))
    assert len(beyond) == 3
