"""Vectors of a collection follow it: rankings are those of a fresh embedding, and no document is encoded twice."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from toy_text import train_sentencepiece

from gemkr.cli import main
from gemkr.collection import policy
from gemkr.collection.collection import Collection
from gemkr.collection.sharded import ShardedCollection
from gemkr.config.files import from_mapping
from gemkr.errors import DataError
from gemkr.evaluation.config import EvalConfig
from gemkr.scorers.dense import DenseScorer
from gemkr.serve.service import Service
from gemkr.testing import WordEncoder, toy_corpus
from gemkr.types import Document, Query, Ranking
from gemkr.vector_index import segment_folder, segment_store, segment_vectors
from gemkr.vector_index.live_vectors import LiveVectors
from gemkr.vector_index.vectors import Vectors

QUERIES = [Query("1", "Which is the capital of Japan?"), Query("2", "Who sleeps in the winter?")]
OWL = Document("owl", "An owl sleeps in the day and in the winter .")


class Counting(WordEncoder):
    """Notes what it encodes."""

    encoded: ClassVar[Counter[str]] = Counter()

    def encode_documents(self, documents: list[Document]) -> np.ndarray:
        self.encoded.update(document.text for document in documents)
        return super().encode_documents(documents)


@pytest.fixture
def collection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Collection:
    """Twelve passages in three segments."""
    monkeypatch.setattr(policy, "LARGEST_OF_ADD", 0)
    monkeypatch.setattr(Counting, "encoded", Counter())
    tokenizer = train_sentencepiece(tmp_path / "t.model")
    made = Collection.create(tmp_path / "wiki", tokenizer=tokenizer, documents=toy_corpus()[:6])
    made.add(toy_corpus()[6:10])
    made.add(toy_corpus()[10:])
    return made


def configured(
    collection: Collection | ShardedCollection, dtype: str = "float16", **given: object
) -> EvalConfig:
    folder = collection.folder.parent / "vectors"
    section = {"kind": "dense", "encoder": f"{__name__}:Counting", "vectors": str(folder), "dtype": dtype}
    retrievers = {"words": section | given}
    return from_mapping({"corpus": str(collection.folder), "retrievers": retrievers}, EvalConfig, "test")


def ranked(config: EvalConfig) -> list[Ranking]:
    """Scores to the digits that products of matrices of other shapes agree in."""
    rankings = config.sources().retriever("words").retrieve(QUERIES, 5)
    return [
        replace(ranking, hits=tuple(replace(hit, score=round(hit.score, 4)) for hit in ranking.hits))
        for ranking in rankings
    ]


def fresh(collection: Collection | ShardedCollection, dtype: str = "float16") -> list[Ranking]:
    """By vectors that are made anew of the live documents."""
    config = from_mapping(
        {
            "corpus": str(collection.folder),
            "retrievers": {
                "words": {"kind": "dense", "encoder": "gemkr.testing:WordEncoder", "dtype": dtype}
            },
        },
        EvalConfig,
        "test",
    )
    return ranked(config)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_a_dense_retriever_follows_every_change(collection: Collection, dtype: str) -> None:
    config = configured(collection, dtype)
    assert ranked(config) == fresh(collection, dtype)
    collection.delete(["d9", "d2"])
    assert ranked(config) == fresh(collection, dtype)
    assert "d9" not in {hit.doc_id for ranking in ranked(config) for hit in ranking.hits}
    collection.add([OWL])
    assert ranked(config)[1].hits[0].doc_id == "owl"
    collection.update([Document("d0", "The capital of Japan is Tokyo .")])
    assert ranked(config) == fresh(collection, dtype)
    collection.compact()
    assert ranked(config) == fresh(collection, dtype)
    assert set(Counting.encoded.values()) == {1}, "no document is encoded twice"
    assert len(Counting.encoded) == 14
    left = [path.name for path in (collection.folder.parent / "vectors").iterdir()]
    assert len(left) == 2
    assert ".lock" in left
    collection.delete(list(collection.documents.doc_ids))
    assert [ranking.hits for ranking in ranked(config)] == [(), ()]


def test_vectors_of_shards_follow_too(tmp_path: Path) -> None:
    tokenizer = train_sentencepiece(tmp_path / "t.model")
    shards = ShardedCollection.create(
        tmp_path / "wiki", 2, tokenizer=tokenizer, documents=toy_corpus(), processes=1
    )
    config = configured(shards)
    assert ranked(config) == fresh(shards)
    shards.update([OWL, Document("d0", "Tokyo .")])
    assert ranked(config) == fresh(shards)


def test_documents_that_were_deleted_before_are_not_encoded(collection: Collection) -> None:
    collection.delete(["d1"])
    assert ranked(configured(collection)) == fresh(collection)
    assert toy_corpus()[1].text not in Counting.encoded
    collection.update([toy_corpus()[1]])
    assert ranked(configured(collection)) == fresh(collection)
    assert Counting.encoded[toy_corpus()[1].text] == 1


def test_many_new_documents_are_left_to_the_command(
    collection: Collection, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(segment_vectors.segment_vectors, "__kwdefaults__", {"most": 3, "progress": False})
    with pytest.raises(
        DataError, match=r"12 documents .* no vectors .* at most 3; make them with gemkr embed"
    ):
        ranked(configured(collection))
    path = collection.folder.parent / "c.yaml"
    path.write_text(
        "corpus: wiki\nretrievers:\n  words:\n    kind: dense\n"
        f"    encoder: '{__name__}:Counting'\n    vectors: vectors\n"
    )
    assert main(["embed", str(path), "words"]) == 0
    assert "12 documents encoded" in capsys.readouterr().out
    assert ranked(configured(collection)) == fresh(collection)
    collection.add([OWL])
    collection.compact()
    assert main(["embed", str(path), "words"]) == 0
    assert "1 documents encoded" in (out := capsys.readouterr().out)
    assert "12 were there already" in out
    assert main(["embed", str(path), "words"]) == 0
    assert "0 documents encoded" in capsys.readouterr().out


def test_an_interrupted_embedding_goes_on(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_folder, "BLOCK", 2)
    calls = []

    def stopping(self: Counting, documents: list[Document]) -> np.ndarray:
        calls.append(documents)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return WordEncoder.encode_documents(self, documents)

    with monkeypatch.context() as patched:
        patched.setattr(Counting, "encode_documents", stopping)
        with pytest.raises(KeyboardInterrupt):
            ranked(configured(collection))
    assert ranked(configured(collection)) == fresh(collection)
    assert Counting.encoded.total() == 12 - 4


def test_vectors_of_another_encoder_or_corpus_are_refused(collection: Collection) -> None:
    config = configured(collection)
    ranked(config)
    other = {"encoder": {"kind": f"{__name__}:Counting", "seed": 1}}
    with pytest.raises(
        DataError, match=r"made with another encoder.*; delete .*/vectors, or set vectors to another"
    ):
        ranked(configured(collection, **other))
    collection.add([OWL])
    with pytest.raises(DataError, match=r"were made with another dtype .*; delete .*vectors, or choose"):
        ranked(configured(collection, "float32"))
    assert ranked(config) == fresh(collection)
    (collection.folder.parent / "vectors" / "manifest.json").write_text("{}")
    with pytest.raises(DataError, match="holds vectors of a corpus that does not change"):
        ranked(config)


def test_a_scorer_reads_the_live_vectors(collection: Collection) -> None:
    collection.delete(["d0", "d7"])
    folder = str(collection.folder.parent / "vectors")
    scorer = DenseScorer.from_config(
        DenseScorer.Config(encoder=configured(collection).retrievers["words"].config.encoder, vectors=folder),
        configured(collection).sources(),
    )
    docs = np.array([7, 0, 3, 7])
    texts = [collection.documents[doc] for doc in docs.tolist()]
    encoder = WordEncoder()
    expected = encoder.encode_documents(texts) @ encoder.encode_queries(QUERIES[:1])[0]
    np.testing.assert_allclose(scorer.score(QUERIES[0], docs), expected, atol=2e-3)


def test_a_service_finds_what_was_added(collection: Collection) -> None:
    service = Service(configured(collection))
    key = service.key("words", 1, None)

    def first() -> str:
        (ranking,) = service.retrieve(key, QUERIES[1:], lambda query, growing: True)
        return ranking.hits[0].doc_id

    assert first() == "d9"
    service.add([Document("owl", "Who sleeps in the winter ?")])
    assert first() == "owl"
    service.delete(["owl"])
    assert first() == "d9"
    assert set(Counting.encoded.values()) == {1}


def test_blocks_and_rows_of_parts_equal_those_of_one() -> None:
    rng = np.random.default_rng(0)
    whole = rng.standard_normal((20, 3)).astype(np.float16)
    gone = [np.array([0, 4]), np.zeros(0, np.int64), np.arange(3)]
    cuts = [slice(0, 8), slice(8, 17), slice(17, 20)]
    live = LiveVectors([(Vectors(whole[cut]), each) for cut, each in zip(cuts, gone, strict=True)], 3)
    kept = np.delete(whole, [0, 4, 17, 18, 19], axis=0).astype(np.float32)
    assert len(live) == 15
    for start in range(16):
        for stop in range(start, 20):
            np.testing.assert_array_equal(live.block(start, stop), kept[start:stop])
    numbers = rng.integers(0, 15, 40)
    np.testing.assert_array_equal(live.take(numbers), kept[numbers])
    assert segment_vectors.segment_vectors.__kwdefaults__["most"] == segment_store.MOST_ENCODED
