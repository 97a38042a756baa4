"""Load on `gemkr serve`, on this machine: throughput, latencies and memory for several numbers of clients, every answer checked.

    python -m benchmarks.bench_serve quickstart --clients 1 8 32 --seconds 30
    python -m benchmarks.bench_serve quickstart --clients 32 --soak 20000

Starts the service as a process of its own, asks the configuration's own questions (their pictures by id), and compares each
answer's passages with those of the same question asked alone. `wait` is the share of their time that questions waited for others to
gather and for the thread that retrieves. A soak asks until there are so many answers and has a line for each tenth of them, so that
memory that grows is seen.
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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from gemkr.client import Client, Found, ServiceError
from gemkr.config.files import load_config
from gemkr.config.packaged import find_config
from gemkr.data.queries import read_queries
from gemkr.evaluation.config import EvalConfig
from gemkr.types import Query

MOST_SECONDS = 60
SOAK_LINES = 10
HEAD = (
    f"{'clients':>7} {'a second':>9} {'p50 ms':>7} {'p95 ms':>7} {'p99 ms':>7} {'wait':>5} {'batch':>6} {'cpu ms':>7} {'MB':>6} "
    f"{'answers':>8} {'wrong':>6} {'refused':>8}"
)


@dataclass
class Load:
    """What the clients of one round saw: of each answer its seconds, those of them in the queue, and how many were retrieved together."""

    seconds: list[float] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    together: list[int] = field(default_factory=list)
    wrong: int = 0
    refused: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, seconds: float, found: Found, right: bool) -> None:
        with self.lock:
            self.seconds.append(seconds)
            self.waited.append(found.seconds["wait"])
            self.together.append(found.together)
            self.wrong += not right

    def refuse(self) -> None:
        with self.lock:
            self.refused += 1


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*", help="settings that replace the file's")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=30, help="of each round, 60 at most")
    parser.add_argument(
        "--soak", type=int, metavar="N", help="ask until there are N answers, however long it takes"
    )
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
    expected = [passages(ask(client, query, args.retriever)) for query in queries]
    print(HEAD)
    measure = partial(one_round, client, queries, expected, args.retriever, pid)
    for clients in args.clients:
        if args.soak is None:
            stop = time.perf_counter() + min(args.seconds, MOST_SECONDS)
            measure(clients, before(stop))
            continue
        part = -(-args.soak // SOAK_LINES)
        memory = [measure(clients, fewer_than(part)) for _ in range(SOAK_LINES)]
        print(f"{memory[-1] - memory[0]:+.0f} MB from the first tenth to the last")


def before(stop: float) -> Callable[[Load], bool]:
    return lambda load: time.perf_counter() < stop


def fewer_than(answers: int) -> Callable[[Load], bool]:
    return lambda load: len(load.seconds) < answers


def one_round(
    client: Client,
    queries: Sequence[Query],
    expected: Sequence[list[str]],
    retriever: str | None,
    pid: int,
    clients: int,
    goes_on: Callable[[Load], bool],
) -> float:
    """Ask with so many clients as long as `goes_on(load)`, and print a line; the service's megabytes afterwards."""
    began, load, before = time.perf_counter(), Load(), cpu_seconds(pid)

    def keep_asking(seed: int) -> None:
        order = random.Random(seed)
        while goes_on(load):
            at, asked = order.randrange(len(queries)), time.perf_counter()
            try:
                found = ask(client, queries[at], retriever)
            except ServiceError as error:
                load.refuse()
                time.sleep(error.retry_after or 0)
                continue
            load.add(time.perf_counter() - asked, found, passages(found) == expected[at])

    threads = [threading.Thread(target=keep_asking, args=(seed,)) for seed in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed, count, memory = time.perf_counter() - began, len(load.seconds), megabytes(pid)
    p50, p95, p99 = np.percentile(1000 * np.array(load.seconds), [50, 95, 99])
    print(
        f"{clients:>7} {count / elapsed:>9.2f} {p50:>7.0f} {p95:>7.0f} {p99:>7.0f} {sum(load.waited) / sum(load.seconds):>5.0%} "
        f"{np.mean(load.together):>6.1f} {1000 * (cpu_seconds(pid) - before) / count:>7.1f} {memory:>6.0f} {count:>8} "
        f"{load.wrong:>6} {load.refused:>8}",
        flush=True,
    )
    return memory


def ask(client: Client, query: Query, retriever: str | None) -> Found:
    return client.ask(query.question, query.image, caption=query.caption, retriever=retriever)


def passages(found: Found) -> list[str]:
    """The ids of what a question finds."""
    return [hit.document.doc_id for hit in found.hits]


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
