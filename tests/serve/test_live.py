"""A service that listens: its client, many clients at once, clients that leave, slow bodies, full queues, SIGTERM."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from serve.live import listening
from serve.tiny_service import tiny_service, write_collection, write_config

from gemkr.cli import main
from gemkr.client import Client, Question, ServiceError
from gemkr.serve.service import Service
from gemkr.types import Document

TESTS = Path(__file__).resolve().parents[1]


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


@pytest.mark.parametrize("sent", ['data: {"clues": [', "", "event: clues\n"])
def test_a_stream_cut_short_is_the_clients_error(sent: str) -> None:
    head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            connection.recv(65536)
            connection.sendall(f"{head}{len(sent):x}\r\n{sent}\r\n".encode() if sent else head.encode())
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


def test_the_command_checks_and_serves_and_stops_in_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = str(write_config(tmp_path, pause=0.1))
    assert main(["serve", config, "--check"]) == 0
    assert capsys.readouterr().out.startswith("tiny: 1 hits, ")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", config, "--port", str(taken.getsockname()[1])]) == 1
    assert "choose another --host or --port" in capsys.readouterr().err
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", str(TESTS.parent))])
    command = [sys.executable, "-m", "gemkr", "serve", config]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    ) as process:
        said = process.stdout.readline()
        assert "this machine only" in said
        assert "read only without GEMKR_API_KEY" in said
        url = said.split(" at ")[1].split(" ")[0]
        client = Client(url)
        while not client.ready():
            time.sleep(0.05)
        answers: list[int] = []
        asking = threading.Thread(target=lambda: answers.append(len(client.ask("x").hits)))
        asking.start()
        while "gemkr_batch_size_count 0.0" in urlopen(f"{url}/metrics").read().decode():
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        asking.join(20)
        assert answers
        assert answers[0] > 0
        assert process.wait(20) == 0
        logged = [json.loads(line) for line in process.stderr if line.startswith("{")]
    assert {"id", "method", "route", "status", "ms"} == logged[-1].keys()


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_changes_reach_all_workers(tmp_path: Path) -> None:
    config = str(write_collection(tmp_path))
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    environment = os.environ | {"PYTHONPATH": path, "GEMKR_API_KEY": "k"}
    command = [sys.executable, "-m", "gemkr", "serve", config, "--workers", "2"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        client = Client(process.stdout.readline().split(" at ")[1].split(" ")[0], key="k")
        while not client.ready():
            time.sleep(0.2)
        first = _workers(process.pid)
        os.kill(first[0], signal.SIGKILL)
        for _ in range(
            20
        ):  # what the other worker answers; a connection that the killed one had taken is lost
            with contextlib.suppress(ServiceError):
                assert client.ask("Giraffes", retriever="bm25").hits[0].document.doc_id == "d2"
        while len(set(_workers(process.pid)) - {first[0]}) < 2:
            time.sleep(0.2)
        client.add([Document("kiosk", "The kiosk opens at nine.")])
        for _ in range(60):  # the other worker looks once a second
            found = {client.ask("kiosk", retriever="bm25").hits[0].document.doc_id for _ in range(12)}
            if found == {"kiosk"}:
                break
            time.sleep(0.5)
        assert found == {"kiosk"}
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def _command(config: Path, *more: str) -> subprocess.Popen[str]:
    """`gemkr serve` in a session of its own, as a terminal's is."""
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    return subprocess.Popen(
        [sys.executable, "-m", "gemkr", "serve", str(config), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
        start_new_session=True,
    )


def _loading(folder: Path, **settings: Any) -> Path:
    (folder / "corpus.csv").write_text("kid,text\nd1,a red kite\n")
    path, given = folder / "serve.yaml", {"kind": "serve.tiny_service:Loading"} | settings
    path.write_text(f"corpus: corpus.csv\nretrievers: {{loading: {json.dumps(given)}}}\nserve: {{port: 0}}\n")
    return path


@pytest.mark.slow
def test_ctrl_c_ends_two_workers_in_order(tmp_path: Path) -> None:
    with _command(_loading(tmp_path), "--workers", "2") as process:
        client = Client(process.stdout.readline().split(" at ")[1].split(" ")[0])
        while not client.ready() or len(_workers(process.pid)) < 2:
            time.sleep(0.2)
        time.sleep(2)  # the other worker loads as fast
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=60)[1]
        assert process.returncode == 0
    assert [line for line in said.splitlines() if not line.startswith("{")] == []


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_while_models_load_ends_the_service_at_once(tmp_path: Path, workers: str) -> None:
    begun = tmp_path / "begun"
    with _command(_loading(tmp_path, seconds=120, begun=str(begun)), "--workers", workers) as process:
        while not begun.exists():
            time.sleep(0.1)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=30)[1]
    assert "Traceback" not in said
    assert process.returncode == (-signal.SIGTERM if workers == "1" else 0)


def _workers(parent: int) -> list[int]:
    """The processes that a service of several workers has made to answer."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(one) for one in children if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]


def _send(url: str, method: str, path: str, body: bytes, length: int | None = None) -> socket.socket:
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname, parts.port))
    head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {length or len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection
