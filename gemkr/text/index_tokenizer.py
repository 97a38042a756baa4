"""Whether an index, a tokenizer and the texts of a corpus belong together. Knows of an index only what `ForwardIndex` says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from gemkr.errors import TokenizerError
from gemkr.text.tokenizer import Tokenizer, fitted

SAMPLED = 16
"""Documents whose tokens are compared."""


class ForwardIndex(Protocol):
    """What an index knows of its tokenizer, and of its documents by number."""

    doc_ids: Sequence[str]
    tokenizer_fingerprint: str

    def __len__(self) -> int: ...

    def extract(self, doc: int) -> np.ndarray: ...

    def check_tokenizer(self, tokenizer: Tokenizer) -> None: ...


def tokenizer_of(index: ForwardIndex, tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer, reading texts as the index's did: normalized, or as they are written (`--keep-white-space`, and every index
    older than normalization). TokenizerMismatchError for another tokenizer than the index was built with."""
    found = fitted(tokenizer, index.tokenizer_fingerprint)
    index.check_tokenizer(found)
    return found


def require_same_texts(index: ForwardIndex, contents: Callable[[int], str], tokenizer: Tokenizer) -> None:
    """TokenizerError unless `SAMPLED` documents, spread over the corpus, have the tokens that the index holds of them.

    `contents` gives a document's text by number. A few milliseconds once the corpus is read.
    """
    for doc in np.unique(np.linspace(0, len(index) - 1, SAMPLED).astype(int)).tolist() if len(index) else ():
        if not np.array_equal(tokenizer.encode(contents(doc)), index.extract(doc)):
            raise TokenizerError(
                f"document {index.doc_ids[doc]!r} has other tokens in the index than {tokenizer.path} makes of the corpus; use "
                "the corpus and the tokenizer that the index was built with"
            )
