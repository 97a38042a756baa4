"""A service that listens: its client, many clients at once, clients that leave, slow bodies, full queues."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from serve.live import listening
from serve.tiny_service import tiny_service

from gemkr.client import Client, Question, ServiceError
from gemkr.serve.service import Service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    return tiny_service(tmp_path_factory.mktemp("live"), body_seconds=3, queue=64)


@pytest.fixture(scope="module")
def url(service: Service) -> Iterator[str]:
    with listening(service) as url:
        yield url


def test_the_client_gets_what_the_service_has(url: str, service: Service) -> None:
    client = Client(url)
    assert client.ready()
    assert client.retrievers()[0]["name"] == "tiny"
    found = client.ask("Which animal hunts at night ?", retriever="bm25", k=2)
    assert [hit.document.doc_id for hit in found.hits] == ["d8", "d10"]
    assert found.hits[0].document == service.edition.documents.by_id("d8") == client.document("d8")
    hit = client.ask("Anything").hits[0]
    assert {hit.document.text[start:stop] for start, stop in hit.marks}
    assert client.following("is known")["next"][0]["documents"] == 4
    many = client.ask_many([Question(word, retriever="bm25", k=1) for word in ("owl", "sushi")])
    assert [one.hits[0].document.doc_id for one in many] == ["d10", "d3"]


def test_the_clients_stream_ends_with_the_answer(url: str) -> None:
    client = Client(url)
    *growing, last = client.stream(Question("What do llamas eat ?"))
    assert growing
    assert all(event.kind == "clues" for event in growing)
    assert last.found is not None
    assert last.found.hits == client.ask("What do llamas eat ?").hits


def test_the_clients_errors_are_the_services_sentences(url: str, tmp_path: Path) -> None:
    client = Client(url)
    with pytest.raises(ServiceError, match="no retriever is called 'no'") as error:
        client.ask("x", retriever="no")
    assert error.value.status == 404
    with pytest.raises(ServiceError, match="the question is empty"):
        list(client.stream(Question("")))
    with pytest.raises(ServiceError, match="read only"):
        client.delete(["d1"])
    with pytest.raises(ServiceError, match="cannot be read"):
        client.ask("x", tmp_path / "no.jpg")
    with pytest.raises(ServiceError, match="is `gemkr serve` running there"):
        Client("http://127.0.0.1:9", timeout=5).ask("x")
    for address in ("ftp://x", "http://x:many", "http://[::1", "http://"):
        with pytest.raises(ServiceError, match="is no address"):
            Client(address)
    with pytest.raises(ServiceError, match="no header carries"):
        Client(url, key="two\nlines")


@pytest.mark.parametrize(
    "sent", [b'data: {"clues": [', b"", b"event: clues\n", 'data: {"text": "é'.encode()[:-1]]
)
def test_a_stream_cut_short_is_the_clients_error(sent: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            connection.recv(65536)
            connection.sendall(head + (b"%x\r\n%b\r\n" % (len(sent), sent) if sent else b""))
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ServiceError, match=r"ended the stream before its answer|does not answer"):
            list(Client(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=10).stream(Question("x")))
        thread.join()


def test_32_clients_get_each_their_own_answer(url: str, service: Service) -> None:
    questions = [
        f"What about the {word} ?"
        for word in ("capital", "tea", "owl", "bear", "coast", "sushi", "lion", "day")
    ]
    expected = {
        (question, name): Client(url).ask(question, retriever=name)
        for question in questions
        for name in ("tiny", "both")
    }
    together: set[int] = set()

    def client(seed: int) -> None:
        order = random.Random(seed)
        for _ in range(6):
            asked = order.choice(list(expected))
            found = Client(url).ask(asked[0], retriever=asked[1])
            assert found.hits == expected[asked].hits
            assert found.clues == expected[asked].clues
            together.add(found.together)

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(client, range(32)))
    assert max(together) > 4


def test_a_client_that_leaves_stops_its_search(tmp_path: Path) -> None:
    slow = tiny_service(tmp_path, pause=0.25)
    with listening(slow) as url:
        model = slow.edition.retrievers["tiny"].model
        for path in ("/v1/retrieve", "/v1/retrieve/stream"):
            before = model.steps
            _send(url, "POST", path, b'{"question": "x"}').close()
            time.sleep(3)  # a whole search takes no longer
            assert model.steps - before < 7
        assert Client(url).ask("x").hits


def test_a_slow_body_is_refused_and_others_are_answered(url: str) -> None:
    slow = _send(url, "POST", "/v1/retrieve", b'{"quest', length=100)
    assert Client(url).ask("owl", retriever="bm25").hits
    slow.settimeout(10)
    answer = ""
    while not answer.endswith("}"):
        answer += slow.recv(65536).decode()
    assert answer.startswith("HTTP/1.1 408")
    assert "the body did not come within 3 s" in answer
    slow.close()


@pytest.mark.parametrize("sent", ["", "POST /v1/retr", "GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\nGET"])
def test_who_does_not_finish_a_head_is_let_go(url: str, sent: str) -> None:
    parts, began = urlsplit(url), time.monotonic()
    with socket.create_connection((parts.hostname, parts.port), timeout=12) as silent:
        silent.sendall(sent.encode())
        time.sleep(1)
        if sent:
            silent.sendall(b"x")  # every byte counts as a sign of life to uvicorn
        assert Client(url).ask("owl", retriever="bm25").hits
        while silent.recv(65536):
            pass
    assert 2.9 < time.monotonic() - began < 11


def test_an_answer_may_take_longer_than_a_head(tmp_path: Path) -> None:
    with listening(tiny_service(tmp_path, pause=0.25, body_seconds=0.5)) as url:
        assert Client(url).ask("x").hits


def test_a_full_queue_says_when_to_come_again(tmp_path: Path) -> None:
    with listening(tiny_service(tmp_path, pause=0.1, queue=1, batch_size=1)) as url:

        def ask(number: int) -> int:
            try:
                return len(Client(url).ask(f"question {number}").hits) and 200
            except ServiceError as error:
                return error.status if error.retry_after else 0

        with ThreadPoolExecutor(6) as pool:
            statuses = list(pool.map(ask, range(6)))
        assert set(statuses) == {200, 503}
        assert Client(url).ask("later").hits


def test_a_question_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    with (
        listening(tiny_service(tmp_path, pause=0.2, seconds=0.3)) as url,
        pytest.raises(ServiceError, match=r"not answered within 0\.3 s") as error,
    ):
        Client(url).ask("x")
    assert error.value.status == 504


def _send(url: str, method: str, path: str, body: bytes, length: int | None = None) -> socket.socket:
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname, parts.port))
    head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {length or len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection
