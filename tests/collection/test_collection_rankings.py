"""Rankings from a collection in several segments, with deleted documents, equal those from a fresh index of the live ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from toy_text import TEXTS, train_sentencepiece

from gemkr.collection.change import Change
from gemkr.collection.collection import Collection
from gemkr.decoding.config import DecodingConfig
from gemkr.fm_index import FMIndex, SegmentedIndex
from gemkr.retrievers.generative.config import ScoringConfig
from gemkr.retrievers.generative.retriever import GenerativeRetriever
from gemkr.retrievers.lexical import BM25Retriever
from gemkr.scorers.bm25 import BM25
from gemkr.testing import RandomLM
from gemkr.types import Document, Query, Ranking

DOCUMENTS = 240


def corpus() -> list[Document]:
    """Passages of words that repeat, so that clues have many occurrences."""
    rng = np.random.default_rng(5)
    words = [word for text in TEXTS for word in text.split()]
    return [
        Document(f"p{i}", " ".join(rng.choice(words, rng.integers(3, 14))), "Title" if i % 7 == 0 else "")
        for i in range(DOCUMENTS)
    ]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_sentencepiece(tmp_path_factory.mktemp("tokenizer") / "tokenizer.model")


def collection_of(folder: Path, tokenizer: Path, segments: int) -> Collection:
    """The corpus in that many segments, a tenth of it deleted in two steps."""
    pieces = np.array_split(np.arange(DOCUMENTS), segments)
    documents = corpus()
    collection = Collection.create(folder, tokenizer=tokenizer, documents=[documents[i] for i in pieces[0]])
    for piece in pieces[1:]:
        collection.add([documents[i] for i in piece])
    for first in (3, 8):
        collection.delete([f"p{i}" for i in range(first, DOCUMENTS, 20)])
    return collection


def shown(ranking: Ranking) -> list:
    clues = [(clue.tokens, clue.log_prob, clue.score, clue.occurrences) for clue in ranking.clues]
    return [[(hit.doc_id, hit.score, hit.evidence) for hit in ranking.hits], clues]


@pytest.mark.parametrize("segments", [1, 3, 12])
def test_rankings_equal_those_of_a_fresh_index(
    tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch, segments: int
) -> None:
    monkeypatch.setattr(Change, "settle", lambda self: None)
    collection = collection_of(tmp_path / "c", tokenizer, segments)
    assert isinstance(collection.index, SegmentedIndex)
    assert collection.info()["segments"] == segments
    live = [document for i, document in enumerate(corpus()) if i % 20 not in (3, 8)]
    assert list(collection.documents) == live
    codes = collection.tokenizer
    fresh = FMIndex.build([codes.encode(d.contents) for d in live], [d.doc_id for d in live], tokenizer=codes)
    model = RandomLM(codes.vocab_size, codes.eos_ids, scale=4.0)
    queries = [Query(str(i), ["honey", "Tokyo", "giraffe", "capital"][i]) for i in range(2)]
    bm25 = [BM25(collection.documents), BM25(live)]
    hits = 0
    for changes in (
        {"method": "coverage"},
        {"method": "coverage", "rows_per_clue": 5},
        {"method": "seal", "documents_per_clue": 3},
        {"method": "random_document", "rows_per_clue": 2},
        {"method": "reference"},
    ):
        for decoding in (
            DecodingConfig(beam_size=4, groups=2, max_tokens=3, length_penalty=0.0),
            DecodingConfig(beam_size=4, groups=2, max_tokens=4, stop_at_one_document=True),
        ):
            answers = [
                GenerativeRetriever(
                    model, index, codes, lambda q: q.question, decoding, ScoringConfig(**changes), second
                ).retrieve(queries, 8, allowed=allowed)
                for index, second in zip((collection.index, fresh), bm25)
                for allowed in [None if segments < 12 else {d.doc_id for d in live[::2]}]
            ]
            for ours, theirs in zip(*answers, strict=True):
                assert shown(ours) == shown(theirs)
                hits += len(theirs.hits)
    assert hits > 20
    lexical = [BM25Retriever(bm25[0], collection.documents.doc_ids), BM25Retriever(bm25[1], fresh.doc_ids)]
    ours, theirs = (list(retriever.retrieve(queries, 9)) for retriever in lexical)
    assert ours == theirs
