"""Documents and ids on their way into a build: all at once, or in parts that are not kept. Knows no index."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

import gemkr.fm_index._core as _core
from gemkr.fm_index.errors import IndexBuildError, IndexWriteError

HELD_BYTES = 64 << 20
"""Of tokens that a build under a memory limit holds while documents come in; a sixteenth of a smaller limit."""


def collect_parts(
    parts: Iterable[tuple[np.ndarray, np.ndarray, Sequence[str] | None]],
    limit: int,
    memory_limit: int | None,
    folder: bytes,
) -> _core.Builder:
    """A builder of all parts (tokens, lengths, ids) for ids below `limit`; with a memory limit tokens beyond `HELD_BYTES` wait in
    a nameless file of `folder`.

    Raises IndexBuildError, and IndexWriteError for a file that cannot be written.
    """
    held = 0 if memory_limit is None else max(min(HELD_BYTES, memory_limit // 16), 1)
    builder = _told(_core.Builder, limit, held, folder)
    for tokens, lengths, doc_ids in parts:
        offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        _told(builder.add_flat, tokens, offsets)
        add_ids(builder, doc_ids)
    return builder


def vocab_limit(vocab_size: int | None, tokenizer: Any) -> int:
    limit = vocab_size if vocab_size is not None else getattr(tokenizer, "vocab_size", None)
    if limit is None:
        return 0
    if not 1 <= limit < 2**31:
        raise IndexBuildError(f"vocab_size is {limit}, it must be 1 to {2**31 - 1}")
    return limit


def add_ids(builder: _core.Builder, doc_ids: Iterable[str] | None) -> None:
    if doc_ids is None:
        return
    builder.expect_ids()
    for doc_id in doc_ids:
        if not isinstance(doc_id, str):
            raise IndexBuildError(f"document id {doc_id!r} is a {type(doc_id).__name__}, ids are strings")
        try:
            builder.add_id(doc_id)
        except UnicodeEncodeError as error:
            raise IndexBuildError(f"document id {doc_id!r} cannot be written as UTF-8") from error


def _told(step: Callable[..., Any], *given: Any) -> Any:
    """The result of a step that may write to the temporary file."""
    try:
        return step(*given)
    except OSError as error:
        raise IndexWriteError(
            f"the build's temporary files: {error.strerror}; name another work_folder"
        ) from error
