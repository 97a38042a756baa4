"""Random changes of a collection against a list of documents: after every one, all calls of the index equal the naive twin's."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from unittest.mock import patch

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from segment_twin import assert_agree, patterns_of
from toy_text import train_sentencepiece

from gemkr.collection import merging, policy
from gemkr.collection.collection import Collection
from gemkr.errors import DataError
from gemkr.fm_index.reference import ReferenceIndex
from gemkr.types import Document

WORDS = ["a", "honey", "tokyo", "capital of", "giraffe", "the"]
TEXT = st.lists(st.sampled_from(WORDS), min_size=1, max_size=5).map(" ".join)
BATCH = st.dictionaries(st.sampled_from([f"d{i}" for i in range(14)]), TEXT, min_size=1, max_size=5)


class Changes(RuleBasedStateMachine):
    tokenizer: Path
    comparisons = 0

    @initialize(first=BATCH)
    def create(self, first: dict[str, str]) -> None:
        self.folder = Path(tempfile.mkdtemp()) / "c"
        self.model = dict(first)
        self.c = Collection.create(self.folder, tokenizer=self.tokenizer, documents=_documents(first))
        self.compare()

    @rule(batch=BATCH)
    def add(self, batch: dict[str, str]) -> None:
        known = batch.keys() & self.model.keys()
        if known:
            with pytest.raises(DataError, match="already in the collection"):
                self.c.add(_documents(batch))
        fresh = {doc_id: text for doc_id, text in batch.items() if doc_id not in known}
        self.c.add(_documents(fresh))
        self.model |= fresh
        self.compare()

    @rule(batch=BATCH)
    def update(self, batch: dict[str, str]) -> None:
        self.c.update(_documents(batch))
        self.model = {k: v for k, v in self.model.items() if k not in batch} | batch
        self.compare()

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        gone = data.draw(st.lists(st.sampled_from(sorted(self.model)), max_size=5, unique=True))
        self.c.delete(gone)
        for doc_id in gone:
            del self.model[doc_id]
        self.compare()

    @rule()
    def compact(self) -> None:
        self.c.compact()
        assert self.c.info()["segments"] <= 1
        self.compare()

    @rule()
    def reopen(self) -> None:
        self.c.verify()
        self.c = Collection.open(self.folder)
        self.compare()

    @rule(batch=BATCH, data=st.data())
    def compact_while_others_change(self, batch: dict[str, str], data: st.DataObject) -> None:
        """Documents, merged ones among them, are deleted and added between the begin of a merge and its commit."""
        gone = data.draw(st.lists(st.sampled_from([f"d{i}" for i in range(14)]), max_size=5, unique=True))
        merged = merging._merged

        def change_and_merge(*args):
            other = Collection.open(self.folder)
            other.update(_documents(batch))
            part = merged(*args)
            other.delete(gone, ignore_missing=True)
            self.model = {k: v for k, v in self.model.items() if k not in batch} | batch
            for doc_id in gone:
                self.model.pop(doc_id, None)
            return part

        with patch.object(merging, "_merged", change_and_merge):
            self.c.compact()
        self.compare()

    @rule(batch=BATCH)
    def crash(self, batch: dict[str, str]) -> None:
        """A change that stops before its commit."""

        def documents():
            yield from _documents(batch)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            self.c.update(documents())
        self.c = Collection.open(self.folder)
        self.compare()

    def compare(self) -> None:
        encode = self.c.tokenizer.encode
        docs = [encode(text) for text in self.model.values()]
        twin = ReferenceIndex.build(docs, list(self.model), vocab_size=self.c.tokenizer.vocab_size)
        patterns = patterns_of([*docs, encode(" ".join(WORDS))], most=12)
        type(self).comparisons += assert_agree(self.c.index, twin, patterns)
        assert [(d.doc_id, d.text) for d in self.c.documents] == list(self.model.items())
        assert [self.c.documents.number(doc_id) for doc_id in self.model] == list(range(len(self.model)))

    def teardown(self) -> None:
        shutil.rmtree(self.folder.parent, ignore_errors=True)


def _documents(batch: dict[str, str]) -> list[Document]:
    return [Document(doc_id, text) for doc_id, text in batch.items()]


@pytest.mark.parametrize("merge_from", [0, 40])
def test_every_state_answers_as_the_naive_twin(tmp_path: Path, monkeypatch, merge_from: int) -> None:
    """Segments are merged late (0) or early, so that many and few of them occur."""
    monkeypatch.setattr(policy, "SMALL_TOKENS", merge_from)
    machine = type("Here", (Changes,), {"tokenizer": train_sentencepiece(tmp_path / "tokenizer.model")})
    test = machine.TestCase()
    test.settings = settings(max_examples=2, stateful_step_count=8, deadline=None)
    test.runTest()
