"""FMIndex: the thin Python handle over the C++ core. Takes documents, saves, loads, checks; every query is the core's own.

It knows files and arguments; the text, the suffix array and the file format are the core's business.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, Unpack

import numpy as np

import gemkr.fm_index._core as _core
from gemkr.fm_index._core import Span
from gemkr.fm_index.build import BuildSettings, finished, limit_of
from gemkr.fm_index.collect import add_ids, collect_parts
from gemkr.fm_index.errors import IndexFormatError, IndexWriteError
from gemkr.fm_index.ids import DocIds
from gemkr.fm_index.plan import estimate_build
from gemkr.fm_index.tokenizers import Fingerprinted, require_tokenizer

__all__ = ["FMIndex", "Span"]

PROBE_ROWS = 8
"""Rows read first when looking for the only document of a span; doubled until two documents show."""

PARTS = {
    "precomputed contexts": ("context_buckets", "context_entries", "context_lists"),
    "locate (sample rate)": ("marks", "samples", "starts", "ends"),
    "document array": ("doc_array",),
    "document ids": ("id_offsets", "ids"),
}


class FMIndex(_core.Index):
    """A full-text index of token sequences: counts, continuations and documents of any pattern, from one file.

    Make one with `FMIndex.build`, `FMIndex.build_flat` or `FMIndex.load`. It is immutable and may be read
    by any number of threads. Rows, spans and document numbers are Python ints and int64 arrays; a token
    outside the vocabulary is simply never found. Single queries keep the GIL (they take microseconds), the
    `_many` forms, `fill_mask`, `documents` and `locate` release it and use `threads` threads.
    """

    path: Path | None = None
    """The file that it was loaded from."""

    @classmethod
    def build(
        cls,
        docs: Iterable[Sequence[int] | np.ndarray],
        doc_ids: Iterable[str] | None = None,
        **settings: Unpack[BuildSettings],
    ) -> Self:
        """Build an index of `docs`, an iterable (a generator will do) of int sequences or 1-d integer arrays.

        doc_ids: one distinct string per document; default "0", "1", …. The settings are those of `BuildSettings`.

        Cost: about 0.1 µs and 8.5 bytes per token on one thread. Raises IndexBuildError, and IndexWriteError
        for temporary files that cannot be written.
        """
        builder = _core.Builder(limit_of(settings))
        for doc in docs:
            builder.add(doc)
        add_ids(builder, doc_ids)
        return finished(cls, builder, **settings)

    @classmethod
    def build_flat(
        cls,
        tokens: np.ndarray,
        offsets: np.ndarray,
        doc_ids: Iterable[str] | None = None,
        **settings: Unpack[BuildSettings],
    ) -> Self:
        """`build` for all documents in one integer array: document d is `tokens[offsets[d]:offsets[d + 1]]`.

        offsets: int64[documents + 1] from 0 to len(tokens). Raises IndexBuildError.
        """
        builder = _core.Builder(limit_of(settings))
        builder.add_flat(np.asarray(tokens), np.asarray(offsets))
        add_ids(builder, doc_ids)
        return finished(cls, builder, **settings)

    @classmethod
    def build_parts(
        cls,
        parts: Iterable[tuple[np.ndarray, np.ndarray, Sequence[str] | None]],
        *,
        planned: Callable[[dict[str, Any]], None] | None = None,
        **settings: Unpack[BuildSettings],
    ) -> Self:
        """`build` for documents that come in parts: (tokens one after the other, int64 number of tokens of each document, ids).

        A part is not kept: with a memory_limit tokens beyond `collect.HELD_BYTES` wait in work_folder, so the whole build keeps to the
        limit. `planned` is called with `estimate_build`'s figures once all parts have come.
        """
        limit, memory_limit = limit_of(settings), settings.get("memory_limit")
        folder = os.fsencode(settings.get("work_folder") or tempfile.gettempdir())
        builder = collect_parts(parts, limit, memory_limit, folder)
        if planned is not None:
            planned(
                estimate_build(
                    builder.rows,
                    builder.documents,
                    wide_symbols=limit > 65535,
                    threads=settings.get("threads") or len(os.sched_getaffinity(0)),
                    memory_limit=memory_limit,
                )
            )
        return finished(cls, builder, **settings)

    @classmethod
    def load(cls, path: str | os.PathLike[str], mmap: bool = True, verify: bool = False) -> Self:
        """Open a saved index. With `mmap` the file is mapped and shared with other readers: milliseconds.

        verify: read everything and compare the checksums first. Without it a damaged file may give wrong
        answers or IndexCorruptError, never worse.
        Raises IndexFormatError (no index, cut short, other version), IndexCorruptError (a checksum is wrong).
        """
        try:
            index = cls(os.fsencode(path), mmap)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise IndexFormatError(f"cannot open index {os.fspath(path)}: {reason}") from error
        index.path = Path(path)
        if verify:
            index.verify()
        return index

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the index as one file: to a temporary name beside it, synced, then renamed over `path`.

        At any moment the path holds the old file or the whole new one. Raises IndexWriteError.
        """
        target = Path(path)
        part = target.with_name(f"{target.name}.{os.getpid()}.part")
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
            try:
                self._write(descriptor)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(part, target)
            _sync_folder(target.parent)
        except OSError as error:
            _drop(part)
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise IndexWriteError(
                f"cannot write index {target} ({self._info()['file_bytes']:,} bytes): {reason}"
            ) from error
        except BaseException:
            _drop(part)
            raise

    def verify(self) -> None:
        """Read every byte of the file and compare all checksums. Raises IndexCorruptError naming the place.

        Cost: about 0.1 s per GB in memory. An index that was just built has nothing to compare.
        """
        self._verify()

    def check_tokenizer(self, tokenizer: Fingerprinted) -> None:
        """Raise TokenizerMismatchError unless the index was built with this tokenizer (or with none)."""
        require_tokenizer(self, tokenizer)

    def only_document(self, span: Span) -> int | None:
        """The document that holds every occurrence of a span, None where there are two or more, or none.

        Looks at few rows first, so that a wide span of many documents costs as little as a narrow one; only a pattern
        repeated within one document is read whole.
        """
        rows = PROBE_ROWS
        while True:
            docs, _ = self.documents(Span(span.lo, min(span.hi, span.lo + rows)), limit=2)
            if len(docs) != 1:
                return None
            if span.lo + rows >= span.hi:
                return int(docs[0])
            rows *= 2

    def info(self) -> dict[str, Any]:
        """The contents of the header: "sections" holds the bytes of each section, "bits_per_token" the price of each part."""
        header = self._info()
        sections = header["sections"]
        price = {part: sum(sections[name] for name in names) for part, names in PARTS.items()}
        price["search"] = sum(sections.values()) - sum(price.values())
        bits = {part: round(8 * size / max(self.n_tokens, 1), 3) for part, size in sorted(price.items())}
        return header | {"corpus_hash": self.corpus_hash, "threads": self.threads, "bits_per_token": bits}

    @property
    def doc_ids(self) -> DocIds:
        """The documents' outside names, decoded when read."""
        return DocIds(self)

    @property
    def tokenizer_fingerprint(self) -> str:
        """Fingerprint of the tokenizer, "" when the index was built without one."""
        return self._info()["tokenizer_fingerprint"]

    @property
    def corpus_hash(self) -> str:
        """Hash (16 hex digits) of all tokens, document borders and document ids."""
        return f"{self._info()['corpus_hash']:016x}"

    @property
    def mask_words(self) -> int:
        """Width of a row of `fill_mask`: ceil(vocab_size / 32)."""
        return -(-self.vocab_size // 32)

    def __repr__(self) -> str:
        return f"FMIndex({len(self)} documents, {self.n_tokens} tokens, vocabulary {self.vocab_size})"


def _drop(part: Path) -> None:
    with suppress(OSError):  # where not even its name can be, it was never made
        part.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
