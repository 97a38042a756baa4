"""Mining with several processes: the same clues in the same order, and faults are told."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from toy_text import documents, train_byte_level

from gemkr.data.clues import write_clues
from gemkr.data.documents import DocumentStore
from gemkr.errors import DataError
from gemkr.fm_index import FMIndex
from gemkr.text.tokenizer import load_tokenizer
from gemkr.training.mining.many import CHUNK
from gemkr.training.mining.mine import Miner
from gemkr.training.mining.statistics import MiningStatistics, mine_all
from gemkr.types import Query

bm25_module = pytest.importorskip("gemkr.scorers.bm25")
pytest.importorskip("bm25s")

QUERIES = [
    Query("tokyo", "Which city is this?", "i1", answers=("tokyo", "Paris", "nowhere")),
    Query("neck", "What is special about this animal?", "i2", "a giraffe", answers=("long neck", "blue")),
    Query("nothing", "What?", "i6", answers=("zebra",)),
]


@pytest.fixture(scope="module")
def miner(tmp_path_factory: pytest.TempPathFactory) -> Miner:
    tokenizer, docs = load_tokenizer(train_byte_level(tmp_path_factory.mktemp("mine") / "bytes")), documents()
    encoded = tokenizer.encode_batch([document.contents for document in docs])
    index = FMIndex.build(encoded, [document.doc_id for document in docs], vocab_size=tokenizer.vocab_size)
    return Miner(index, DocumentStore(docs), tokenizer, bm25_module.BM25(docs))


def test_processes_mine_the_same_in_the_same_order(miner: Miner, tmp_path: Path) -> None:
    queries = [replace(query, query_id=f"{query.query_id}{i}") for i in range(20) for query in QUERIES]
    found = {}
    for processes in (1, 2, 3):
        statistics, seen, path = MiningStatistics(), [], tmp_path / f"{processes}.jsonl"
        clues = mine_all(miner, queries, statistics, processes=processes, done=partial(seen.append, 1))
        write_clues(path, clues)
        found[processes] = path.read_bytes(), list(statistics.lines()), len(seen)
    assert found[1] == found[2] == found[3]
    assert found[1][2] == len(queries) > 3 * CHUNK


def test_a_fault_in_a_process_is_told_and_leaves_no_file(
    miner: Miner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = [QUERIES[0]] * (4 * CHUNK) + [replace(QUERIES[0], positives=("d99",))]

    def written() -> int:
        return write_clues(
            tmp_path / "clues.jsonl", mine_all(miner, queries, MiningStatistics(), processes=2)
        )

    with pytest.raises(DataError, match="'d99' is not among"):
        written()
    monkeypatch.setattr(Miner, "mine", lambda miner, query: os._exit(9))
    with pytest.raises(DataError, match=r"a process that mined died.*--threads"):
        written()
    assert not list(tmp_path.iterdir())
