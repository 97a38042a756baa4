"""Tokenization of a corpus word by word beside the tokenizer itself, and kitoken where it is installed; ids must be equal.

    python benchmarks/bench_tokenize.py CORPUS --tokenizer TOKENIZER [...] [--limit PASSAGES]

Processor seconds of one thread where RAYON_NUM_THREADS=1; ratios are what to quote.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import chain, islice
from pathlib import Path

import numpy as np

from gemkr.data.corpus import read_corpus
from gemkr.text.normalize import normalize
from gemkr.text.tokenizer import Tokenizer, as_written, load_tokenizer
from gemkr.text.word_tokens import TextEncoder

BATCH = 1700


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--tokenizer", type=Path, nargs="+", required=True)
    parser.add_argument("--limit", type=int, help="only the first so many passages")
    args = parser.parse_args()
    texts = [normalize(document.contents) for document in islice(read_corpus(args.corpus), args.limit)]
    size = sum(len(text.encode()) for text in texts)
    print(f"{len(texts):,} passages, {size / 1e6:.1f} MB")
    for path in args.tokenizer:
        compare(as_written(load_tokenizer(path)), texts, size)


def compare(tokenizer: Tokenizer, texts: list[str], size: int) -> None:
    """Print the processor time of each way and its ratio to the tokenizer's; ValueError where ids differ."""
    encoder = TextEncoder(tokenizer)
    ways: dict[str, Callable[[list[str]], list[np.ndarray]]] = {
        "tokenizer itself": lambda some: [
            np.fromiter(chain.from_iterable(tokenizer.encode_batch(some)), np.int64)
        ],
        "word by word" if encoder.by_words else "as a whole": lambda some: [encoder.encode(some)[0]],
    }
    if (other := kitoken(tokenizer)) is not None:
        ways["kitoken"] = lambda some: [np.array(other(text), dtype=np.int64) for text in some]
    reference, first = None, 0.0
    for name, encode in ways.items():
        began = time.process_time()
        ids = np.concatenate(
            [each for at in range(0, len(texts), BATCH) for each in encode(texts[at : at + BATCH])]
        )
        seconds = time.process_time() - began
        reference, first = (ids, seconds) if reference is None else (reference, first)
        if not np.array_equal(ids, reference):
            raise ValueError(f"{name} makes other tokens than {tokenizer.path}")
        print(
            f"{tokenizer.path.name:<20} {name:<18} {seconds:6.2f} s  {size / 1e6 / seconds:6.1f} MB/s  {first / seconds:5.2f}"
        )


def kitoken(tokenizer: Tokenizer) -> Callable[[str], list[int]] | None:
    """The same tokenizer in kitoken (PyPI), None where that is not installed."""
    try:
        from kitoken import Kitoken
    except ImportError:
        return None
    if tokenizer.path.suffix == ".model":
        model = Kitoken.from_sentencepiece_file(str(tokenizer.path))
        return lambda text: model.encode(text, False)
    model = Kitoken.from_tokenizers_file(str(tokenizer.path / "tokenizer.json"))
    return lambda text: model.encode(f" {text}", False)


if __name__ == "__main__":
    main()
