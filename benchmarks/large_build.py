"""An index far larger than the corpora at hand: perturbed copies of one as text, made while it is read, and measures of the index.

    mkfifo copies.csv; python -m benchmarks.large_build text CORPUS --copies 190 > copies.csv &
    gemkr index build copies.csv --tokenizer MODEL -o large.fmi --memory-limit 18
    python -m benchmarks.large_build measure large.fmi CORPUS --tokenizer MODEL

No copy is ever whole on the disk. Each after the first begins its passages at another word and has one word in ten drawn again from
the corpus; the same ones every time.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.index_measures import BATCH, TextSampler, best, sizes, spans, timed
from gemkr.cli.numbers import positive
from gemkr.data.corpus import read_corpus
from gemkr.fm_index import FMIndex, Span
from gemkr.text.index_tokenizer import tokenizer_of
from gemkr.text.tokenization import tokenize_corpus
from gemkr.text.tokenizer import load_tokenizer

LENGTHS = (1, 2, 3, 5, 8)
SINGLE = 2000
"""States that are timed one by one."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    text = actions.add_parser("text", help="write copies of a corpus as csv")
    text.add_argument("corpus", type=Path)
    text.add_argument("--copies", type=positive, required=True)
    text.set_defaults(act=write_text)
    look = actions.add_parser("measure", help="masks and next tokens after random places of the corpus")
    look.add_argument("index", type=Path)
    look.add_argument("corpus", type=Path)
    look.add_argument("--tokenizer", type=Path, required=True)
    look.set_defaults(act=print_measures)
    args = parser.parse_args()
    args.act(args)
    return 0


def write_text(args: argparse.Namespace) -> None:
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow(("kid", "text"))
    texts = [document.contents for document in read_corpus(args.corpus)]
    for copy in range(args.copies):
        rows.writerows((f"{copy}-{i}", text) for i, text in enumerate(perturbed(texts, copy)))


def perturbed(texts: list[str], copy: int) -> Iterator[str]:
    """The texts of one copy; the first is the corpus itself."""
    if copy == 0:
        yield from texts
        return
    random = np.random.default_rng(copy)
    drawn = _words_of(texts, random)
    for text in texts:
        words = text.split()
        n = len(words)
        places = random.integers(0, n, n // 10 + 1).tolist()
        for place in places:
            words[place] = next(drawn)
        start = places[0]
        yield " ".join(words[start:] + words[:start])


def _words_of(texts: list[str], random: np.random.Generator) -> Iterator[str]:
    """Words of the corpus as often as they stand in it, without end."""
    while True:
        for number in random.integers(0, len(texts), 4096).tolist():
            yield from texts[number].split()


def print_measures(args: argparse.Namespace) -> None:
    index = FMIndex.load(args.index)
    index.threads = 1
    tokenizer = tokenizer_of(index, load_tokenizer(args.tokenizer))
    size = sizes(index)
    print(f"{index.n_tokens:,} tokens, {len(index):,} documents")
    print("bits a token: " + ", ".join(f"{k} {v:.2f}" for k, v in size.items() if k != "sections"))
    flat = tokenize_corpus(islice(read_corpus(args.corpus), 20_000), tokenizer)
    places = TextSampler(flat.tokens.astype(np.int64), flat.offsets)
    mask = np.empty((BATCH, index.mask_words), np.uint32)
    for k in LENGTHS:
        states, _ = places.draw(k, BATCH)
        lo, hi = spans(index, states)
        successors = float(np.diff(index.next_tokens_many(lo, hi)[0]).mean())
        filled = 1e3 * best(lambda lo=lo, hi=hi: index.fill_mask(lo, hi, mask))
        states, following = places.draw(k, SINGLE, seed=1)
        single = [Span(a, b, k) for a, b in zip(*(side.tolist() for side in spans(index, states)))]
        asked = _quantiles([timed(lambda s=s: index.next_tokens(s))[0] for s in single])
        grown = _quantiles(
            [timed(lambda s=s, t=t: index.extend(s, t))[0] for s, t in zip(single, following.tolist())]
        )
        print(
            f"after {k}: {successors:.0f} successors, mask of {BATCH} states {filled:.2f} ms; p50 / p99 / p99.9 us: next tokens {asked}, "
            f"extend {grown}"
        )


def _quantiles(seconds: list[float]) -> str:
    return " / ".join(f"{1e6 * value:.1f}" for value in np.percentile(seconds, [50, 99, 99.9]))


if __name__ == "__main__":
    sys.exit(main())
