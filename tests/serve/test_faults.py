"""What is wrong with a request, or with the service, in one sentence that names it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from serve.tiny_service import LOCAL, problem, tiny_service
from starlette.testclient import TestClient

from gemkr.errors import ShardError
from gemkr.serve.app import create_app

KEY = "a key of nobody"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    service = tiny_service(tmp_path_factory.mktemp("tiny"))
    with TestClient(create_app(service, key=KEY), LOCAL, raise_server_exceptions=False) as client:
        client.service = service
        yield client


@pytest.mark.parametrize(
    ("body", "kind", "says"),
    [
        (b"", "application/json", "the request has no body; send one JSON object, as /openapi.json describes it"),
        (b'{"question": ', "application/json", "no JSON (Expecting value at character 13); send one JSON object"),
        (b'{"question": "x"}', "text/plain", "no JSON object; send one JSON object, as /openapi.json describes it"),
        (b'{"question": "\xff"}', "application/json", "no JSON that can be read ('utf-8' codec"),
        (b'{"queries": [{"question": "x"}, {"k": "many"}]}', "application/json", "queries.1.k: Input should be"),
        (b'{"question": "x", "a": 1, "b": 2}', "application/json", "the field a is unknown; leave it out or correct its name (/openapi.json lists all) (and 1 more)"),
    ],
)  # fmt: skip
def test_a_body_that_is_not_understood_is_told_what_to_send(
    client: TestClient, body: bytes, kind: str, says: str
) -> None:
    answer = client.post("/v1/retrieve", content=body, headers={"content-type": kind})
    assert says in problem(answer, answer.status_code)
    assert answer.status_code in (400, 422)


def test_what_is_missing_is_named(client: TestClient) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    says = problem(client.delete("/v1/documents", headers=headers), 422)
    assert says == "the parameter doc_id is missing; add it, as /openapi.json describes it"
    says = problem(client.post("/v1/documents", json={"documents": [{"text": "x"}]}, headers=headers), 422)
    assert says.startswith("the field documents.0.doc_id is missing; add it")
    assert "'/v1/nothing'; /openapi.json lists" in problem(client.get("/v1/nothing"), 404)
    assert "'/v1/retrieve' does not answer GET; use POST" in problem(client.get("/v1/retrieve"), 405)


def test_faults_of_the_service_are_logged_with_their_sentence(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def lost(*_: object) -> None:
        raise ShardError("the shard /srv/wiki/3 is lost (and '/srv/x/y.fmi'); start it again")

    monkeypatch.setattr(client.service, "following", lost)
    says = problem(client.get("/v1/index/next"), 500)
    assert says == "the shard 3 is lost (and 'y.fmi'); start it again"
    assert "/srv/wiki/3 is lost" in caplog.text
