"""Would it pay that new questions join a running search between its steps, in place of waiting for its end?

    python -m benchmarks.bench_joining quickstart

Measures what the prompts and the steps of n questions cost in processor time, then simulates three ways to put questions together:
`window` waits 3 ms from the first question on, `return` (what `gemkr serve` does) 3 ms from the first question or the end of the batch
before, `join` takes waiting questions in before each step, their prompts read alone, merging caches free of charge. Clients ask again
1 ms after each answer, or questions come at random at a rate.
"""

from __future__ import annotations

import argparse
import heapq
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import mean

import numpy as np

from gemkr.config.files import load_config
from gemkr.config.packaged import find_config
from gemkr.data.queries import read_queries
from gemkr.evaluation.config import EvalConfig
from gemkr.retrievers.generative.retriever import GenerativeRetriever
from gemkr.types import Query

SIZES = (1, 2, 4, 8, 16, 32)
MOST, WINDOW, BACK, SIMULATED = 32, 0.003, 0.001, 60.0
"""Questions together at most; seconds of the window, until a client asks again, and of a simulation."""
POLICIES = ("window", "return", "join")


@dataclass(frozen=True)
class Costs:
    """Processor seconds of n questions at `SIZES`: reading the prompts, and one of `steps` steps (ranking shared out among them)."""

    prompts: Sequence[float]
    step: Sequence[float]
    steps: int

    def batch(self, n: int) -> float:
        return at(self.prompts, n) + self.steps * at(self.step, n)


def at(costs: Sequence[float], n: int) -> float:
    """A cost of n questions, linear between those measured."""
    return float(np.interp(n, SIZES, costs))


def measure(retriever: GenerativeRetriever, queries: Sequence[Query], repeats: int = 3) -> Costs:
    """What n questions cost, on this thread, the median of some repeats."""
    model, read, taken = retriever.model, [], []
    prefill, step = model.prefill, model.step

    def timed_prefill(prompts: Sequence[object]) -> object:
        began = time.thread_time()
        found = prefill(prompts)
        read.append(time.thread_time() - began)
        return found

    def counted_step(tokens: object, state: object) -> object:
        taken.append(1)
        return step(tokens, state)

    model.prefill, model.step = timed_prefill, counted_step
    prompts, steps, lengths = [], [], []
    for n in SIZES:
        runs = []
        for repeat in range(repeats + 1):  # the first warms up
            read.clear()
            taken.clear()
            began = time.thread_time()
            list(retriever.retrieve([queries[(repeat * n + i) % len(queries)] for i in range(n)], 5))
            runs.append((read[0], time.thread_time() - began - read[0], len(taken)))
        reading, rest, count = np.median(np.array(runs[1:]), axis=0)
        prompts.append(float(reading))
        steps.append(float(rest))
        lengths.append(count)
    longest = max(1, round(mean(lengths)))
    return Costs(prompts, [rest / longest for rest in steps], longest)


@dataclass(frozen=True)
class Outcome:
    """What askers saw: answers a second, seconds of an answer, questions together at a batch or a step."""

    rate: float
    seconds: float
    p95: float
    together: float


def simulate(costs: Costs, policy: str, *, clients: int = 0, rate: float = 0.0, seed: int = 1) -> Outcome:
    """One minute of `clients` that ask one question after another, or of questions at random, `rate` a second."""
    draw = random.Random(seed)
    coming = [draw.random() / 50 for _ in range(clients)]
    while rate and (not coming or coming[-1] < SIMULATED):
        coming.append((coming[-1] if coming else 0.0) + draw.expovariate(rate))
    heapq.heapify(coming)
    now = free = 0.0
    waiting: list[float] = []
    running: list[list[float]] = []  # when it came, steps left
    took, sizes = [], []
    while now < SIMULATED and (coming or waiting or running):
        if not waiting and not running:
            now = max(now, coming[0])
        while coming and coming[0] <= now:
            waiting.append(heapq.heappop(coming))
        if policy != "join":
            start = max(waiting[0], free if policy == "return" else 0.0) + WINDOW
            if now < start and len(waiting) < MOST:
                now = min(start, coming[0]) if coming else start
                continue
            running = [[came, 1] for came in waiting[:MOST]]
            del waiting[:MOST]
            now += costs.batch(len(running))
        else:
            new = waiting[: MOST - len(running)]
            del waiting[: len(new)]
            running += [[came, costs.steps] for came in new]
            now += (at(costs.prompts, len(new)) if new else 0.0) + at(costs.step, len(running))
        sizes.append(len(running))
        for one in running:
            one[1] -= 1
        for came, left in running:
            if not left:
                took.append(now - came)
                if clients:
                    heapq.heappush(coming, now + BACK)
        running, free = [one for one in running if one[1]], now
    return Outcome(len(took) / now, mean(took), float(np.percentile(took, 95)), mean(sizes))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*", help="settings that replace the file's")
    args = parser.parse_args(argv)
    config = load_config(find_config(args.config, "eval"), EvalConfig, args.overrides)
    retriever = config.sources().retriever(config.evaluated[0])
    costs = measure(retriever, list(islice(read_queries(config.require("queries")), 96)))
    print("questions  prompts ms  step ms  ms a question")
    for n, reading, step in zip(SIZES, costs.prompts, costs.step, strict=True):
        print(f"{n:>9} {1000 * reading:>11.1f} {1000 * step:>8.1f} {1000 * costs.batch(n) / n:>14.1f}")
    print(f"{costs.steps} steps a question\n\n{'':12}" + "".join(f"{policy:>26}" for policy in POLICIES))
    print(f"{'':12}" + f"{'a second  mean  p95 ms':>26}" * len(POLICIES))
    loads = [{"clients": n} for n in (1, 8, 32, 128)] + [{"rate": n} for n in (5, 10, 20, 40)]
    for load in loads:
        ((name, value),) = load.items()
        line = f"{f'{value} {name}' if name == 'clients' else f'{value} a second':12}"
        for policy in POLICIES:
            found = simulate(costs, policy, **load)
            line += f"{f'{found.rate:.1f}  {1000 * found.seconds:.0f}  {1000 * found.p95:.0f}':>26}"
        print(line)


if __name__ == "__main__":
    main()
