"""The routes over a tiny service: answers, problems, limits, keys and headers."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from serve.tiny_service import LOCAL, STRANGE, problem, tiny_service
from starlette.testclient import TestClient

from gemkr.serve.app import create_app
from gemkr.serve.guard import allowed_hosts
from gemkr.types import Query

KEY = "a key of nobody"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    service = tiny_service(tmp_path_factory.mktemp("tiny"), most_bytes=100_000)
    with TestClient(create_app(service, key=KEY), LOCAL, raise_server_exceptions=False) as client:
        client.service = service
        yield client


def test_one_question_is_answered_as_the_retriever_answers_it(client: TestClient) -> None:
    service = client.service
    for name in ("tiny", "bm25", "both"):
        question = {"question": "What is the capital of Peru ?", "retriever": name, "k": 4}
        shown = client.post("/v1/retrieve", json=question).json()
        (expected,) = service.edition.retrievers[name].retrieve([Query("1", question["question"])], 4)
        assert [hit["doc_id"] for hit in shown["hits"]] == [hit.doc_id for hit in expected.hits]
        assert [hit["score"] for hit in shown["hits"]] == pytest.approx([hit.score for hit in expected.hits])
        assert [clue["text"] for clue in shown["clues"]] == [clue.text for clue in expected.clues]
        for hit, theirs in zip(shown["hits"], expected.hits, strict=True):
            assert hit["text"] == service.edition.documents.by_id(hit["doc_id"]).text
            assert [one["text"] for one in hit["evidence"]] == [one.text for one in theirs.evidence]
            for start, stop in hit["marks"]:
                assert any(
                    hit["text"][start:stop] in one["text"] or one["text"] in hit["text"][start:stop]
                    for one in hit["evidence"]
                )
            assert bool(hit["marks"]) == bool(hit["evidence"])


def test_several_questions_are_answered_in_order(client: TestClient) -> None:
    words = ["capital of Peru", "tea", "owl", "fish"]
    many = {"queries": [{"question": word, "retriever": "bm25", "k": 1} for word in words]}
    found = client.post("/v1/retrieve", json=many).json()["rankings"]
    alone = [client.post("/v1/retrieve", json=one).json() for one in many["queries"]]
    assert [r["hits"] for r in found] == [r["hits"] for r in alone]
    assert [r["hits"][0]["doc_id"] for r in found][2:] == ["d10", "d9"]


def test_parts_of_an_answer_are_left_out_on_request(client: TestClient) -> None:
    asked = {"question": "tea", "evidence": False, "clues": False}
    shown = client.post("/v1/retrieve", json=asked).json()
    assert "clues" not in shown
    assert not any("marks" in hit for hit in shown["hits"])


def test_a_pool_is_the_only_part_that_answers(client: TestClient) -> None:
    asked = {"question": "capital of Peru sleeps", "retriever": "bm25", "k": 9, "pool": "animals"}
    hits = client.post("/v1/retrieve", json=asked).json()["hits"]
    assert {hit["doc_id"] for hit in hits} <= {"d8", "d9", "d10", "d11"}
    assert hits


def test_clues_grow_in_a_stream_and_the_ranking_is_the_same(client: TestClient) -> None:
    asked = {"question": "What do llamas eat ?"}
    whole = client.post("/v1/retrieve", json=asked).json()
    with client.stream("POST", "/v1/retrieve/stream", json=asked) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        blocks = [block for block in "".join(answer.iter_text()).split("\n\n") if block.startswith("event")]
    events = [(b.split("\n")[0][7:], json.loads(b.split("\n")[1][6:])) for b in blocks]
    assert {name for name, _ in events[:-1]} == {"clues"}
    assert [data["step"] for _, data in events[:-1]] == list(range(1, len(events)))
    assert events[0][1]["clues"][0]["tokens"] == 1
    name, ranking = events[-1]
    assert name == "ranking"
    assert (ranking["hits"], ranking["clues"]) == (whole["hits"], whole["clues"])


def test_documents_are_given_as_they_are(client: TestClient) -> None:
    assert client.get("/v1/documents/strange/one").json()["text"] == STRANGE
    assert "no document 'd99'" in problem(client.get("/v1/documents/d99"), 404)


def test_the_retrievers_are_named_the_default_first(client: TestClient) -> None:
    shown = client.get("/v1/retrievers").json()
    assert [one["name"] for one in shown] == ["tiny", "bm25", "failing", "both"]
    assert [one["clues"] for one in shown] == [True, False, False, True]


def test_the_tree_lists_what_the_corpus_lets_follow(client: TestClient) -> None:
    found = client.get("/v1/index/next", params={"prefix": "is known"}).json()
    assert (found["count"], found["documents"]) == (4, 4)
    (only,) = found["next"]
    assert (only["text"].strip(), only["count"], only["documents"]) == ("for", 4, 4)
    tokens = ",".join(map(str, [*found["tokens"], only["token"]]))
    further = client.get("/v1/index/next", params={"tokens": tokens}).json()
    assert {one["text"].strip(): one["documents"] for one in further["next"]} == {
        "cheese": 1, "sushi": 1, "tea": 1, "potatoes": 1,
    }  # fmt: skip
    assert sorted(further["doc_ids"]) == ["d1", "d3", "d5", "d7"]
    root = client.get("/v1/index/next", params={"starting": "ni", "most": 5}).json()
    assert root["documents"] == 13
    assert {one["text"].strip() for one in root["next"]} == {"night"}
    assert client.get("/v1/index/next", params={"prefix": "Peru cheese"}).json()["documents"] == 0
    for tokens in ("999999999", ",".join(["5"] * 65)):
        problem(client.get("/v1/index/next", params={"tokens": tokens}), 422)
    assert "no clues" in problem(client.get("/v1/index/next", params={"retriever": "bm25"}), 404)


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"question": " "}, 422, "the question is empty"),
        ({"question": "x", "colour": 1}, 422, "the field colour is unknown; leave it out"),
        ({"question": "x", "k": 0}, 422, "k: Input should be greater"),
        ({"question": "x", "k": 101}, 422, "k is 101, the limit is 100"),
        ({"question": "x" * 2001}, 422, "has 2,001 characters, the limit is 2,000"),
        ({"question": "x", "retriever": "no"}, 404, "no retriever is called 'no'; there are tiny, bm25"),
        ({"question": "x", "pool": "no"}, 404, "no pool is called 'no'; there are animals"),
        ({"question": "x", "picture": "../corpus.csv"}, 422, "does not use pictures"),
        ({"question": "x", "picture_base64": "???"}, 422, "no base64"),
        ({"question": "x", "box": [0, 0, 1, 1]}, 422, "a box is part of a picture"),
        ({"queries": []}, 422, "queries: List should have at least 1 item"),
        ({"queries": [{"question": "x"}] * 33}, 422, "33 queries, the limit is 32"),
        ([1], 422, "the body is no JSON object; send one JSON object"),
        ({"question": "fail", "retriever": "failing"}, 500, "its log says why"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_sentence(client: TestClient, body: object, status: int, says: str) -> None:
    detail = problem(client.post("/v1/retrieve", json=body), status)
    assert says in detail
    assert "secret" not in detail


def test_a_fault_of_one_question_is_not_its_neighbours(client: TestClient) -> None:
    asked = [{"question": word, "retriever": "failing"} for word in ("a", "fail", "b")]
    assert [client.post("/v1/retrieve", json=one).status_code for one in asked] == [200, 500, 200]
    assert client.get("/ready").status_code == 200


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe", b'{"question": "\\ud800"}', b"[" * 50_000, b'{"k": ' + b"9" * 9_000 + b"}"],
)
def test_what_is_no_question_is_refused(client: TestClient, body: bytes) -> None:
    answer = client.post("/v1/retrieve", content=body, headers={"content-type": "application/json"})
    problem(answer, answer.status_code)
    assert answer.status_code in (400, 422)


def test_large_bodies_are_refused_before_they_are_read(client: TestClient) -> None:
    assert "more than 100,000 bytes" in problem(client.post("/v1/retrieve", content=b"x" * 100_001), 413)
    chunks = (b"x" * 30_000 for _ in range(5))  # without a length
    assert "more than 100,000 bytes" in problem(client.post("/v1/retrieve", content=chunks), 413)


def test_other_hosts_and_paths_are_refused(client: TestClient) -> None:
    assert "serve.hosts" in problem(client.get("/health", headers={"host": "evil.example"}), 421)
    for path in ("/nothing", "/page/../app.py", "/page/%2e%2e/app.py", "/v1/documents/../../../etc/passwd"):
        problem(client.get(path), 404)
    problem(client.get("/v1/retrieve"), 405)


def test_names_of_the_service_are_the_same_in_either_case() -> None:
    assert allowed_hosts("0.0.0.0", ["Kiosk.Example"]) == ("kiosk.example",)
    assert allowed_hosts("LocalHost", []) == allowed_hosts("127.0.0.1", []) != ()
    assert allowed_hosts("0.0.0.0", []) == ()


def test_every_answer_has_the_security_headers(client: TestClient) -> None:
    for answer in (client.get("/"), client.get("/nothing"), client.get("/health", headers={"host": "x.y"})):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_writing_needs_the_key_and_a_collection(client: TestClient) -> None:
    new = {"documents": [{"doc_id": "n", "text": "new"}]}
    assert "Authorization: Bearer KEY" in problem(client.post("/v1/documents", json=new), 401)
    for key in ("", "a key of nobod", KEY + "y", "\xff"):
        headers = {"authorization": f"Bearer {key}".encode("latin-1")}
        problem(client.post("/v1/documents", json=new, headers=headers), 401)
    headers = {"authorization": f"Bearer {KEY}"}
    assert "a corpus file, which stays" in problem(
        client.post("/v1/documents", json=new, headers=headers), 409
    )
    assert "a corpus file, which stays" in problem(
        client.delete("/v1/documents?doc_id=d1", headers=headers), 409
    )


def test_a_fault_of_the_service_is_a_problem_too(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a secret of the inside")

    monkeypatch.setattr(client.service, "following", broken)
    answer = client.get("/v1/index/next")
    assert problem(answer, 500) == "the service failed at this request; its log says why"
    assert answer.headers["content-security-policy"]
    assert "a secret of the inside" in caplog.text


def test_the_figures_count_what_was_done(client: TestClient) -> None:
    client.post("/v1/retrieve", json={"question": "owl", "retriever": "bm25"})
    text = client.get("/metrics").text
    assert 'gemkr_requests_total{route="/v1/retrieve",status="200"}' in text
    assert 'gemkr_stage_seconds_count{stage="retrieve"}' in text
    assert "gemkr_batch_size_bucket" in text
    assert "gemkr_queue 0.0" in text


def test_the_interface_describes_itself(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    assert {"/v1/retrieve", "/v1/retrieve/stream", "/v1/documents/{doc_id}", "/v1/index/next"} <= schema[
        "paths"
    ].keys()
    assert schema["components"]["schemas"]["Question"]["examples"]
