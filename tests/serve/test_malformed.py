"""Requests made from the OpenAPI file and then bent: whatever comes is answered, and no fault is the service's.

GEMKR_MALFORMED=2000 sends so many.
"""

from __future__ import annotations

import json
import os
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serve.tiny_service import LOCAL, tiny_service
from starlette.testclient import TestClient

from gemkr.serve.app import create_app

MANY = int(os.environ.get("GEMKR_MALFORMED", "120"))
WORDS = st.text(max_size=30) | st.sampled_from(
    [
        "tiny",
        "bm25",
        "both",
        "animals",
        "d1",
        "12,7",
        "../../etc/passwd",
        "'\";--",
        "\u202e\x00",
        "%00",
        "test-0000",
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=8,
)
KINDS = st.sampled_from(
    ["application/json", "text/plain", "image/png", "multipart/form-data; boundary=x", ""]
)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory):
    service = tiny_service(tmp_path_factory.mktemp("bent"), most_bytes=200_000)
    with TestClient(create_app(service, key="secret"), LOCAL, raise_server_exceptions=False) as client:
        yield client


def bodies(schema: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """JSON with the fields that the schemas know, their values right, wrong or strange, and bytes of any kind."""
    names = {name for one in schema["components"]["schemas"].values() for name in one.get("properties", {})}
    fields = st.dictionaries(st.sampled_from(sorted(names)) | WORDS, VALUES, max_size=6)
    right = st.fixed_dictionaries(
        {"question": WORDS},
        optional={
            "retriever": st.sampled_from(["tiny", "bm25"]),
            "k": st.integers(-3, 200),
            "box": st.lists(st.floats(), max_size=5),
            "picture_base64": WORDS,
            "pool": WORDS,
        },
    )
    many = st.fixed_dictionaries({"queries": st.lists(right | fields, max_size=4)})
    documents = st.fixed_dictionaries({"documents": st.lists(fields, max_size=3)})
    made = st.one_of(right, many, fields, documents, VALUES)
    return st.binary(max_size=60) | made.map(lambda value: json.dumps(value).encode())


def test_whatever_comes_is_answered(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    places = [(method.upper(), path) for path, methods in schema["paths"].items() for method in methods]
    places = [place for place in places if place[1] not in ("/metrics",)]
    parameters = sorted(
        {
            p["name"]
            for methods in schema["paths"].values()
            for one in methods.values()
            for p in one.get("parameters", ())
        }
    )
    statuses: set[int] = set()

    @settings(max_examples=MANY, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.sampled_from(places) | st.tuples(st.sampled_from(["GET", "POST", "DELETE", "PUT"]), st.sampled_from([p for _, p in places])),
        WORDS, st.dictionaries(st.sampled_from(parameters) | WORDS, WORDS, max_size=3), bodies(schema), KINDS,
        st.sampled_from([None, "Bearer secret", "Bearer", "Basic eDp5", "Bearer \u00ff"]),
    )  # fmt: skip
    def send(place, part, query, body, kind, key) -> None:
        method, path = place
        raw = quote(part.encode("utf-8", "surrogatepass"), safe="/.")
        path = path.replace("{doc_id}", raw).replace("{image_id}", raw)
        headers = {"content-type": kind} | ({} if key is None else {"authorization": key.encode("latin-1")})
        try:
            request = client.build_request(method, path, params=query, content=body, headers=headers)
        except (ValueError, UnicodeError):  # what httpx refuses to send
            return
        answer = client.send(request)
        statuses.add(answer.status_code)
        assert answer.status_code < 500, (answer.status_code, answer.text, method, path, query, body)
        assert b"Traceback" not in answer.content
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == "application/problem+json", (answer.text, method, path)
            assert answer.json()["detail"]

    send()
    assert {200, 404, 422} <= statuses
    assert client.post("/v1/retrieve", json={"question": "owl", "retriever": "bm25"}).json()["hits"]
