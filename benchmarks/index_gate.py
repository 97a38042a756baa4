"""The gate that CI holds the index to: sizes, ratios and instruction counts on generated text, never seconds.

    python benchmarks/index_gate.py            # measure, compare with fm_index_expected.json; exit status 1 beyond a limit
    python benchmarks/index_gate.py --renew    # measure, write the figures there

Needs no corpus: the text is drawn from a fixed seed, with words as frequent as natural ones and copies of earlier
stretches. Ratios are of the least processor times of calls made in turns in one process. A few seconds, half a minute
where valgrind counts instructions. Of each group, the file says on which side of its limit a figure is `wrong` and the
limit's `margin`, a share of the figure `measured`; --renew replaces the measured ones only.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import index_counts
import numpy as np
from index_measures import BATCH, TextSampler, build_alone, sizes, spans

from gemkr.fm_index import FMIndex, Span, estimate_build
from gemkr.fm_index.reference import ReferenceIndex

LIMITS = Path(__file__).with_name("fm_index_expected.json")
RENEW = "python benchmarks/index_gate.py --renew"
TOKENS, DOCUMENTS, VOCABULARY = 2_000_000, 16_000, 8_000
SMALL = 16_000
"""Tokens of the text that the twin can hold."""
AFTER = 3
"""Tokens of the states that ratios are taken after."""


def generated_text(tokens: int, documents: int) -> tuple[np.ndarray, np.ndarray]:
    """(uint16[tokens], int64[documents + 1]): the same ids on every machine and under every numpy."""
    random = np.random.RandomState(7)
    ids = VOCABULARY ** random.random_sample(tokens)
    text = ids.astype(np.uint16)
    for _ in range(tokens // 400):
        length = random.randint(20, 120)
        source, target = random.randint(0, tokens - length, 2)
        text[target : target + length] = text[source : source + length]
    return text, np.arange(documents + 1, dtype=np.int64) * tokens // documents


def measure(folder: Path) -> dict[str, dict[str, float]]:
    """Sizes in bits and bytes per token, peaks in bytes per token over the input, and ratios of processor times."""
    text, offsets = generated_text(TOKENS, DOCUMENTS)
    np.save(folder / "tokens.npy", text)
    np.save(folder / "offsets.npy", offsets)
    build = build_alone(folder, "plain", vocab_size=VOCABULARY, threads=1)
    index = FMIndex.load(folder / "plain.fmi")
    index.threads = 1
    size = sizes(index)
    peaks = {"build": build["peak_bytes_per_token"]}
    limit = int(1.2 * estimate_build(TOKENS + DOCUMENTS, DOCUMENTS)["least_bytes"])
    blocks = build_alone(folder, "blocks", vocab_size=VOCABULARY, threads=1, memory_limit=limit)
    if (folder / "blocks.fmi").read_bytes() != (folder / "plain.fmi").read_bytes():
        raise SystemExit(
            f"the build under a limit of {limit:,} bytes gave another file than the build at once"
        )
    return {
        "sizes": {
            "file_bytes_per_token": size["file"] / 8,
            "search_and_next_bits_per_token": size["search_and_next"],
            "locate_bits_per_token": size["locate"],
        },
        "peaks": peaks | {"build_in_blocks": blocks["peak_bytes_per_token"]},
        "slowdown": {"build_in_blocks": blocks["cpu_s"] / build["cpu_s"]},
        "one_by_one_over_batch": one_by_one_over_batch(index, TextSampler(text.astype(np.int64), offsets)),
        "reference_over_index": reference_over_index(),
    }


def one_by_one_over_batch(index: FMIndex, places: TextSampler) -> dict[str, float]:
    """How much sooner one batch of states is done than the same states one by one."""
    states, following = places.draw(AFTER, BATCH)
    lo, hi = spans(index, states)
    single = [Span(a, b, AFTER) for a, b in zip(lo.tolist(), hi.tolist())]
    tokens = following.tolist()
    rows = np.random.RandomState(3).randint(0, index.n_rows, 1000)
    return {
        "extend": ratio(
            lambda: [index.extend(s, t) for s, t in zip(single, tokens)],
            lambda: index.extend_many(lo, hi, following),
        ),
        "next_tokens": ratio(
            lambda: [index.next_tokens(s) for s in single], lambda: index.next_tokens_many(lo, hi)
        ),
        "docs_of_rows": ratio(
            lambda: [index.docs_of_rows(rows[i : i + 1]) for i in range(len(rows))],
            lambda: index.docs_of_rows(rows),
        ),
    }


def reference_over_index() -> dict[str, float]:
    """How much sooner the index answers than its Python twin, on a text that the twin can hold."""
    text, offsets = generated_text(SMALL, SMALL // 40)
    documents = [text[a:b].tolist() for a, b in pairwise(offsets)]
    index = FMIndex.build(documents, vocab_size=VOCABULARY, threads=1)
    twin = ReferenceIndex.build(documents, vocab_size=VOCABULARY)
    states, following = TextSampler(text.astype(np.int64), offsets).draw(1, 64)
    lo, hi = spans(index, states)
    masks = {one: np.empty((len(lo), one.mask_words), np.uint32) for one in (index, twin)}
    for one, mask in masks.items():
        one.fill_mask(lo, hi, mask)
    if not np.array_equal(masks[index], masks[twin]):
        raise SystemExit("the index and its twin allow other tokens after the same states")

    def over(call: Callable) -> float:
        return ratio(lambda: call(twin), lambda: call(index))

    return {
        "mask": over(lambda one: one.fill_mask(lo, hi, masks[one])),
        "extend": over(lambda one: one.extend_many(lo, hi, following)),
        "next_tokens": over(lambda one: one.next_tokens_many(lo, hi)),
        "build": ratio(
            lambda: ReferenceIndex.build(documents, vocab_size=VOCABULARY),
            lambda: FMIndex.build(documents, vocab_size=VOCABULARY, threads=1),
            times=3,
        ),
    }


def ratio(slow: Callable, fast: Callable, times: int = 20) -> float:
    """Least processor time of `slow` over that of `fast`, taken in turns."""
    pairs = [(_seconds(slow), _seconds(fast)) for _ in range(times)]
    return min(a for a, _ in pairs) / min(b for _, b in pairs)


def _seconds(call: Callable) -> float:
    """Processor time of a call, repeated until it can be measured."""
    calls, began = 0, time.process_time_ns()
    while (spent := time.process_time_ns() - began) < 4_000_000:
        call()
        calls += 1
    return spent / calls / 1e9


def violations(found: dict[str, dict[str, float]], limits: dict) -> list[str]:
    """One sentence for each figure beyond its limit, or without one: measured, limit, and how limits are renewed."""
    wrong = []
    for group, figures in found.items():
        side, margin, known = (limits[group][key] for key in ("wrong", "margin", "measured"))
        for name in sorted(figures.keys() ^ known.keys()):
            where = "is not measured any more" if name in known else f"has no limit in {LIMITS.name}"
            wrong.append(f"{group}: {name} {where}; renew the limits with `{RENEW}`")
        for name in sorted(figures.keys() & known.keys()):
            limit = known[name] * (1 + margin if side == "above" else 1 - margin)
            if figures[name] > limit if side == "above" else figures[name] < limit:
                wrong.append(
                    f"{group}: {name} is {figures[name]:.3f}, {side} its limit of {limit:.3f} ({known[name]:.3f} was measured, "
                    f"margin {margin:.0%}); if the change is meant, renew the limits with `{RENEW}`"
                )
    return wrong


def counted_with() -> str:
    """What instruction counts depend on: the compiler's major version and the processor's instructions."""
    version = subprocess.run(["c++", "--version"], capture_output=True, text=True, check=True).stdout
    number = subprocess.run(["c++", "-dumpversion"], capture_output=True, text=True, check=True).stdout
    name = "clang" if "clang" in version else "g++"
    processor = Path("/proc/cpuinfo").read_text().split()
    bits = " with bmi2" if "bmi2" in processor else ""
    return f"{name} {number.split('.')[0].strip()} on {platform.machine()}{bits}"


def uncounted(limits: dict) -> str | None:
    """Why instructions cannot be compared here, in one sentence; None where they can."""
    if (sentence := index_counts.missing()) is not None:
        return sentence
    if (known := limits["instructions"]["counted_with"]) != (here := counted_with()):
        return f"instructions are not compared, because they were counted with {known} and this is {here}"
    return None


def renew() -> None:
    """Measure everything again and write the figures; instructions keep theirs where they cannot be counted."""
    expected = json.loads(LIMITS.read_text())
    with tempfile.TemporaryDirectory() as name:
        found = measure(Path(name))
    if (sentence := index_counts.missing()) is None:
        found["instructions"] = index_counts.count()
        expected["gate"]["instructions"]["counted_with"] = counted_with()
    else:
        print(sentence)
    for group, figures in found.items():
        expected["gate"][group]["measured"] = _rounded(figures)
    LIMITS.write_text(json.dumps(expected, indent=1) + "\n")


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in figures.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--renew", action="store_true", help=f"write {LIMITS.name} instead of comparing with it"
    )
    if parser.parse_args().renew:
        renew()
        return 0
    limits = json.loads(LIMITS.read_text())["gate"]
    with tempfile.TemporaryDirectory() as name:
        found = measure(Path(name))
    if (sentence := uncounted(limits)) is None:
        found["instructions"] = index_counts.count()
    else:
        print(sentence)
    for group, figures in found.items():
        for name, value in figures.items():
            print(f"{group:<22} {name:<32} {value:12.3f}")
    wrong = violations(found, limits)
    for sentence in wrong:
        print(sentence, file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main())
