"""The sample's questions through the service: the same passages as `gemkr retrieve`, one by one and 32 at once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from serve.live import listening

from gemkr.client import Client, Found, Question
from gemkr.config.files import load_config
from gemkr.config.packaged import find_config
from gemkr.data.queries import read_queries
from gemkr.data.records import read_records
from gemkr.evaluation.config import EvalConfig
from gemkr.serve.service import Service
from gemkr.types import Query, Ranking


@pytest.fixture(scope="module")
def asked(quickstart_folder: Path) -> list[tuple[Query, Ranking]]:
    """The questions that the quickstart's `gemkr eval` answered, with its answers."""
    queries = {query.query_id: query for query in read_queries(quickstart_folder / "data" / "test.jsonl")}
    run = read_records(quickstart_folder / "eval" / "full" / "gemkr" / "run.jsonl")
    return [(queries[ranking.query_id], ranking) for ranking in run]


@pytest.fixture(scope="module")
def client(quickstart_folder: Path) -> Iterator[Client]:
    patch = pytest.MonkeyPatch()
    patch.setenv("GEMKR_QUICKSTART", str(quickstart_folder))
    config = load_config(
        find_config("quickstart", "eval"), EvalConfig, ["serve={retrievers: [gemkr], batch_size: 32}"]
    )
    patch.undo()
    with listening(Service(config)) as url:
        yield Client(url)


def agrees(found: Found, expected: Ranking) -> bool:
    """The same passages and clues in the same order; scores within what batches of several sizes differ by."""
    return (
        [hit.document.doc_id for hit in found.hits] == [hit.doc_id for hit in expected.hits]
        and [hit.score for hit in found.hits] == pytest.approx([hit.score for hit in expected.hits], abs=1e-4)
        and [[e.text for e in hit.evidence] for hit in found.hits]
        == [[e.text for e in hit.evidence] for hit in expected.hits]
    )


def test_one_by_one(client: Client, asked: list[tuple[Query, Ranking]], quickstart_folder: Path) -> None:
    for number, (query, expected) in enumerate(asked[:6]):
        (file,) = (quickstart_folder / "data" / "images").glob(f"{query.image}.*")
        picture = query.image if number % 2 else file  # an id of the folder, and the file itself
        assert agrees(client.ask(query.question, picture, k=len(expected.hits)), expected)


def test_32_at_once(client: Client, asked: list[tuple[Query, Ranking]]) -> None:
    many = (asked * 2)[:32]

    def ask(one: tuple[Query, Ranking]) -> Found:
        query, expected = one
        return client.ask(query.question, query.image, k=len(expected.hits))

    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(ask, many))
    assert len(answers) == 32
    assert all(agrees(found, expected) for found, (_, expected) in zip(answers, many, strict=True))
    assert max(found.together for found in answers) > 8
    together = client.ask_many([Question(q.question, q.image, k=len(e.hits)) for q, e in many])
    assert all(agrees(found, expected) for found, (_, expected) in zip(together, many, strict=True))
