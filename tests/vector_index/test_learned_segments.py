"""Learned indexes of a collection: kept beside its vectors, right after every change, and never in the way of a search."""

from __future__ import annotations

import logging
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from toy_text import train_sentencepiece

from gemkr.collection import policy
from gemkr.collection.collection import Collection
from gemkr.config.files import from_mapping
from gemkr.errors import DataError
from gemkr.evaluation.config import EvalConfig
from gemkr.retrievers.embedding import Embedded
from gemkr.testing import toy_corpus
from gemkr.types import Document, Query, Ranking
from gemkr.vector_index import learned_segments
from gemkr.vector_index.learned_segments import PartlyLearnedIndex
from gemkr.vector_index.token_codec import ResidualCodec

pytest.importorskip("faiss")

QUERIES = [Query("1", "Which is the capital of Japan ?"), Query("2", "Who sleeps in the winter ?")]
ALL_LISTS = {"kind": "ivf", "lists": 2, "probes": 2}
"""Every list is looked into, so that the results are the exact ones."""
CENTROIDS = {"kind": "centroid", "lists": 8, "probes": 8, "prune": 0.0}


def passages(count: int, first: int = 0) -> list[Document]:
    draw = random.Random(first)
    words = " ".join(document.text for document in toy_corpus()).split()
    return [Document(f"p{i}", " ".join(draw.sample(words, 9))) for i in range(first, first + count)]


@pytest.fixture
def collection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Collection:
    """Ninety passages in three segments."""
    monkeypatch.setattr(policy, "LARGEST_OF_ADD", 0)
    tokenizer = train_sentencepiece(tmp_path / "t.model")
    made = Collection.create(tmp_path / "wiki", tokenizer=tokenizer, documents=passages(40))
    made.add(passages(30, 40))
    made.add(passages(20, 70))
    return made


def configured(collection: Collection, learned: dict = ALL_LISTS, **given: object) -> EvalConfig:
    late = learned["kind"] == "centroid"
    section = {
        "kind": "late_interaction" if late else "dense",
        "encoder": "gemkr.testing:WordTokenEncoder" if late else "gemkr.testing:WordEncoder",
        "tokens" if late else "vectors": str(collection.folder.parent / "vectors"),
        "index": learned,
    }
    retrievers = {"words": {name: value for name, value in (section | given).items() if value is not None}}
    return from_mapping({"corpus": str(collection.folder), "retrievers": retrievers}, EvalConfig, "test")


def embed(config: EvalConfig) -> Embedded:
    sources = config.sources()
    section = sources.section("words")
    return section.cls.embed(section.config, sources, progress=False)


def index_of(config: EvalConfig) -> PartlyLearnedIndex:
    index = config.sources().retriever("words").index
    assert isinstance(index, PartlyLearnedIndex)
    return index


def ranked(config: EvalConfig, **asked: object) -> list[Ranking]:
    return list(config.sources().retriever("words").retrieve(QUERIES, 6, **asked))


def agree(found: list[Ranking], expected: list[Ranking]) -> bool:
    """Equal documents, and scores up to the last digit, as sums of one and of many documents are not added in the same order."""
    for one, other in zip(found, expected, strict=True):
        assert [hit.doc_id for hit in one.hits] == [hit.doc_id for hit in other.hits]
        assert [hit.score for hit in one.hits] == pytest.approx([hit.score for hit in other.hits], abs=1e-6)
    return True


def fresh(collection: Collection, index: dict = ALL_LISTS, **asked: object) -> list[Ranking]:
    """Exact search of vectors that are made anew of the live documents."""
    exact = {"index": None, "vectors": None, "tokens": None}
    return ranked(configured(collection, index, **exact), **asked)


@pytest.mark.parametrize("index", [ALL_LISTS, CENTROIDS], ids=["ivf", "centroid"])
def test_an_index_is_kept_and_stays_right(collection: Collection, index: dict) -> None:
    config = configured(collection, index)
    assert index_of(config).searched_exactly == 90
    assert embed(config).index_built
    assert not embed(config).index_built
    assert index_of(config).searched_exactly == 0
    collection.delete(["p3", "p41"])
    collection.add(passages(5, 90))
    assert index_of(config).searched_exactly == 5
    assert agree(ranked(config), fresh(collection, index))
    assert embed(config).index_built
    assert index_of(config).searched_exactly == 0
    collection.compact()
    assert index_of(config).searched_exactly == 93
    assert agree(ranked(config), fresh(collection, index))
    assert embed(config).index_built
    assert len(list((collection.folder.parent / "vectors").glob("*.index"))) == 1


@pytest.mark.parametrize(
    ("index", "seed"),
    [(ALL_LISTS, 0), ({"kind": "pq", "rescore": 100}, 1), (CENTROIDS, 2)],
    ids=["ivf", "pq", "centroid"],
)
def test_results_are_those_of_the_live_documents(collection: Collection, index: dict, seed: int) -> None:
    draw, config, gone = random.Random(seed), configured(collection, index), set()
    embed(config)
    for step in range(5):
        ids = list(collection.documents.doc_ids)
        dropped = draw.sample(ids, 3)
        collection.delete(dropped)
        gone |= set(dropped)
        collection.update(
            [Document(draw.choice(list(collection.documents.doc_ids)), passages(1, 500 + step)[0].text)]
        )
        collection.add(passages(2, 200 + 10 * step))
        if draw.random() < 0.3:
            collection.compact()
        if draw.random() < 0.3:
            embed(config)
        assert agree(ranked(config), fresh(collection, index))
        pool = frozenset(draw.sample(list(collection.documents.doc_ids), 4))
        assert agree(ranked(config, allowed=pool), fresh(collection, index, allowed=pool))
        assert not gone & {hit.doc_id for ranking in ranked(config) for hit in ranking.hits}


def test_a_build_that_was_stopped_is_nothing(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    config, folder = configured(collection), collection.folder.parent / "vectors"

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    for name in ("os.replace", "faiss.write_index"):
        ranked(config)
        with monkeypatch.context() as patched:
            patched.setattr(
                f"gemkr.vector_index.faiss_index.{name}" if name == "os.replace" else name, stopped
            )
            patched.setattr(learned_segments, "write_atomically", lambda path, data: path.write_bytes(data))
            with pytest.raises(KeyboardInterrupt):
                embed(config)
        assert index_of(config).searched_exactly == 90
        assert agree(ranked(config), fresh(collection))
    assert embed(config).index_built
    collection.delete(["p0"])
    assert embed(config).index_built
    assert len(list(folder.glob("*.index"))) == 1


def test_a_stopped_build_of_centroids_goes_on(
    collection: Collection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As long as the collection does not change; then what was stopped goes."""
    caplog.set_level(logging.INFO)
    config, folder = configured(collection, CENTROIDS), collection.folder.parent / "vectors"
    encoded, calls = ResidualCodec.encoded, []

    def stopped(self: ResidualCodec, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        calls.append(len(values))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encoded(self, values)

    monkeypatch.setattr(ResidualCodec, "encoded", stopped)
    with pytest.raises(KeyboardInterrupt):
        embed(config)
    assert index_of(config).searched_exactly == 90
    assert embed(config).index_built
    assert f"goes on: the centroids and {sum(calls[:2])} of" in caplog.text
    assert len(calls) == 4  # one for each segment, the last one twice
    assert agree(ranked(config), fresh(collection, CENTROIDS))
    collection.add(passages(5, 90))
    calls.clear()
    with pytest.raises(KeyboardInterrupt):
        embed(config)
    assert len(list(folder.glob("*.index/*.part"))) == 1
    collection.add(passages(5, 95))
    assert embed(config).index_built
    (place,) = folder.glob("*.index")
    assert len(list(place.iterdir())) == 2


@pytest.mark.parametrize("given", ["--kind centroid --every 8 --kills 3", "--kind ivf --every 4 --kills 3"])
def test_a_build_that_ends_anywhere_leaves_right_rankings(tmp_path: Path, given: str) -> None:
    """Many steps of `learned_steps.py`, and a few kills, in a process without threads."""
    command = [sys.executable, str(Path(__file__).with_name("learned_steps.py")), str(tmp_path / "here")]
    root = Path(__file__).parents[2]
    found = subprocess.run(
        [*command, *given.split()],
        env=os.environ | {"PYTHONPATH": f"{root}:{root / 'tests'}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    ended, without, whole = map(int, re.findall(r"\d+", found.stdout))
    assert ended == without + whole
    assert min(without, whole) > 2


def test_an_index_of_another_encoder_or_a_damaged_one(collection: Collection) -> None:
    config, folder = configured(collection), collection.folder.parent / "vectors"
    embed(config)
    (place,) = folder.glob("*.index")
    place.rename(folder.parent / "kept.index")
    for path in folder.iterdir():
        if path.is_dir():
            path.rename(folder.parent / f"old-{path.name}")
    other = configured(collection, encoder={"kind": "gemkr.testing:WordEncoder", "seed": 1})
    ranked(other)
    (folder.parent / "kept.index").rename(place)
    assert index_of(other).searched_exactly == 90
    assert embed(other).index_built
    (place,) = folder.glob("*.index")
    (place / learned_segments.BUILT).write_bytes(b"PK")
    with pytest.raises(
        DataError, match=r"the index .* cannot be read .*; delete it and make it with gemkr embed"
    ):
        ranked(other)
