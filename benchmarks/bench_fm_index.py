"""How fast and how large the FM-index is on a corpus, beside other libraries; prints a table and writes json.

    python benchmarks/bench_fm_index.py CORPUS --tokenizer MODEL [-o out.json] [--peers sdsl infini-gram fm-index]
    python benchmarks/bench_fm_index.py CORPUS --tokenizer MODEL --check benchmarks/fm_index_expected.json
    python benchmarks/bench_fm_index.py CORPUS --tokenizer MODEL --copies 4 --peers

Documents are bos + tokens + eos; states are what stands before random places of the corpus. Builds run in fresh
processes; their peak is what they add to the input. `--check` compares sizes and ratios to what ran beside, SDSL among them, never
seconds, and exits 1 where one is out of its bounds; what needs no corpus is checked by index_gate.py, in CI.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from index_measures import BATCH, TextSampler, best, build_alone, sizes, spans, timed

from gemkr.fm_index import FMIndex, Span, estimate_build

LENGTHS = (1, 2, 3, 5, 8)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--peers", nargs="*", default=["sdsl"], choices=["sdsl", "infini-gram", "fm-index"])
    parser.add_argument("--check", type=Path)
    parser.add_argument(
        "--copies", type=int, default=1, help="times the corpus, each copy with 5 %% other tokens"
    )
    parser.add_argument("--states", type=int, default=5000, help="single states measured per length")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        results = measure(args, Path(name))
    if args.output:
        args.output.write_text(json.dumps(results, indent=1) + "\n")
    print_table(results)
    return check(results, json.loads(args.check.read_text())["corpus"]) if args.check else 0


def measure(args: argparse.Namespace, folder: Path) -> dict:
    tokens, offsets, vocab = tokenize(args.corpus, args.tokenizer)
    tokens, offsets = copies_of(tokens, offsets, args.copies)
    np.save(folder / "tokens.npy", tokens)
    np.save(folder / "offsets.npy", offsets)
    results: dict = {
        "tokens": len(tokens),
        "documents": len(offsets) - 1,
        "build": {t: build_alone(folder, "plain", vocab_size=vocab, threads=t) for t in (1, 2)},
        "build_document_array": build_alone(folder, "docs", vocab_size=vocab, threads=1, document_array=True),
    }
    results["build_in_blocks"] = build_in_blocks(folder, vocab, results)
    index = FMIndex.load(folder / "plain.fmi")
    times = [timed(lambda: FMIndex.load(folder / "plain.fmi"))[0] for _ in range(20)]
    results["open_ms"] = 1e3 * float(np.median(times))
    results["size"] = sizes(index)
    places = TextSampler(tokens.astype(np.int64), offsets)
    results["states"] = {k: measure_states(index, places, k, args.states) for k in LENGTHS}
    rows = np.random.default_rng(3).integers(0, index.n_rows, 1000)
    for name, path in (("row_us", "plain.fmi"), ("row_us_document_array", "docs.fmi")):
        other = FMIndex.load(folder / path)
        other.threads = 1
        results[name] = 1e6 * best(lambda i=other: i.docs_of_rows(rows)) / len(rows)
    np.savez(folder / "states.npz", **{str(k): places.draw(k, BATCH)[0] for k in LENGTHS})
    results["peers"] = {name: peer(name, folder, vocab) for name in args.peers}
    return results


def tokenize(corpus: Path, model: Path) -> tuple[np.ndarray, np.ndarray, int]:
    """(tokens, offsets, vocabulary) with bos and eos around every document."""
    from gemkr.data.corpus import read_corpus
    from gemkr.text.tokenization import tokenize_corpus
    from gemkr.text.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(model)
    flat = tokenize_corpus(read_corpus(corpus), tokenizer)
    documents = len(flat.offsets) - 1
    offsets = flat.offsets + 2 * np.arange(documents + 1)
    tokens = np.empty(offsets[-1], flat.tokens.dtype)
    inside = np.ones(len(tokens), bool)
    inside[offsets[:-1]] = inside[offsets[1:] - 1] = False
    tokens[offsets[:-1]], tokens[offsets[1:] - 1] = 1, 2
    tokens[inside] = flat.tokens
    return tokens, offsets, tokenizer.vocab_size


def copies_of(tokens: np.ndarray, offsets: np.ndarray, copies: int) -> tuple[np.ndarray, np.ndarray]:
    """A larger corpus of the same kind: each further copy has one token in twenty drawn again from the corpus."""
    rng = np.random.default_rng(7)
    parts = [tokens]
    for _ in range(copies - 1):
        changed = rng.random(len(tokens)) < 0.05
        changed[offsets[:-1]] = changed[offsets[1:] - 1] = False
        copy = tokens.copy()
        copy[changed] = rng.choice(tokens, int(changed.sum()))
        parts.append(copy)
    starts = [offsets[:-1] + k * len(tokens) for k in range(copies)]
    return np.concatenate(parts), np.concatenate([*starts, [copies * len(tokens)]])


def build_in_blocks(folder: Path, vocab: int, results: dict) -> dict:
    """Builds under limits of 0.6 and 0.8 times the estimate for a build at once; the file must be the same."""
    guess = estimate_build(results["tokens"] + results["documents"], results["documents"])
    found = {}
    for share in (0.6, 0.8):
        limit = int(share * guess["peak_bytes"])
        if limit < 1.1 * guess["least_bytes"]:
            continue  # a small corpus
        run = build_alone(folder, "blocks", vocab_size=vocab, threads=1, memory_limit=limit)
        if (folder / "blocks.fmi").read_bytes() != (folder / "plain.fmi").read_bytes():
            raise SystemExit(
                f"the build under a limit of {limit:,} bytes gave another file than the build at once"
            )
        found[str(share)] = run | {"limit_bytes_per_token": limit / results["tokens"]}
    return found


def peer(name: str, folder: Path, vocab: int) -> dict | None:
    command = [sys.executable, str(Path(__file__).with_name("index_peers.py")), name, folder, str(vocab)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.splitlines()[-1])


def measure_states(index: FMIndex, places: TextSampler, k: int, single: int) -> dict:
    states, following = places.draw(k, BATCH)
    lo, hi = spans(index, states)
    out = np.empty((BATCH, index.mask_words), np.uint32)
    figures: dict = {"mean_successors": float(np.diff(index.next_tokens_many(lo, hi)[0]).mean())}
    for threads in (1, 2):
        index.threads = threads
        figures[f"mask_ms_{threads}"] = 1e3 * best(lambda: index.fill_mask(lo, hi, out))
    index.threads = 1
    figures["extend_batch_us"] = 1e6 * best(lambda: index.extend_many(lo, hi, following)) / BATCH
    states, following = places.draw(k, single, seed=1)
    lo, hi = spans(index, states)
    values = [Span(a, b, k) for a, b in zip(lo.tolist(), hi.tolist())]
    figures["next_us"] = quantiles([timed(lambda s=s: index.next_tokens(s))[0] for s in values])
    figures["extend_us"] = quantiles(
        [timed(lambda s=s, t=t: index.extend(s, t))[0] for s, t in zip(values, following.tolist())]
    )
    figures["search_us"] = quantiles([timed(lambda s=s: index.search(s))[0] for s in states[:1000].tolist()])
    return figures


def quantiles(seconds: list[float]) -> dict:
    values = np.percentile(np.array(seconds) * 1e6, [50, 99, 99.9])
    return {"p50": float(values[0]), "p99": float(values[1]), "p99.9": float(values[2])}


def print_table(r: dict) -> None:
    print(f"{r['documents']:,} documents, {r['tokens']:,} tokens")
    for threads, b in r["build"].items():
        stages = ", ".join(f"{k} {v:.2f}" for k, v in b["stages"].items())
        print(
            f"build {threads} thread(s): {b['seconds']:.2f} s = {b['mtok_s']:.2f} Mtok/s, peak "
            f"{b['peak_bytes_per_token']:.2f} bytes/token over the input, save {b['save_s']:.2f} s ({stages})"
        )
    for share, b in r["build_in_blocks"].items():
        print(
            f"build in blocks, limit {b['limit_bytes_per_token']:.2f} bytes/token ({share} of the estimate): "
            f"{b['seconds']:.2f} s, {b['cpu_s'] / r['build'][1]['cpu_s']:.2f} times the processor time, peak "
            f"{b['peak_bytes_per_token']:.2f} bytes/token"
        )
    s = r["size"]
    print(
        f"bits/token: search and next {s['search_and_next']:.2f}, locate {s['locate']:.2f}, file {s['file']:.2f}"
    )
    print("   " + ", ".join(f"{k} {v:.3f}" for k, v in s["sections"].items() if v >= 0.001))
    print(f"open {r['open_ms']:.3f} ms; document of a row {r['row_us']:.2f} us, ", end="")
    print(f"with document array {r['row_us_document_array']:.3f} us")
    for k, f in r["states"].items():
        quick = "  ".join(
            f"{name} {f[name + '_us']['p50']:.2f}/{f[name + '_us']['p99']:.2f}/{f[name + '_us']['p99.9']:.2f}"
            for name in ("search", "extend", "next")
        )
        print(
            f"after {k}: p50/p99/p99.9 us: {quick}; extend in batch {f['extend_batch_us']:.3f}; mask of {BATCH} "
            f"{f['mask_ms_1']:.3f} ms (2 threads {f['mask_ms_2']:.3f})"
        )
    for name, figures in r["peers"].items():
        print(f"{name}: {'not installed' if figures is None else json.dumps(figures)}")
    for name, value in ratios(r).items():
        print(f"{name:<34} {value:.3f}")


def ratios(r: dict) -> dict[str, float]:
    """What `--check` looks at: sizes, peaks, and ratios of times that were taken beside each other."""
    out = {
        "bits_search_and_next": r["size"]["search_and_next"],
        "bits_with_locate": r["size"]["search_and_next"] + r["size"]["locate"],
        "peak_bytes_per_token": r["build"][1]["peak_bytes_per_token"],
        "open_ms": r["open_ms"],
    }
    for share, b in r["build_in_blocks"].items():
        out[f"blocks_{share}_time_ratio"] = b["cpu_s"] / r["build"][1]["cpu_s"]
        out[f"blocks_{share}_peak_over_limit"] = b["peak_bytes_per_token"] / b["limit_bytes_per_token"]
    sdsl = r["peers"].get("sdsl")
    if sdsl:
        out["sdsl_build_ratio"] = sdsl["build_cpu_s"] / r["build"][1]["cpu_s"]
        out["sdsl_bits_ratio"] = sdsl["bits_per_token"] / r["size"]["file"]
        out["sdsl_row_ratio"] = sdsl["locate"] / r["row_us"]
        for k, f in r["states"].items():
            out[f"sdsl_mask_ratio_{k}"] = sdsl[str(k)]["mask_ms"] / f["mask_ms_1"]
            out[f"sdsl_extend_batch_ratio_{k}"] = sdsl[str(k)]["extend_p50"] / f["extend_batch_us"]
    return out


def check(results: dict, bounds: dict) -> int:
    """Print what is out of bounds; `bounds` has {"at_most": {ratio: x}, "at_least": {ratio: x}}."""
    found = ratios(results)
    if not results["peers"].get("sdsl"):
        print("ratios to SDSL are not compared, because it did not run (libsdsl-dev, --peers sdsl)")
    wrong = 0
    for side, sign in (("at_most", 1), ("at_least", -1)):
        for name, bound in bounds[side].items():
            if name in found and sign * found[name] > sign * bound:
                print(
                    f"out of bounds: {name} is {found[name]:.3f}, expected {side.replace('_', ' ')} {bound}",
                    file=sys.stderr,
                )
                wrong = 1
    return wrong


if __name__ == "__main__":
    raise SystemExit(main())
