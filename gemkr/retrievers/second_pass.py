"""A second look at the documents found first: an index of theirs alone, and clues of both passes together.

After RetroLLM's future window (Li et al., 2024): under a few documents, beams that a large corpus would mislead early
reach the evidence. Knows indexes, clues and hits; the model that writes is the caller's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gemkr.decoding.config import DecodingConfig
from gemkr.fm_index import FMIndex, Span
from gemkr.interfaces import TokenIndex
from gemkr.retrievers.generative.scoring import ClueDocuments
from gemkr.types import Clue, Hit, Query


def second_settings(settings: DecodingConfig) -> DecodingConfig:
    """How the second pass decodes: like the first, but a clue does not end because one document is left.

    Under ten documents nearly every word names one, and such a clue would say little about the corpus.
    """
    return replace(settings, stop_at_one_document=False)


def window(
    index: TokenIndex, lookup: ClueDocuments, query: Query, clues: Sequence[Clue], hits: Sequence[Hit]
) -> FMIndex:
    """A small index over the documents of `hits`, a scorer's for `clues`; built in less than 1 ms for ten passages.

    Each hit is on some clue's shortlist or the document of some clue's first row.
    """
    first = [int(index.documents(Span(clue.span.lo, clue.span.lo + 1))[0][0]) for clue in clues]
    numbers = {index.doc_ids[doc]: doc for doc in (*first, *lookup.table(query, clues).docs.tolist())}
    docs = [np.asarray(index.extract(numbers[hit.doc_id])) for hit in hits]
    return FMIndex.build(docs, vocab_size=index.vocab_size, threads=1)


def merged(index: TokenIndex, first: Sequence[Clue], second: Sequence[Clue]) -> list[Clue]:
    """The clues of both passes, most probable first, each token sequence once; spans are those of `index`."""
    clues = {clue.tokens: clue for clue in first}
    for clue in second:
        if clue.tokens not in clues or clue.log_prob > clues[clue.tokens].log_prob:
            clues[clue.tokens] = replace(clue, span=_span(index, clue.tokens))
    return sorted(clues.values(), key=lambda clue: -clue.log_prob)


def _span(index: TokenIndex, tokens: Sequence[int]) -> Span:
    span = index.root
    for token in tokens:
        span = index.extend(span, token)
    return span
