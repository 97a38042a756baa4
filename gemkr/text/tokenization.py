"""A corpus as token ids: streamed part by part, or as one flat array, compact in memory.

Knows nothing of indexes beyond what their builder takes. Documents are encoded without BOS or EOS.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from gemkr.errors import TokenizerError
from gemkr.text.tokenizer import Tokenizer, fitted, load_tokenizer
from gemkr.text.word_tokens import REMEMBERED_BYTES, TextEncoder
from gemkr.types import Document

CHUNK_CHARACTERS = 1 << 20
DOCUMENT_CHARACTERS = 200
"""What a document takes of a chunk beside its text, which may be short, or missing beside a picture."""
SMALL_CORPUS_CHUNKS = 8


@dataclass(frozen=True, slots=True)
class TokenizedCorpus:
    """Document i holds `tokens[offsets[i]:offsets[i + 1]]`.

    tokens: uint16[n] for vocabularies up to 65,536, uint32[n] beyond; offsets: int64[documents + 1];
    doc_ids: one per document; corpus_hash: hexadecimal SHA-256 of ids and contents in order.
    """

    tokens: np.ndarray
    offsets: np.ndarray
    doc_ids: list[str]
    corpus_hash: str

    def __len__(self) -> int:
        return len(self.doc_ids)

    def document(self, doc: int) -> np.ndarray:
        """The tokens of document number `doc` (a view)."""
        return self.tokens[self.offsets[doc] : self.offsets[doc + 1]]


@dataclass(frozen=True, slots=True)
class TokenizedPart:
    """Some documents in a row: their tokens one after the other, int64[n] how many each has, and their ids."""

    tokens: np.ndarray
    counts: np.ndarray
    doc_ids: list[str]


def tokenize_corpus(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    *,
    processes: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> TokenizedCorpus:
    """Tokenize `Document.contents` of every document, in order; the result is the same for any `processes`.

    As `tokenized_parts`. `progress(documents, tokens)` is called after each part with the totals so far. Memory: the
    result, and a few parts.
    """
    flat = _GrowingArray(np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32)
    lengths = _GrowingArray(np.uint32)
    doc_ids: list[str] = []
    digest = hashlib.sha256()

    def hashed() -> Iterator[Document]:
        for document in documents:
            text = document.contents
            digest.update(f"{len(document.doc_id)} {len(text)} {document.doc_id}{text}".encode())
            yield document

    for part in tokenized_parts(hashed(), tokenizer, processes=processes):
        flat.append(part.tokens)
        lengths.append(part.counts)
        doc_ids += part.doc_ids
        if progress is not None:
            progress(len(doc_ids), flat.size)
    offsets = np.zeros(len(doc_ids) + 1, dtype=np.int64)
    np.cumsum(lengths.finish(), out=offsets[1:])
    return TokenizedCorpus(flat.finish(), offsets, doc_ids, digest.hexdigest())


def tokenized_parts(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    *,
    processes: int = 0,
    remembered_bytes: int = REMEMBERED_BYTES,
) -> Iterator[TokenizedPart]:
    """Read, normalize and tokenize documents in order, about a million characters at a time; nothing is kept.

    `processes` 0 means one per available core. Corpora below 8 Mi characters, and one core, stay in this thread. Beyond that,
    where words are apart (`TextEncoder`) they are tokenized in a thread while this one reads on; for other tokenizers new
    processes load the tokenizer from `tokenizer.path` (a script that calls this needs the usual
    `if __name__ == "__main__"`). Memory: a few parts per process, and `remembered_bytes` of words.
    """
    processes = processes or available_cores()
    waiting: deque[list[str]] = deque()

    def contents(chunk: list[Document]) -> list[str]:
        waiting.append([document.doc_id for document in chunk])
        return [document.contents for document in chunk]

    texts = (contents(chunk) for chunk in _chunks(documents))
    head = [chunk for _, chunk in zip(range(SMALL_CORPUS_CHUNKS if processes > 1 else 0), texts)]
    encoder = TextEncoder(tokenizer, remembered_bytes=remembered_bytes)
    encoded: Iterable[tuple[np.ndarray, np.ndarray]]
    if len(head) < SMALL_CORPUS_CHUNKS:
        encoded = map(encoder.encode, chain(head, texts))
    elif encoder.by_words:
        encoded = _in_a_thread(encoder, chain(head, texts))
    else:
        encoded = _in_processes(tokenizer, chain(head, texts), processes)
    for tokens, counts in encoded:
        yield TokenizedPart(tokens, counts, waiting.popleft())


def available_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _GrowingArray:
    """An array that grows in place (realloc), so that the end result never lies in memory twice."""

    def __init__(self, dtype: type[np.unsignedinteger]) -> None:
        self._array = np.empty(1 << 16, dtype=dtype)
        self.size = 0

    def append(self, values: np.ndarray) -> None:
        need = self.size + len(values)
        if need > len(self._array):
            self._array.resize(max(need, len(self._array) * 3 // 2), refcheck=False)
        self._array[self.size : need] = values
        self.size = need

    def finish(self) -> np.ndarray:
        self._array.resize(self.size, refcheck=False)
        return self._array


def _chunks(documents: Iterable[Document]) -> Iterator[list[Document]]:
    chunk: list[Document] = []
    characters = 0
    for document in documents:
        chunk.append(document)
        characters += len(document.text) + DOCUMENT_CHARACTERS
        if characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _in_a_thread(
    encoder: TextEncoder, chunks: Iterable[list[str]]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Encode chunks in order while the next ones are read, at most two of them waiting."""
    pending: deque[Future] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="tokenizing") as pool:
        try:
            for chunk in chunks:
                pending.append(pool.submit(encoder.encode, chunk))
                if len(pending) > 2:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _in_processes(
    tokenizer: Tokenizer, chunks: Iterable[list[str]], processes: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Encode chunks in order, at most two per process under way, so that a fast reader fills no memory."""
    context = multiprocessing.get_context("spawn")
    pending: deque[Future] = deque()
    with ProcessPoolExecutor(
        processes,
        mp_context=context,
        initializer=_Worker.start,
        initargs=(tokenizer.path, tokenizer.fingerprint()),
    ) as pool:
        try:
            for chunk in chunks:
                pending.append(pool.submit(_Worker.encode, chunk))
                if len(pending) >= 2 * processes:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool as error:
            raise TokenizerError(
                f"a process that tokenized with {tokenizer.path} died, perhaps for lack of memory; use fewer --threads"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class _Worker:
    """What lives once per tokenizing process."""

    encoder: TextEncoder

    @classmethod
    def start(cls, path: Path, fingerprint: str) -> None:
        tokenizer = fitted(load_tokenizer(path), fingerprint)
        cls.encoder = TextEncoder(tokenizer)
        if tokenizer.fingerprint() != fingerprint:
            raise TokenizerError(f"the tokenizer {path} changed while the corpus was tokenized; start again")

    @classmethod
    def encode(cls, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        return cls.encoder.encode(texts)
