"""How an index is built: the settings, checked and handed to the core, whose failures are told with the way out."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import TypedDict, TypeVar

import gemkr.fm_index._core as _core
from gemkr.fm_index.collect import vocab_limit
from gemkr.fm_index.errors import IndexBuildError, IndexWriteError
from gemkr.fm_index.plan import estimate_build
from gemkr.fm_index.tokenizers import Fingerprinted

DEFAULT_CONTEXT_BITS = 4.0
T = TypeVar("T", bound=_core.Index)
Progress = Callable[[str, float], None]
"""Called as `progress(stage, share)`, share in [0, 1]; what it raises stops the build."""


class BuildSettings(TypedDict, total=False):
    """What every way to build an index takes.

    vocab_size: token ids are below it; default the tokenizer's, else the largest id + 1.
    tokenizer: its fingerprint is stored (see `check_tokenizer`).
    sample_rate: locate walks this many steps at most (default 32); the price is (log2(n) - 5) / sample_rate bits per token.
    document_array: store the document of every row (log2(documents) bits each): one miss per lookup.
    threads: 0 (default) means all processors; the index is the same for any number.
    progress: called as the build goes on; what it raises stops the build.
    context_bits: bits per token that precomputed continuations may take (default 4); 0 leaves the root's only.
    memory_limit: bytes that the build may take beside the documents as they were handed in. Where building at once
        would pass it, the documents are sorted in blocks and merged, with temporary files (about 9 bytes per
        token) in work_folder. The index is the same, byte for byte. See `estimate_build`.
    work_folder: default the system's folder for temporary files. Its files have no names and vanish by themselves.
    """

    vocab_size: int | None
    tokenizer: Fingerprinted | None
    sample_rate: int
    document_array: bool
    threads: int
    progress: Progress | None
    context_bits: float
    memory_limit: int | None
    work_folder: str | os.PathLike[str] | None


def limit_of(settings: BuildSettings) -> int:
    """The bound of token ids, taken out of the settings; TypeError for one that does not exist."""
    unknown = settings.keys() - BuildSettings.__annotations__.keys()
    if unknown:
        raise TypeError(f"an index is built without the setting {min(unknown)!r}")
    return vocab_limit(settings.pop("vocab_size", None), settings.get("tokenizer"))


def finished(
    kind: type[T],
    builder: _core.Builder,
    tokenizer: Fingerprinted | None = None,
    sample_rate: int = 32,
    document_array: bool = False,
    threads: int = 0,
    context_bits: float = DEFAULT_CONTEXT_BITS,
    progress: Progress | None = None,
    wide_rows: bool = False,
    memory_limit: int | None = None,
    work_folder: str | os.PathLike[str] | None = None,
    block_rows: int = 0,
) -> T:
    """The index of everything that a builder holds. Raises IndexBuildError and IndexWriteError."""
    if sample_rate < 1 or threads < 0 or not 0 <= context_bits <= 64:
        raise IndexBuildError(
            f"sample_rate must be at least 1, threads at least 0 and context_bits 0 to 64, "
            f"got {sample_rate}, {threads} and {context_bits}"
        )
    if memory_limit is not None and memory_limit < 1:
        raise IndexBuildError(f"memory_limit is {memory_limit}, it must be at least one byte")
    fingerprint = "" if tokenizer is None else tokenizer.fingerprint()
    folder = os.fsencode(tempfile.gettempdir() if work_folder is None else work_folder)
    try:
        return kind(
            builder,
            sample_rate,
            document_array,
            threads,
            context_bits,
            fingerprint,
            wide_rows,
            progress,
            memory_limit or 0,
            block_rows,
            folder,
        )
    except MemoryError as error:
        guess = estimate_build(builder.rows, builder.documents)
        raise IndexBuildError(
            f"building an index of {builder.rows:,} rows takes about {guess['peak_bytes']:,} bytes, more than this "
            f"machine gives; set memory_limit (at least {guess['least_bytes']:,}) to build it in blocks"
        ) from error
    except OSError as error:
        raise IndexWriteError(
            f"the build's temporary files: {error.strerror}; name another work_folder or raise memory_limit"
        ) from error
