"""Which items are encoded together: those of like sizes, so that little of a batch is padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gemkr.types import Document

PICTURE = 1_000_000
"""What a picture counts beside the tokens of a text: items with one are encoded together."""


def like_sizes(sizes: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """The numbers 0 to len(sizes) - 1 in batches, the largest first: what does not fit into memory fails at once. Equal ones keep
    their order."""
    order = np.argsort(-np.asarray(sizes, np.int64), kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size].tolist()


def document_sizes(reader: Any, documents: Sequence[Document]) -> list[int]:
    """The tokens of each document by the `tokenizer` of its reader, if it has one, and whether it has a picture."""
    counts = token_counts(getattr(reader, "tokenizer", None), [document.contents for document in documents])
    return [
        count + PICTURE * (document.image is not None)
        for count, document in zip(counts, documents, strict=True)
    ]


def token_counts(tokenizer: Any, texts: Sequence[str]) -> list[int]:
    """Tokens of each text, however long; characters where the tokenizer is none of transformers'.

    Batches of 32 passages hold 2 to 3% of padding by tokens, and 26% by characters (benchmarks/vectors.md). Costs half a
    millisecond a passage.
    """
    from transformers import PreTrainedTokenizerBase

    if not texts or not isinstance(tokenizer, PreTrainedTokenizerBase):
        return [len(text) for text in texts]
    found = tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False)
    return [len(ids) for ids in found["input_ids"]]
