"""Shards as Ray actors, named by a configuration: rankings as from one index, a killed actor, and no ray at all."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from shard_material import configured, embed, hits, plain, shards_of
from toy_text import TEXTS, train_sentencepiece

from gemkr.collection.sharded import ShardedCollection
from gemkr.config.files import load_config
from gemkr.decoding.config import DecodingConfig
from gemkr.errors import ConfigError, ShardError
from gemkr.evaluation.config import EvalConfig
from gemkr.fm_index import FMIndex
from gemkr.retrievers.generative.config import ScoringConfig
from gemkr.retrievers.generative.retriever import GenerativeRetriever
from gemkr.sources import Sources
from gemkr.testing import RandomLM
from gemkr.types import Document, Query

WORDS = [word for text in TEXTS for word in text.split()]


@pytest.fixture(scope="module")
def wiki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cluster")
    rng = np.random.default_rng(2)
    documents = [Document(f"p{i}", " ".join(rng.choice(WORDS, 9))) for i in range(30)]
    tokenizer = train_sentencepiece(folder / "t.model")
    ShardedCollection.create(folder / "wiki", 2, tokenizer=tokenizer, documents=documents, processes=1)
    return folder / "wiki"


def sources(wiki: Path, *given: str) -> Sources:
    path = wiki.parent / "ray.yaml"
    path.write_text("corpus: wiki\nshards: {engine: ray}\nretrievers: {bm25: {kind: bm25}}\n")
    return load_config(path, EvalConfig, given).sources()


@pytest.fixture
def ray() -> Iterator[object]:
    found = pytest.importorskip("ray", reason="ray is an extra: pip install 'gemkr[ray]'")
    found.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield found
    found.shutdown()


def test_actors_rank_as_one_index_does_and_a_dead_one_is_left_out_or_named(wiki: Path, ray: object) -> None:
    opened = sources(wiki, "partial=true")
    shards, index = opened.collection(wiki), opened.index(wiki)
    codes, live = shards.tokenizer, list(opened.documents)
    fresh = FMIndex.build([codes.encode(d.contents) for d in live], [d.doc_id for d in live], tokenizer=codes)

    def rankings(over: object) -> list:
        return list(
            GenerativeRetriever(
                RandomLM(codes.vocab_size, codes.eos_ids, scale=4.0),
                over,
                codes,
                lambda q: q.question,
                DecodingConfig(beam_size=4, groups=2, max_tokens=3),
                ScoringConfig(),
                None,
            ).retrieve([Query("1", "honey"), Query("2", "tokyo")], 8)
        )

    ours = rankings(index)
    assert [r.hits for r in ours] == [r.hits for r in rankings(fresh)]
    assert ours[0].hits
    named = sources(wiki).index(wiki)
    for each in (index, named):
        each._calls.shards[1].close()
    (first, *_) = rankings(index)
    assert first.searched == pytest.approx(len(shards.shards[0].documents) / 30)
    with pytest.raises(ShardError, match=r"the shard .*shard-001 died"):
        rankings(named)


def test_actors_search_the_vectors_of_their_shards(tmp_path: Path, ray: object) -> None:
    made = shards_of(tmp_path, 2)
    there = ShardedCollection.open(made.folder)
    config = configured(there.folder, tmp_path / "vectors", shards={"engine": "ray"}, partial=True)
    embed(config)
    one, over, named = plain(there, tmp_path / "plain"), config.sources(), replace(config, partial=False)
    first = frozenset(there.shards[0].documents.doc_ids)
    strict = named.sources()
    for name in ("dense", "late"):
        assert hits(over, name, 9) == hits(one, name, 9) == hits(strict, name, 9)
        assert hits(over, name, 9, first) == hits(one, name, 9, first)
    for each in (over, strict):
        each.shards._calls.shards[1].close()
    for name in ("dense", "late"):
        assert hits(over, name, 9) == hits(one, name, 9, first)
        with pytest.raises(ShardError, match=r"the shard .*shard-001 died"):
            hits(strict, name, 9)
    answered = next(over.retriever("late").retrieve([Query("1", "honey")], 2))
    assert answered.searched == pytest.approx(len(first) / len(there))


def test_actors_follow_a_change(wiki: Path, ray: object) -> None:
    before = sources(wiki)
    assert before.index(wiki).searched == 1
    ShardedCollection.open(wiki).add([Document("new", "zebra")])
    after = before.renewed()
    zebra = after.collection(wiki).tokenizer.encode("zebra")
    assert [each.index(wiki).search(zebra).count for each in (before, after)] == [0, 1]


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_a_wrong_address_is_named_at_once(wiki: Path, address: str) -> None:
    pytest.importorskip("ray", reason="ray is an extra: pip install 'gemkr[ray]'")
    with pytest.raises(ShardError, match=f"the Ray cluster {address} does not answer .*refused"):
        sources(wiki, f"shards={{engine: ray, address: '{address}'}}").index(wiki)


def test_without_ray_the_error_says_how_to_install_it(wiki: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ShardError, match=r"pip install 'gemkr\[ray\]'"):
        sources(wiki).index(wiki)


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ("shards.engine=spark", r"shards\.engine is 'spark'; there are processes and ray"),
        ("shards={engine: processes, address: 'head:6379'}", r"shards\.address is 'head:6379'"),
        ("shards.cpus=-1", "cpus must be at least 0"),
    ],
)
def test_wrong_settings_are_named(wiki: Path, given: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        sources(wiki, given)
