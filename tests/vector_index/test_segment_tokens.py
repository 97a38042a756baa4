"""Token vectors of a collection follow it: rankings are those of a fresh embedding, and no document is encoded twice."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from toy_text import train_sentencepiece

from gemkr.cli import main
from gemkr.collection import policy
from gemkr.collection.collection import Collection
from gemkr.config.files import from_mapping
from gemkr.errors import DataError
from gemkr.evaluation.config import EvalConfig
from gemkr.interfaces import TokenVectors
from gemkr.testing import WordTokenEncoder, toy_corpus
from gemkr.types import Document, Query, Ranking
from gemkr.vector_index import segment_folder, segment_tokens
from gemkr.vector_index.live_tokens import LiveTokens
from gemkr.vector_index.maxsim import joined_tokens, picked, scores_of

QUERIES = [Query("1", "Which is the capital of Japan?"), Query("2", "Who sleeps in the winter?")]
OWL = Document("owl", "An owl sleeps in the day and in the winter .")


class Counting(WordTokenEncoder):
    """Notes what it encodes."""

    encoded: ClassVar[Counter[str]] = Counter()

    def encode_documents(self, documents: list[Document]) -> TokenVectors:
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


def configured(collection: Collection, **given: object) -> EvalConfig:
    """With `tokens: None` they are made anew of the live documents each time."""
    section = {"kind": "late_interaction", "encoder": f"{__name__}:Counting", "tokens": _folder(collection)}
    retrievers = {"words": section | given}
    return from_mapping({"corpus": str(collection.folder), "retrievers": retrievers}, EvalConfig, "test")


def _folder(collection: Collection) -> str:
    return str(collection.folder.parent / "tokens")


def ranked(config: EvalConfig, **asked: object) -> list[Ranking]:
    return list(config.sources().retriever("words").retrieve(QUERIES, 5, **asked))


def fresh(collection: Collection, **asked: object) -> list[Ranking]:
    return ranked(configured(collection, encoder="gemkr.testing:WordTokenEncoder", tokens=None), **asked)


@pytest.mark.parametrize("seed", range(3))
def test_late_interaction_follows_every_change(collection: Collection, seed: int) -> None:
    draw, config, gone, new = random.Random(seed), configured(collection), set(), 0
    for _ in range(12):
        ids = list(collection.documents.doc_ids)
        step = draw.choice(["add", "delete", "update", "compact", "tiered"])
        if step == "delete" and len(ids) > 4:
            dropped = draw.sample(ids, 2)
            collection.delete(dropped)
            gone |= set(dropped)
        elif step == "compact":
            collection.compact(tiered=draw.random() < 0.5)
        else:
            doc_id = draw.choice(ids) if step == "update" else f"n{new}"
            new += 1
            collection.update([Document(doc_id, f"{draw.choice(toy_corpus()).text} {new}")])
        pool = draw.sample(list(collection.documents.doc_ids), 3)
        assert ranked(config) == fresh(collection)
        assert ranked(config, allowed=frozenset(pool)) == fresh(collection, allowed=frozenset(pool))
        assert not gone & {hit.doc_id for ranking in ranked(config) for hit in ranking.hits}
    assert set(Counting.encoded.values()) == {1}, "no document is encoded twice"


def test_many_new_documents_are_left_to_the_command(
    collection: Collection, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(segment_tokens.segment_tokens, "__kwdefaults__", {"most": 3, "progress": False})
    with pytest.raises(DataError, match=r"12 documents .* no vectors .*; make them with gemkr embed"):
        ranked(configured(collection))
    path = collection.folder.parent / "c.yaml"
    path.write_text(
        "corpus: wiki\nretrievers:\n  words:\n    kind: late_interaction\n"
        f"    encoder: '{__name__}:Counting'\n    tokens: tokens\n"
    )
    assert main(["embed", str(path), "words"]) == 0
    assert "12 documents encoded" in capsys.readouterr().out
    collection.add([OWL])
    collection.compact()
    assert main(["embed", str(path), "words"]) == 0
    assert "1 documents encoded" in (out := capsys.readouterr().out)
    assert "12 were there already" in out
    assert ranked(configured(collection)) == fresh(collection)
    assert len([path for path in Path(_folder(collection)).iterdir() if path.is_dir()]) == 1


def test_an_interrupted_embedding_goes_on(
    collection: Collection, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(segment_folder, "BLOCK", 2)
    calls = []

    def stopping(self: Counting, documents: list[Document]) -> TokenVectors:
        calls.append(documents)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return WordTokenEncoder.encode_documents(self, documents)

    with monkeypatch.context() as patched:
        patched.setattr(Counting, "encode_documents", stopping)
        with pytest.raises(KeyboardInterrupt):
            ranked(configured(collection))
    path = collection.folder.parent / "c.yaml"
    path.write_text(
        "corpus: wiki\nretrievers:\n  words:\n    kind: late_interaction\n"
        f"    encoder: '{__name__}:Counting'\n    tokens: tokens\n"
    )
    assert main(["embed", str(path), "words"]) == 0
    said = capsys.readouterr()
    assert "8 documents encoded" in said.out
    assert "4 were there already" in said.out
    assert "8/8" in said.err
    assert ranked(configured(collection)) == fresh(collection)
    assert Counting.encoded.total() == 12 - 4


def test_other_encoders_and_odd_vectors_are_refused(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(collection)
    ranked(config)
    with pytest.raises(DataError, match="were made with another encoder"):
        ranked(configured(collection, encoder={"kind": f"{__name__}:Counting", "seed": 1}))
    collection.add([OWL])
    for values, offsets, fault in (
        (np.full((1, 64), 1e9), [0, 1], "a number that float16 cannot"),
        (np.ones((1, 8)), [0, 1], r"of the shape \[1, 8\]"),
        (np.ones((2, 64)), [0, 1, 2], "for 2 documents, .* to come for 1"),
    ):
        odd = TokenVectors(values.astype(np.float32), np.array(offsets))
        with monkeypatch.context() as patched:
            patched.setattr(Counting, "encode_documents", lambda self, documents, odd=odd: odd)
            with pytest.raises(DataError, match=fault):
                ranked(config)
    assert ranked(config) == fresh(collection)


def test_documents_of_parts_are_scored_as_those_of_one() -> None:
    rng = np.random.default_rng(0)

    def drawn(lengths: list[int]) -> TokenVectors:
        values = rng.standard_normal((sum(lengths), 8)).astype(np.float16)
        return TokenVectors(values, np.cumsum([0, *lengths]))

    parts = [drawn([2, 0, 3]), drawn([1]), drawn([]), drawn([4, 1, 1, 2])]
    gone = [np.array([0]), np.array([0]), np.zeros(0, np.int64), np.array([1, 3])]
    live = LiveTokens(list(zip(parts, gone, strict=True)), 8)
    queries = drawn([3, 2])
    kept = [picked(part, rows) for part, rows in zip(live.parts, live.rows, strict=True)]
    joined = joined_tokens(kept, 8)
    assert live.lengths.tolist() == [0, 3, 4, 1] == np.diff(joined.offsets).tolist()
    for numbers in ([], [0], [1, 3], [0, 1, 2, 3]):
        docs = np.array(numbers, np.int64)
        np.testing.assert_array_equal(live.scores(queries, docs), scores_of(queries, joined, docs))
