"""Shards in other processes: every call equals the naive twin's over all live documents; what happens when one dies."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from segment_twin import assert_agree, patterns_of
from shard_here import Here
from toy_text import TEXTS, train_sentencepiece

from gemkr.collection.collection import Collection
from gemkr.collection.shard_processes import LocalShards
from gemkr.collection.shard_server import ShardServer
from gemkr.collection.shards import ShardedIndex
from gemkr.decoding.config import DecodingConfig
from gemkr.errors import DataError, ShardError
from gemkr.fm_index import FMIndex, IndexQueryError, Span
from gemkr.fm_index.reference import ReferenceIndex
from gemkr.retrievers.generative.config import ScoringConfig
from gemkr.retrievers.generative.retriever import GenerativeRetriever
from gemkr.testing import RandomLM
from gemkr.types import Document, Query

WORDS = ["a", "honey", "tokyo", "capital of", "giraffe", "the"]


def texts(count: int) -> list[str]:
    rng = np.random.default_rng(3)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 6))) for _ in range(count)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_sentencepiece(tmp_path_factory.mktemp("tokenizer") / "tokenizer.model")


def collections(
    folder: Path, tokenizer: Path, documents: list[Document]
) -> tuple[list[Path], list[Document]]:
    """Three collections of the documents, the second with deleted ones and the third empty; the live documents in order."""
    half = len(documents) // 2
    folders = [folder / name for name in ("one", "two", "three")]
    Collection.create(folders[0], tokenizer=tokenizer, documents=documents[:half])
    second = Collection.create(folders[1], tokenizer=tokenizer, documents=documents[half:-1])
    second.delete([documents[half + 1].doc_id, documents[half + 4].doc_id])
    second.add(documents[-1:])
    Collection.create(folders[2], tokenizer=tokenizer)
    return folders, [d for i, d in enumerate(documents) if i not in (half + 1, half + 4)]


def test_every_call_equals_the_naive_twins(tmp_path: Path, tokenizer: Path) -> None:
    documents = [Document(f"d{i}", text) for i, text in enumerate(texts(18))]
    folders, live = collections(tmp_path, tokenizer, documents)
    codes = Collection.open(folders[0]).tokenizer
    docs = [codes.encode(document.text) for document in live]
    twin = ReferenceIndex.build(docs, [d.doc_id for d in live], vocab_size=codes.vocab_size)
    index = ShardedIndex([Here(folder) for folder in folders])
    assert_agree(index, twin, patterns_of(docs, most=30))
    index._spans._states.clear()
    assert_agree(index, twin, patterns_of(docs, most=30))
    for wrong in (Span(5, 6), Span(1 << 60, (1 << 60) + 1), Span(0, index.n_rows + 1)):
        with pytest.raises(IndexQueryError):
            index.next_tokens(wrong)


def test_rankings_from_processes_equal_those_of_one_index(tmp_path: Path, tokenizer: Path) -> None:
    rng = np.random.default_rng(5)
    words = [word for text in TEXTS for word in text.split()]
    documents = [Document(f"p{i}", " ".join(rng.choice(words, 9))) for i in range(60)]
    folders, live = collections(tmp_path, tokenizer, documents)
    codes = Collection.open(folders[0]).tokenizer
    fresh = FMIndex.build([codes.encode(d.text) for d in live], [d.doc_id for d in live], tokenizer=codes)
    model = RandomLM(codes.vocab_size, codes.eos_ids, scale=4.0)
    decoding = DecodingConfig(beam_size=4, groups=2, max_tokens=3, stop_at_one_document=True)
    with LocalShards(folders) as index:
        rankings = [
            list(
                GenerativeRetriever(
                    model, each, codes, lambda q: q.question, decoding, ScoringConfig(rows_per_clue=rows)
                ).retrieve([Query("1", "honey")], 8)
            )
            for each in (index, fresh)
            for rows in (3, 50_000)
        ]
    assert [r.hits for r in rankings[0]] == [r.hits for r in rankings[2]]
    assert [r.hits for r in rankings[1]] == [r.hits for r in rankings[3]]
    assert rankings[1][0].hits


def test_ctrl_c_is_left_to_the_process_that_asks(tmp_path: Path, tokenizer: Path) -> None:
    """A terminal sends it to all of them, and a service answers what it has taken in."""
    folders, _ = collections(
        tmp_path, tokenizer, [Document(f"d{i}", text) for i, text in enumerate(texts(12))]
    )
    shards = LocalShards(folders[:1])
    with shards as index:
        os.kill(shards.shards[0].process.pid, signal.SIGINT)
        assert len(index.next_tokens(index.root)[0])
    assert shards.shards[0].process.exitcode == 0


def test_a_dead_shard_is_named_or_left_out(tmp_path: Path, tokenizer: Path) -> None:
    documents = [Document(f"d{i}", text) for i, text in enumerate(texts(12))]
    folders, _ = collections(tmp_path, tokenizer, documents)
    shards = LocalShards(folders[:2])
    with shards as index:
        shards.shards[1].process.kill()
        for _ in range(2):
            with pytest.raises(ShardError, match=r"the shard .*two died"):
                index.next_tokens(index.root)
        index._calls.partial = True
        left = ShardServer(folders[0])._index
        assert index.next_tokens(Span(0, index.n_rows))[1].sum() == left.n_tokens
        assert index.lost == [str(folders[1])]
        assert index.searched == pytest.approx(len(left) / len(index))
        np.testing.assert_equal(index.next_tokens(index.root), left.next_tokens(left.root))
        with pytest.raises(ShardError, match="is lost"):
            index.extract(len(index) - 1)


def test_shards_that_do_not_belong_together_are_refused(tmp_path: Path, tokenizer: Path) -> None:
    other = train_sentencepiece(tmp_path / "other.model", 400)
    Collection.create(tmp_path / "a", tokenizer=tokenizer)
    Collection.create(tmp_path / "b", tokenizer=other)
    with pytest.raises(ShardError, match="different tokenizers"):
        ShardedIndex([Here(tmp_path / "a"), Here(tmp_path / "b")])
    with pytest.raises(ShardError, match="give 1 to"):
        ShardedIndex([])
    with pytest.raises(DataError, match="is no collection"), LocalShards([tmp_path / "none"]):
        pass
