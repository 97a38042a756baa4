"""The service on Ray Serve: its arguments, and questions to two replicas on a cluster of this machine."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from serve.tiny_service import write_config

from gemkr.errors import ConfigError
from gemkr.serve.ray_app import Arguments, _arguments, build_app

TESTS = Path(__file__).resolve().parents[1]
HAS_RAY = importlib.util.find_spec("ray") is not None and importlib.util.find_spec("ray.serve") is not None
CLUSTER = """
import sys, ray
from ray import serve
from gemkr.client import Client, Question, ServiceError
from gemkr.serve.ray_app import application
from gemkr.types import Document

port = int(sys.argv[2])
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
serve.start(http_options={"host": "127.0.0.1", "port": port})
serve.run(application({"config": sys.argv[1], "replicas": "2", "cpus": "0.5"}))
client = Client(f"http://127.0.0.1:{port}", key="wrong")
assert client.ready()
found = client.ask("Which animal hunts at night ?", retriever="bm25", k=2)
assert [hit.document.doc_id for hit in found.hits] == ["d8", "d10"], found
*growing, last = client.stream(Question("What do llamas eat ?"))
assert growing and last.found.hits == client.ask("What do llamas eat ?").hits
try:
    client.add([Document("n", "new")])
except ServiceError as error:
    assert error.status == 401, error
serve.shutdown()
ray.shutdown()
print("answered")
"""


def test_arguments_come_as_words_or_values() -> None:
    assert _arguments({"config": "a.yaml", "replicas": "2", "gpus": "0.5"}) == Arguments(
        config="a.yaml", replicas=2, gpus=0.5
    )
    for wrong, says in (
        ({}, "config: Field required"),
        ({"config": "a", "replica": 2}, "replica: Extra inputs"),
        ({"config": "a", "replicas": 0}, "replicas: Input should be greater than or equal to 1"),
    ):
        with pytest.raises(ConfigError, match=f"{says}.*the arguments are config, overrides, replicas"):
            _arguments(wrong)


def test_a_replica_loads_what_the_command_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMKR_API_KEY", "k")
    app = build_app(str(write_config(tmp_path)), ["serve={queue: 7, port: 0}"])
    assert app.state.batcher._queue == 7


@pytest.mark.slow
@pytest.mark.skipif(
    not HAS_RAY, reason="Ray Serve is not installed; pip install 'gemkr[ray-serve]' to test it"
)
def test_two_replicas_answer(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    done = subprocess.run(
        [sys.executable, "-c", CLUSTER, str(write_config(tmp_path)), str(port)],
        env=os.environ | {"PYTHONPATH": path, "GEMKR_API_KEY": "k", "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.stdout.strip().endswith("answered"), done.stderr[-3000:]
