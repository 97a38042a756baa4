"""Clues mined from a collection or from shards equal those mined from a fresh index of the live documents, counts included."""

from __future__ import annotations

from pathlib import Path

import pytest
from many_segments import collection_of, corpus, fresh_index, gone, live
from toy_text import train_sentencepiece

from gemkr.collection.collection import Collection
from gemkr.collection.sharded import ShardedCollection
from gemkr.data.clues import MinedClue
from gemkr.data.documents import DocumentStore
from gemkr.errors import DataError
from gemkr.fm_index import SegmentedIndex
from gemkr.text.tokenizer import Tokenizer, load_tokenizer
from gemkr.training.mining.many import CHUNK, mine_in_order
from gemkr.training.mining.material import mining_material
from gemkr.training.mining.mine import Miner, MiningSettings
from gemkr.types import Document, Query

bm25_module = pytest.importorskip("gemkr.scorers.bm25")
pytest.importorskip("bm25s")

SETTINGS = (
    {},
    {"common": 3, "candidates": 20},
    {"anchor": "opening", "max_tokens": 4},
    {"anchor": "question"},
    {"full": True, "per_question": 2},
)
"""Rare answers by their spans, frequent ones by BM25, openings, quotes, and clues of full length."""


def queries(documents: list[Document]) -> list[Query]:
    """Answers of a word or two, a third with gold passages that are quoted, one that nothing answers."""
    found = [Query("nothing", "What is it?", answers=("xylophone",))]
    for number, document in enumerate(documents[:: len(documents) // 40]):
        words = document.text.split()
        answers = (words[0], " ".join(words[-2:]))
        gold = (document.doc_id,) if number % 3 == 0 else ()
        found.append(Query(f"q{number}", " ".join(words[1:4]), answers=answers, positives=gold))
    return found


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_sentencepiece(tmp_path_factory.mktemp("tokenizer") / "tokenizer.model")


@pytest.fixture(scope="module")
def tokenizer(path: Path) -> Tokenizer:
    return load_tokenizer(path)


def mined(miner: Miner, asked: list[Query], processes: int = 1) -> list[tuple[list[MinedClue], str]]:
    return list(mine_in_order(miner, asked, processes))


def miner_of(folder: Path, **settings: object) -> Miner:
    index, documents, tokenizer = mining_material(folder)
    return Miner(index, documents, tokenizer, bm25_module.BM25(documents), MiningSettings(**settings))


def fresh_miner(documents: list[Document], tokenizer: Tokenizer, **settings: object) -> Miner:
    index, bm25 = fresh_index(documents, tokenizer), bm25_module.BM25(documents)
    return Miner(index, DocumentStore(documents), tokenizer, bm25, MiningSettings(**settings))


def occurrences(tokens: tuple[int, ...], texts: list[list[int]]) -> int:
    n = len(tokens)
    return sum(tuple(text[i : i + n]) == tokens for text in texts for i in range(len(text) - n + 1))


@pytest.mark.parametrize("segments", [1, 3, 12])
def test_clues_equal_those_of_a_fresh_index(
    tmp_path: Path, path: Path, tokenizer: Tokenizer, segments: int
) -> None:
    made = collection_of(tmp_path / "c", path, segments)
    assert isinstance(made.index, SegmentedIndex)
    assert made.info()["segments"] == segments
    asked = queries(live())
    assert len(asked) > 2 * CHUNK
    for number, settings in enumerate(SETTINGS):
        ours = mined(miner_of(made.folder, **settings), asked, processes=1 + number % 2)
        assert ours == mined(fresh_miner(live(), tokenizer, **settings), asked)
        clues = [clue for found, _ in ours for clue in found]
        assert len(clues) > 20
        assert any(clue.count > 1 for clue in clues)
        assert not {clue.doc_id for clue in clues} & {doc_id for ids in gone() for doc_id in ids}
        assert [reason for found, reason in ours if not found]
    texts = [list(tokenizer.encode(document.contents)) for document in live()]
    assert all(clue.count == occurrences(clue.tokens, texts) for clue in clues)


def test_shards_are_mined_as_one_index(tmp_path: Path, path: Path, tokenizer: Tokenizer) -> None:
    made = ShardedCollection.create(tmp_path / "c", 3, tokenizer=path, documents=corpus()[:150], processes=1)
    made.add(corpus()[150:])
    for ids in gone():
        made.delete(ids)
    left = list(made.documents)
    assert {d.doc_id for d in left} == {d.doc_id for d in live()}
    asked = queries(left)
    for settings in SETTINGS[:2]:
        ours = mined(miner_of(made.folder, **settings), asked, processes=2)
        assert ours == mined(fresh_miner(left, tokenizer, **settings), asked)


def test_processes_mine_the_generation_that_was_opened(
    tmp_path: Path, path: Path, tokenizer: Tokenizer
) -> None:
    made = collection_of(tmp_path / "c", path, 3)
    before, asked = live(), queries(live())
    miner = miner_of(made.folder)
    changed = Collection.open(made.folder)
    changed.delete([document.doc_id for document in before[::3]])
    changed.add([Document("new", "a xylophone of Kenya")])
    changed.compact()
    assert mined(miner, asked, processes=2) == mined(fresh_miner(before, tokenizer), asked)
    after = list(changed.documents)
    asked = [query for query in asked if set(query.positives) <= {d.doc_id for d in after}]
    ours = mined(miner_of(made.folder), asked, processes=2)
    assert ours == mined(fresh_miner(after, tokenizer), asked)
    assert [clue.text for clue in ours[0][0]][:1] == ["xylophone"], "the new document answers it"


def test_an_empty_collection_answers_nothing_and_a_deleted_gold_passage_is_named(
    tmp_path: Path, path: Path
) -> None:
    made = Collection.create(tmp_path / "c", tokenizer=path)
    asked = Query("q", "honey", answers=("honey",))
    ((clues, reason),) = mined(miner_of(made.folder), [asked])
    assert (clues, reason) == ([], "none of its answers occurs in the corpus as whole words")
    made.add(corpus()[:30])
    made.delete(["p3"])
    with pytest.raises(DataError, match="'p3' is not among the 29 documents"):
        miner_of(made.folder).mine(Query("q", "honey", answers=("honey",), positives=("p3",)))
