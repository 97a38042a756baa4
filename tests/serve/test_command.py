"""The command as processes: checks, signals, workers that die."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from serve.tiny_service import write_collection, write_config

from gemkr.cli import main
from gemkr.client import Client, ServiceError
from gemkr.errors import ConfigError
from gemkr.serve.server import serve
from gemkr.types import Document

TESTS = Path(__file__).resolve().parents[1]


def test_the_command_checks_and_serves_and_stops_in_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = str(write_config(tmp_path, pause=0.1))
    assert main(["serve", config, "--check"]) == 0
    assert capsys.readouterr().out.startswith("tiny: 1 hits, ")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", config, "--port", str(taken.getsockname()[1])]) == 1
    assert "choose another --host or --port" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="choose another --host or --port"):
        serve(config, [], {"host": "\udcff"}, 1)  # a byte that is no UTF-8
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


@pytest.mark.slow
def test_the_parent_waits_neither_for_the_dead_nor_for_those_who_load(tmp_path: Path) -> None:
    """Workers that sleep before their first line answer no question whether they are well."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, time\nif 'spawn_main' in ' '.join(sys.orig_argv): time.sleep(120)\n"
    )
    with _command(_loading(tmp_path), "--workers", "2", path=tmp_path) as process:
        process.stdout.readline()
        while len(first := _workers(process.pid)) < 2:
            time.sleep(0.1)
        time.sleep(2)  # the parent asks the first worker
        os.kill(first[0], signal.SIGKILL)
        deadline = time.monotonic() + 45
        while first[0] in _workers(process.pid) or len(_workers(process.pid)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=45)
    assert process.returncode == 0


@contextlib.contextmanager
def _command(config: Path, *more: str, path: Path = TESTS) -> Iterator[subprocess.Popen[str]]:
    """`gemkr serve` in a session of its own, as a terminal's is, ended with the block; `path` leads the module path."""
    paths = os.pathsep.join([str(path), str(TESTS), str(TESTS.parent)])
    with subprocess.Popen(
        [sys.executable, "-m", "gemkr", "serve", str(config), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _loading(folder: Path, **settings: Any) -> Path:
    (folder / "corpus.csv").write_text("kid,text\nd1,a red kite\n")
    path, given = folder / "serve.yaml", {"kind": "serve.tiny_service:Loading"} | settings
    path.write_text(f"corpus: corpus.csv\nretrievers: {{loading: {json.dumps(given)}}}\nserve: {{port: 0}}\n")
    return path


def _workers(parent: int) -> list[int]:
    """The processes that a service of several workers has made to answer."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(one) for one in children if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]
