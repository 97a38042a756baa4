"""Vectors and token vectors that are searched where their shards are: rankings of one plain store, and what happens when a shard dies."""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from shard_material import QUERIES, configured, documents, embed, hits, plain, shards_of

from gemkr.collection.shard_folder import shard_of
from gemkr.collection.shard_processes import ProcessShard
from gemkr.collection.sharded import ShardedCollection
from gemkr.decoding.config import DecodingConfig
from gemkr.errors import DataError, ShardError
from gemkr.fm_index import FMIndex
from gemkr.retrievers.generative.config import ScoringConfig
from gemkr.retrievers.generative.retriever import GenerativeRetriever
from gemkr.scorers.dense import DenseScorer
from gemkr.serve.service import Service
from gemkr.sources import Sources
from gemkr.testing import RandomLM
from gemkr.types import Query, Ranking
from gemkr.vector_index import segment_tokens, segment_vectors
from gemkr.vector_index.segment_store import name_of

NAMES = ("dense", "late")


@dataclass
class Material:
    """Shards with their vectors, and one plain store of their documents."""

    shards: ShardedCollection
    vectors: Path
    plain: Sources
    plain_scorer: DenseScorer

    def sources(self, **given: object) -> Sources:
        return configured(self.shards.folder, self.vectors, **given).sources()

    def of_shard(self, number: int) -> frozenset[str]:
        """The ids of a shard's documents."""
        return frozenset(self.shards.shards[number].documents.doc_ids)


@pytest.fixture(scope="module", params=[1, 2, 3])
def any_number(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Material:
    return material(tmp_path_factory.mktemp("shards"), request.param)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return material(tmp_path_factory.mktemp("two"), 2)


def material(folder: Path, shards: int) -> Material:
    made = shards_of(folder, shards)
    embed(configured(made.folder, folder / "vectors"))
    one = plain(made, folder / "plain")
    return Material(made, folder / "vectors", one, scorer(one))


@pytest.fixture
def closed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """No vectors can be opened in this process."""

    def refuse(place: Path, *_: object) -> None:
        raise AssertionError(f"{place} was opened by the process that asks")

    monkeypatch.setattr(segment_vectors, "open_vectors", refuse)
    monkeypatch.setattr(segment_tokens, "open_tokens", refuse)


def scorer(sources: Sources) -> DenseScorer:
    config = sources.section("dense").config
    return DenseScorer.from_config(
        DenseScorer.Config(encoder=config.encoder, vectors=config.vectors), sources
    )


def mapped(process: int | str, folder: Path) -> set[str]:
    """The segments' folders whose vectors a process has in its memory."""
    lines = Path(f"/proc/{process}/maps").read_text().splitlines()
    return {Path(line.split()[-1]).parent.name for line in lines if str(folder) in line}


def test_rankings_are_those_of_one_plain_store(any_number: Material, closed_here: None) -> None:
    sources, ids = any_number.sources(), list(any_number.shards.documents.doc_ids)
    draw = np.random.default_rng(4)
    pools = [None, *(frozenset(draw.choice(ids, size).tolist()) for size in (1, 5, 60)), frozenset()]
    for name, k, pool in product(NAMES, (1, 7, 500), [*pools, any_number.of_shard(0), frozenset(ids)]):
        found = hits(sources, name, k, pool)
        assert found == hits(any_number.plain, name, k, pool)
        assert any(map(len, found)) or (pool is not None and len(pool) < 5)
    docs = draw.integers(0, len(ids), 50)
    for query in QUERIES:
        expected = any_number.plain_scorer.score(query, docs)
        np.testing.assert_array_equal(scorer(sources).score(query, docs), expected)
    assert not len(scorer(sources).score(QUERIES[0], docs[:0]))
    rankings = sources.retriever("dense").retrieve(QUERIES, 3)
    assert {ranking.searched for ranking in rankings} == {1.0}


def test_each_process_maps_the_vectors_of_its_own_shard_alone(two: Material) -> None:
    sources = two.sources()
    for name in NAMES:
        hits(sources, name, 3)
    assert mapped("self", two.vectors) == set()
    for shard, process in zip(two.shards.shards, sources.shards._calls.shards, strict=True):
        own = {name_of(segment) for segment in shard.segments}
        assert mapped(process.process.pid, two.vectors) == own


def test_int8_vectors_are_scored_as_in_one_process(two: Material, tmp_path: Path) -> None:
    one = plain(two.shards, tmp_path / "one", dtype="int8")
    config = configured(two.shards.folder, tmp_path / "vectors", dtype="int8")
    found, expected = hits(config.sources(), "dense", 9), hits(one, "dense", 9)
    for ours, theirs in zip(found, expected, strict=True):
        scores = [[score for _, score in each] for each in (ours, theirs)]
        assert scores[0] == pytest.approx(scores[1], rel=1e-6)


def test_changes_are_followed(tmp_path: Path) -> None:
    made = shards_of(tmp_path, 2)
    config = configured(made.folder, tmp_path / "vectors")
    before = config.sources()
    old = hits(before, "dense", 9)
    for step, change in enumerate(
        [
            lambda: made.update(documents(4, 20)),
            lambda: made.delete(["p21", "p150"]),
            made.compact,
            lambda: made.delete([i for i in made.documents.doc_ids if shard_of([i], 2) == [0]]),
        ]
    ):
        change()
        one, sources = plain(made, tmp_path / f"plain {step}"), config.sources()
        assert [hits(sources, name, 9) for name in NAMES] == [hits(one, name, 9) for name in NAMES]
    assert hits(before, "dense", 9) == old, "its processes hold what they have opened"


@pytest.mark.parametrize("name", NAMES)
def test_a_dead_shard_is_named_or_left_out(two: Material, name: str) -> None:
    partial, whole = two.sources(partial=True), two.sources()
    for sources in (partial, whole):
        retriever = sources.retriever(name)
        assert len(next(retriever.retrieve(QUERIES, 3)).hits) == 3
        sources.shards._calls.shards[1].process.kill()
    for _ in range(2):
        with pytest.raises(ShardError, match=r"the shard .*shard-001 died"):
            hits(whole, name, 3)
        assert hits(partial, name, 9) == hits(two.plain, name, 9, two.of_shard(0))
    for allowed in (two.of_shard(1), two.of_shard(0)):
        expected = hits(two.plain, name, 9, allowed & two.of_shard(0))
        assert hits(partial, name, 9, allowed) == expected
    share = len(two.of_shard(0)) / len(two.shards)
    found = partial.retriever(name).retrieve(QUERIES, 3)
    assert [ranking.searched for ranking in found] == pytest.approx([share] * len(QUERIES))
    partial.shards._calls.shards[0].process.kill()
    with pytest.raises(ShardError, match="no shard is left"):
        hits(partial, name, 3)


def test_documents_of_a_dead_shard_are_not_scored(two: Material) -> None:
    sources = two.sources(partial=True)
    scored, first = scorer(sources), len(two.of_shard(0))
    sources.shards._calls.shards[1].process.kill()
    for _ in range(2):
        with pytest.raises(ShardError, match=r"are lost \(\S*shard-001\) cannot be scored"):
            scored.score(QUERIES[0], np.array([0, first]))
    docs = np.arange(first)
    expected = two.plain_scorer.score(QUERIES[0], docs)
    np.testing.assert_array_equal(scored.score(QUERIES[0], docs), expected)


def test_clues_are_ranked_inside_their_spans_by_vectors_of_shards(two: Material) -> None:
    sources = two.sources(partial=True)
    shards, codes, ids = sources.shards, two.shards.tokenizer, list(two.shards.documents.doc_ids)
    fresh = FMIndex.build([codes.encode(d.contents) for d in two.shards.documents], ids, tokenizer=codes)

    def rankings(over: object, by: DenseScorer) -> list[Ranking]:
        model, decoding = (
            RandomLM(codes.vocab_size, codes.eos_ids, scale=4.0),
            DecodingConfig(beam_size=4, groups=2, max_tokens=3),
        )
        retriever = GenerativeRetriever(
            model, over, codes, lambda q: q.question, decoding, ScoringConfig(), by
        )
        return list(retriever.retrieve(QUERIES, 8))

    ours = scorer(sources)
    expected = [ranking.hits for ranking in rankings(fresh, two.plain_scorer)]
    assert [ranking.hits for ranking in rankings(shards, ours)] == expected
    assert all(map(len, expected))
    shards._calls.shards[1].process.kill()
    left = rankings(shards, ours)
    assert {shard_of([hit.doc_id], 2)[0] for ranking in left for hit in ranking.hits} == {0}
    assert left[0].searched == pytest.approx(len(two.of_shard(0)) / len(ids))


@pytest.mark.parametrize("name", NAMES)
def test_a_shard_that_never_answers_moves_no_numbers(
    two: Material, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = ProcessShard.__init__

    def started(self: ProcessShard, folder: Path, manifest: object = None) -> None:
        start(self, folder, manifest)
        if Path(folder).name == "shard-000":
            self.process.kill()

    monkeypatch.setattr(ProcessShard, "__init__", started)
    sources = two.sources(partial=True)
    assert hits(sources, name, 9) == hits(two.plain, name, 9, two.of_shard(1))
    found = next(sources.retriever(name).retrieve(QUERIES, 3))
    assert found.searched == pytest.approx(len(two.of_shard(1)) / len(two.shards))


def test_a_service_follows_a_change_and_the_processes_of_before_end(tmp_path: Path) -> None:
    made, others = shards_of(tmp_path, 2), set(multiprocessing.active_children())
    service = Service(configured(made.folder, tmp_path / "vectors"))
    names = [service.key(name, 1, None) for name in NAMES]

    def found() -> set[str]:
        rankings = (service.retrieve(key, QUERIES[:1], lambda query, growing: True) for key in names)
        return {hit.doc_id for each in rankings for ranking in each for hit in ranking.hits}

    best, before = found(), set(multiprocessing.active_children()) - others
    service.delete(sorted(best))
    assert not found() & best
    after = set(multiprocessing.active_children()) - others
    assert len(before) == len(after) == 2
    assert not before & after


def test_what_is_wrong_in_a_shard_is_said_here(two: Material, tmp_path: Path) -> None:
    sources = two.sources()
    index = sources.retriever("dense").index
    with pytest.raises(DataError, match=r"have the shape \(1, 3\), the index holds vectors of 24"):
        index.search(np.zeros((1, 3), np.float32), 5)
    assert index.search(np.zeros((2, 24), np.float32), 0)[0].shape == (2, 0)
    assert index.search(np.zeros((0, 24), np.float32), 4)[0].shape == (0, 4)
    made = shards_of(tmp_path, 2)
    config = configured(made.folder, tmp_path / "vectors")
    embed(config)
    (damaged, *_) = (tmp_path / "vectors" / "dense").glob("*/vectors.npy")
    damaged.write_bytes(b"")
    with pytest.raises(
        DataError, match=r"cannot be read .*; delete .* then make them with gemkr embed CONFIG"
    ):
        config.sources().retriever("dense")
    assert list(config.sources().retriever("late").retrieve([Query("1", "honey")], 2))
