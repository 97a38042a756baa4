"""Learned indexes over shards: in each shard the one that was learned over all, of which the others' documents are deleted ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from shard_here import Here
from test_learned_segments import ALL_LISTS, CENTROIDS, QUERIES, agree, configured, embed, fresh, passages
from toy_text import train_sentencepiece

from gemkr.collection import policy
from gemkr.collection.sharded import ShardedCollection
from gemkr.collection.shards import ShardedIndex
from gemkr.types import Query
from gemkr.vector_index import faiss_index
from gemkr.vector_index.learned_segments import held_index
from gemkr.vector_index.segment_tokens import TokenKind, segment_tokens
from gemkr.vector_index.segment_vectors import VectorKind, segment_vectors
from gemkr.vector_index.sharded_search import ShardedTokens, ShardedVectors

FEW = {
    "ivf": {"kind": "ivf", "lists": 16, "probes": 2},
    "pq": {"kind": "pq", "lists": 16, "probes": 3, "rescore": 2},
    "centroid": {
        "kind": "centroid",
        "lists": 32,
        "probes": 2,
        "candidates": 40,
        "decoded": 30,
        "rescored": 16,
    },
    "decoded": {"kind": "centroid", "lists": 32, "probes": 2, "candidates": 40, "decoded": 30, "rescored": 0},
}
"""Settings under which much is overlooked."""


@pytest.fixture
def collection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ShardedCollection:
    """700 passages in three segments a shard, some deleted since."""
    monkeypatch.setattr(policy, "LARGEST_OF_ADD", 0)
    tokenizer = train_sentencepiece(tmp_path / "t.model")
    made = ShardedCollection.create(tmp_path / "wiki", 2, tokenizer=tokenizer, documents=passages(400))
    made.add(passages(200, 400))
    made.add(passages(100, 600))
    return made


@pytest.mark.parametrize("index", [ALL_LISTS, CENTROIDS], ids=["ivf", "centroid"])
def test_an_index_over_shards_stays_right(collection: ShardedCollection, index: dict) -> None:
    config = configured(collection, index)
    assert embed(config).index_built
    assert not embed(config).index_built
    collection.delete(["p3", "p41", "p650"])
    collection.add(passages(5, 700))
    pool = frozenset(f"p{number}" for number in range(0, 705, 9))
    for _ in range(2):
        retriever = config.sources().retriever("words")
        for asked in ({}, {"allowed": pool}):
            found = list(retriever.retrieve(QUERIES, 6, **asked))
            assert agree(found, fresh(collection, index, **asked))
        collection.compact()


@pytest.mark.parametrize("name", FEW)
def test_nothing_is_lost_beside_a_search_in_one_process(
    collection: ShardedCollection, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best k by shards score at every rank as high as those of the same index in one process, and for `ivf`, whose candidates are
    scored as its lists score them, they are the same."""
    monkeypatch.setattr(faiss_index, "SMALL_POOL", 0)
    config = configured(collection, FEW[name])
    embed(config)
    collection.delete(["p3", "p41", "p650"])
    collection.add(passages(5, 700))
    sources = config.sources()
    settings = sources.section("words").config
    index, encoder, parts = settings.index, sources.part(settings.encoder), sources.documents.live_parts
    folder = collection.folder.parent / "vectors"
    shards = ShardedIndex([Here(shard.folder, shard.manifest) for shard in collection.shards])
    if index.kind == "centroid":
        held, _ = segment_tokens(folder, parts, encoder, "")
        ours = ShardedTokens(shards, folder, parts, TokenKind(encoder), index.cls, index.config, "")
    else:
        held, _ = segment_vectors(folder, parts, encoder, "float16", "")
        ours = ShardedVectors(
            shards, folder, parts, VectorKind(encoder, "float16"), index.cls, index.config, ""
        )
    one = held_index(index.cls, index.config, folder, held)
    assert one.searched_exactly == 5
    queries = encoder.encode_queries([Query(str(n), d.text) for n, d in enumerate(passages(40, 900))])
    half = np.arange(len(one)) % 2 == 0
    overlooked = 0
    for allowed in (None, half):
        scores, docs = ours.search(queries, 8, allowed)
        expected, theirs = one.search(queries, 8, allowed)
        assert (scores >= expected - 1e-6).all()
        if name == "ivf":
            np.testing.assert_array_equal(docs, theirs)
        exact, _ = held.exact().search(queries, 8, allowed)
        assert (exact >= scores - (1e-6 if name != "decoded" else 0.3)).all()
        overlooked += int((exact > expected + 1e-4).sum())
        assert allowed is None or allowed[docs].all()
    assert overlooked, "the settings overlook nothing, so that nothing was compared"
