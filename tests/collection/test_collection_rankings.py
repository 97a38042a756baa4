"""Rankings from a collection in several segments, with deleted documents, equal those from a fresh index of the live ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from many_segments import collection_of, fresh_index, live
from toy_text import train_sentencepiece

from gemkr.decoding.config import DecodingConfig
from gemkr.fm_index import SegmentedIndex
from gemkr.retrievers.generative.config import ScoringConfig
from gemkr.retrievers.generative.retriever import GenerativeRetriever
from gemkr.retrievers.lexical import BM25Retriever
from gemkr.scorers.bm25 import BM25
from gemkr.testing import RandomLM
from gemkr.types import Query, Ranking


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_sentencepiece(tmp_path_factory.mktemp("tokenizer") / "tokenizer.model")


def shown(ranking: Ranking) -> list:
    clues = [(clue.tokens, clue.log_prob, clue.score, clue.occurrences) for clue in ranking.clues]
    return [[(hit.doc_id, hit.score, hit.evidence) for hit in ranking.hits], clues]


@pytest.mark.parametrize("segments", [1, 3, 12])
def test_rankings_equal_those_of_a_fresh_index(tmp_path: Path, tokenizer: Path, segments: int) -> None:
    collection = collection_of(tmp_path / "c", tokenizer, segments)
    assert isinstance(collection.index, SegmentedIndex)
    assert collection.info()["segments"] == segments
    left = live()
    assert list(collection.documents) == left
    codes = collection.tokenizer
    fresh = fresh_index(left, codes)
    model = RandomLM(codes.vocab_size, codes.eos_ids, scale=4.0)
    queries = [Query(str(i), ["honey", "Tokyo", "giraffe", "capital"][i]) for i in range(2)]
    bm25 = [BM25(collection.documents), BM25(left)]
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
                for allowed in [None if segments < 12 else {d.doc_id for d in left[::2]}]
            ]
            for ours, theirs in zip(*answers, strict=True):
                assert shown(ours) == shown(theirs)
                hits += len(theirs.hits)
    assert hits > 20
    lexical = [BM25Retriever(bm25[0], collection.documents.doc_ids), BM25Retriever(bm25[1], fresh.doc_ids)]
    ours, theirs = (list(retriever.retrieve(queries, 9)) for retriever in lexical)
    assert ours == theirs
