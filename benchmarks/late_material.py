"""Tokens, queries and exact answers that bench_late_interaction.py measures engines by: drawn, or encoded passages."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from gemkr.interfaces import TokenVectors
from gemkr.vector_index.maxsim import picked
from gemkr.vector_index.token_exact import ExactTokenIndex
from gemkr.vector_index.token_store import FORMAT, TokenWriter, open_tokens

WIDTH, CENTRES, TOKENS, BLOCK, BATCH = 128, 5000, 120, 2048, 16
NOISE, QUERY_NOISE = 0.7, 0.5
"""Lengths of the noise beside a centre of length 1, and of what a query vector differs by from its token."""


def material(folder: Path, args: argparse.Namespace) -> str:
    """Tokens, queries and exact answers in a folder, made where they are not there; what they are, in words."""
    wanted = {
        name: getattr(args, name) for name in ("documents", "queries", "encoder", "precision", "corpus", "k")
    }
    note = folder / "made.json"
    if note.is_file():
        held = json.loads(note.read_text())
        if held["of"] != wanted:
            raise SystemExit(
                f"{folder} holds {held['of']}, not {wanted}; choose another folder, or delete it"
            )
        return held["made"]
    folder.mkdir(parents=True, exist_ok=True)
    made = draw(folder, args) if args.encoder is None else encode(folder, args)
    began = time.perf_counter()
    index, queries = ExactTokenIndex(tokens_of(folder)), queries_of(folder)
    np.save(
        folder / "exact.npy", np.concatenate([index.search(batch, args.k)[1] for batch in batches(queries)])
    )
    print(f"{made}; exact answers in {time.perf_counter() - began:.1f} s", file=sys.stderr)
    note.write_text(json.dumps({"of": wanted, "made": made}) + "\n")
    return made


def draw(folder: Path, args: argparse.Namespace) -> str:
    """Write random tokens and queries; the same ones for the same sizes."""
    random = np.random.default_rng(0)
    centres = _unit(random.standard_normal((CENTRES, WIDTH), np.float32))

    def blocks() -> Iterator[TokenVectors]:
        for start in range(0, args.documents, BLOCK):
            lengths = random.integers(TOKENS - 40, TOKENS + 41, min(BLOCK, args.documents - start))
            values = centres[random.integers(0, CENTRES, lengths.sum())]
            values += (NOISE / WIDTH**0.5) * random.standard_normal(values.shape, np.float32)
            yield TokenVectors(_unit(values), np.concatenate([[0], np.cumsum(lengths)]))

    write(folder, args.documents, blocks())
    tokens = tokens_of(folder)
    chosen = picked(tokens, np.sort(random.choice(args.documents, args.queries, replace=False)))
    rows = [
        random.choice(np.arange(start, stop), 32, replace=False)
        for start, stop in zip(chosen.offsets[:-1], chosen.offsets[1:], strict=True)
    ]
    values = chosen.values[np.concatenate(rows)].astype(np.float32)
    values += (QUERY_NOISE / WIDTH**0.5) * random.standard_normal(values.shape, np.float32)
    save_queries(folder, TokenVectors(_unit(values), np.arange(args.queries + 1) * 32))
    return f"{args.documents:,} drawn documents, {len(tokens.values):,} tokens, {args.queries} queries of 32 vectors"


def encode(folder: Path, args: argparse.Namespace) -> str:
    """Write the token vectors of passages and of a sentence of some."""
    from gemkr.data.corpus import read_corpus
    from gemkr.models.hf.multi_vector import MultiVectorTokenEncoder
    from gemkr.types import Query

    encoder = MultiVectorTokenEncoder.from_config(
        MultiVectorTokenEncoder.Config(
            folder=args.encoder, query_tokens=32, document_tokens=180, precision=args.precision, batch_size=8
        ),
        None,
    )
    documents = list(islice(read_corpus(args.corpus), args.documents))
    parts = (
        encoder.encode_documents(documents[start : start + 512]) for start in range(0, len(documents), 512)
    )
    write(folder, len(documents), parts)
    chosen = np.random.default_rng(0).choice(len(documents), args.queries, replace=False)
    asked = [Query(str(i), _sentence(documents[i].text)) for i in chosen.tolist()]
    save_queries(folder, encoder.encode_queries(asked))
    return f"{len(documents):,} passages of {Path(args.corpus).name}, {len(tokens_of(folder).values):,} tokens, {args.queries} queries"


def _sentence(text: str) -> str:
    """The longest of a passage's first three sentences, the first of which may be a title."""
    return max(text.split(". ")[:3], key=len)[:200]


def write(folder: Path, documents: int, blocks: Iterator[TokenVectors]) -> None:
    writer = TokenWriter(folder / "tokens", _plan(documents))
    for block in blocks:
        writer.add(block)
    writer.finish()
    (folder / "documents").write_text(str(documents))


def _plan(documents: int) -> dict:
    return {"format": FORMAT, "encoder": "drawn", "corpus": "drawn", "shape": [documents, WIDTH]}


def tokens_of(folder: Path) -> TokenVectors:
    return open_tokens(folder / "tokens", _plan(int((folder / "documents").read_text())), "draw them")


def save_queries(folder: Path, queries: TokenVectors) -> None:
    np.savez(folder / "queries.npz", values=queries.values, offsets=queries.offsets)


def queries_of(folder: Path) -> TokenVectors:
    held = np.load(folder / "queries.npz")
    return TokenVectors(held["values"], held["offsets"])


def batches(queries: TokenVectors) -> Iterator[TokenVectors]:
    n = len(queries.offsets) - 1
    for start in range(0, n, BATCH):
        yield picked(queries, np.arange(start, min(n, start + BATCH)))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
