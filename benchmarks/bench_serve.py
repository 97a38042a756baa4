"""Load on `gemkr serve`, on this machine: throughput, latencies and memory for several numbers of clients, every answer checked.

    python -m benchmarks.bench_serve quickstart --clients 1 8 32 --seconds 30

Starts the service as a process of its own, asks the configuration's own questions (their pictures by id), and compares each
answer's passages with those of the same question asked alone.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from gemkr.client import Client, ServiceError
from gemkr.config.files import load_config
from gemkr.config.packaged import find_config
from gemkr.data.queries import read_queries
from gemkr.evaluation.config import EvalConfig
from gemkr.types import Query

MOST_SECONDS = 60


@dataclass
class Load:
    """What the clients of one round saw."""

    seconds: list[float] = field(default_factory=list)
    together: list[int] = field(default_factory=list)
    wrong: int = 0
    refused: int = 0


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*", help="settings that replace the file's")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=30, help="of each round, 60 at most")
    parser.add_argument("--questions", type=int, default=64, help="how many different ones")
    parser.add_argument("--retriever", help="default: the configuration's first")
    args = parser.parse_args(argv)
    config = load_config(find_config(args.config, "eval"), EvalConfig, args.overrides)
    queries = list(islice(read_queries(config.require("queries")), args.questions))
    command = [sys.executable, "-m", "gemkr", "serve", args.config, *args.overrides, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            said = process.stdout.readline()
            client = Client(re.search(r"http://\S+", said)[0])
            while not client.ready():
                time.sleep(0.1)
            run(client, queries, args, process.pid)
        finally:
            process.terminate()
            process.wait(60)


def run(client: Client, queries: Sequence[Query], args: argparse.Namespace, pid: int) -> None:
    """All rounds: what each question finds alone, then the loads, one line each."""
    expected = [passages(client, query, args.retriever)[0] for query in queries]
    print(
        f"{'clients':>7} {'a second':>9} {'p50 ms':>7} {'p95 ms':>7} {'p99 ms':>7} {'batch':>6} {'cpu ms':>7} {'MB':>6} {'answers':>8} {'wrong':>6} {'refused':>8}"
    )
    for clients in args.clients:
        began, load, before = time.perf_counter(), Load(), cpu_seconds(pid)
        stop = began + min(args.seconds, MOST_SECONDS)
        threads = [
            threading.Thread(target=ask, args=(client, queries, expected, args.retriever, stop, seed, load))
            for seed in range(clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        elapsed, count = time.perf_counter() - began, len(load.seconds)
        p50, p95, p99 = np.percentile(1000 * np.array(load.seconds), [50, 95, 99])
        print(
            f"{clients:>7} {count / elapsed:>9.2f} {p50:>7.0f} {p95:>7.0f} {p99:>7.0f} {np.mean(load.together):>6.1f} "
            f"{1000 * (cpu_seconds(pid) - before) / count:>7.1f} "
            f"{megabytes(pid):>6.0f} {count:>8} {load.wrong:>6} {load.refused:>8}",
            flush=True,
        )


def ask(
    client: Client,
    queries: Sequence[Query],
    expected: Sequence[list[str]],
    retriever: str | None,
    stop: float,
    seed: int,
    load: Load,
) -> None:
    """One client: a question after another until the time is over."""
    order = random.Random(seed)
    while time.perf_counter() < stop:
        at = order.randrange(len(queries))
        began = time.perf_counter()
        try:
            found, together = passages(client, queries[at], retriever)
        except ServiceError as error:
            load.refused += 1
            time.sleep(error.retry_after or 0)
            continue
        load.seconds.append(time.perf_counter() - began)
        load.together.append(together)
        load.wrong += found != expected[at]


def passages(client: Client, query: Query, retriever: str | None) -> tuple[list[str], int]:
    """The ids of what a question finds, and how many questions were retrieved together."""
    found = client.ask(query.question, query.image, caption=query.caption, retriever=retriever)
    return [hit.document.doc_id for hit in found.hits], found.together


def cpu_seconds(pid: int) -> float:
    """The processor time that a process has taken, which other processes on the machine change little."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def megabytes(pid: int) -> float:
    """The memory that a process holds."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


if __name__ == "__main__":
    main()
