"""Runs of a generative retriever: the same by every engine, and written once for all retrievers over it."""

from __future__ import annotations

import shutil
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from gemkr.cli import main
from gemkr.collection.change import Change
from gemkr.collection.collection import Collection
from gemkr.collection.shard_folder import create_shards
from gemkr.config.files import load_config
from gemkr.data.corpus import read_corpus
from gemkr.data.records import read_records
from gemkr.errors import GemkrError
from gemkr.evaluation.config import EvalConfig
from gemkr.evaluation.runs import run_retriever
from gemkr.retrievers.generative.retriever import GenerativeRetriever
from gemkr.types import Query


def test_retrievers_over_a_finished_run_take_its_clues(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    write = GenerativeRetriever._written

    def counted(self: GenerativeRetriever, queries: list[Query]) -> list:
        asked.append(len(queries))
        return write(self, queries)

    monkeypatch.setattr(GenerativeRetriever, "_written", counted)
    fused = "retrievers.fused={kind: fusion, of: [gemkr, bm25]}"
    names = {"after": "[gemkr, fused]", "alone": "[fused]"}
    for folder, evaluate in names.items():
        settings = [fused, f"output={tmp_path / folder}", f"evaluate={evaluate}"]
        assert main(["eval", str(material / "eval.yaml"), *settings]) == 0
    after, alone = ((tmp_path / folder / "fused" / "run.jsonl").read_text() for folder in names)
    assert after == alone
    assert sum(asked) == 3 + 3
    again = [fused, f"output={tmp_path / 'after'}", "evaluate=[gemkr, fused]"]
    shutil.rmtree(tmp_path / "after" / "fused")
    assert main(["eval", str(material / "eval.yaml"), *again]) == 0
    assert sum(asked) == 3 + 3
    assert (tmp_path / "after" / "fused" / "run.jsonl").read_text() == alone


def test_a_run_that_begins_anew_is_written_anew(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    write = GenerativeRetriever._written
    monkeypatch.setattr(
        GenerativeRetriever,
        "_written",
        lambda self, queries: asked.append(len(queries)) or write(self, queries),
    )
    config = load_config(material / "eval.yaml", EvalConfig, [f"output={tmp_path}"])
    sources = config.sources()
    for _ in range(2):
        run_retriever(config, sources, "gemkr", restart=True)
    assert sum(asked) == 6
    assert sources.retriever("gemkr")._known.keys() == {"0", "1", "2"}
    assert sources.renewed().retriever("gemkr")._known == {}
    sources.retriever("gemkr").index.lost = []
    assert sources.once(("retriever", "gemkr"), dict).knowing({"0": ()})._known == {}


@pytest.mark.parametrize("words", ["true", "false"])
def test_the_engine_changes_no_clue(material: Path, tmp_path: Path, words: str) -> None:
    runs = []
    for engine in ("host", "device", "graph"):
        settings = [f"output={tmp_path / engine}", f"retrievers.gemkr.decoding.engine={engine}"]
        settings += [f"retrievers.gemkr.decoding.end_at_word={words}", "evaluate=[gemkr]"]
        assert main(["eval", str(material / "eval.yaml"), *settings]) == 0
        runs.append(list(read_records(tmp_path / engine / "gemkr" / "run.jsonl")))
    host = runs[0]
    assert all(ranking.clues for ranking in host)
    for run in runs[1:]:
        for ours, theirs in zip(run, host, strict=True):
            assert [(c.tokens, c.count, c.span) for c in ours.clues] == [
                (c.tokens, c.count, c.span) for c in theirs.clues
            ]
            np.testing.assert_allclose(
                [c.score for c in ours.clues], [c.score for c in theirs.clues], atol=1e-4
            )
            assert [hit.doc_id for hit in ours.hits] == [hit.doc_id for hit in theirs.hits]
    unknown = "retrievers.gemkr.decoding.engine=gpu"
    config = load_config(material / "eval.yaml", EvalConfig, [unknown])
    with pytest.raises(GemkrError, match="engine is 'gpu'; use host, device, graph"):
        config.sources().retriever("gemkr")


def three_segments(material: Path, folder: Path) -> Collection:
    """The corpus in three segments, two of its documents deleted."""
    documents = list(read_corpus(material / "corpus.csv"))
    third = len(documents) // 3
    collection = Collection.create(folder, tokenizer=material / "t.model", documents=documents[:third])
    with mock.patch.object(Change, "settle"):
        collection.add(documents[third : 2 * third])
        collection.add(documents[2 * third :])
        collection.delete([documents[1].doc_id, documents[-1].doc_id])
    assert (len(collection.index.positives), collection.index.segment_count) == (3, 4)
    return collection


@pytest.mark.parametrize("words", ["true", "false"])
def test_a_collection_in_segments_is_searched_on_the_device(
    material: Path, tmp_path: Path, words: str
) -> None:
    three_segments(material, tmp_path / "c")
    runs = []
    for engine in ("host", "device", "graph"):
        settings = [f"corpus={tmp_path / 'c'}", f"retrievers.gemkr.index={tmp_path / 'c'}"]
        settings += [f"output={tmp_path / engine}", f"retrievers.gemkr.decoding.engine={engine}"]
        settings += [f"retrievers.gemkr.decoding.end_at_word={words}", "evaluate=[gemkr]"]
        assert main(["eval", str(material / "eval.yaml"), *settings]) == 0
        runs.append(list(read_records(tmp_path / engine / "gemkr" / "run.jsonl")))
    host = runs[0]
    assert all(ranking.hits for ranking in host)
    for run in runs[1:]:
        for ours, theirs in zip(run, host, strict=True):
            assert [(c.tokens, c.count, c.span) for c in ours.clues] == [
                (c.tokens, c.count, c.span) for c in theirs.clues
            ]
            assert [hit.doc_id for hit in ours.hits] == [hit.doc_id for hit in theirs.hits]
            np.testing.assert_allclose(
                [h.score for h in ours.hits], [h.score for h in theirs.hits], rtol=1e-4
            )


def test_the_index_of_shards_stays_on_the_host(material: Path, tmp_path: Path) -> None:
    create_shards(
        tmp_path / "s", 2, tokenizer=material / "t.model", documents=read_corpus(material / "corpus.csv")
    )
    settings = [f"corpus={tmp_path / 's'}", f"retrievers.gemkr.index={tmp_path / 's'}"]
    settings += ["retrievers.gemkr.decoding.engine=device", f"output={tmp_path / 'out'}", "evaluate=[gemkr]"]
    config = load_config(material / "eval.yaml", EvalConfig, settings)
    with pytest.raises(GemkrError, match="this one has shards; use the index on the host"):
        config.sources().retriever("gemkr")
