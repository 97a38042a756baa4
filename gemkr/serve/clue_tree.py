"""What the corpus lets follow a text: the next tokens that a clue could take, with counts and the documents that are left.

The same rules as decoding's: what is listed is what the model could write next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gemkr.decoding.matcher import ClueMatcher
from gemkr.errors import DataError
from gemkr.fm_index import Span

if TYPE_CHECKING:
    from gemkr.retrievers.generative.retriever import GenerativeRetriever

MOST_ROWS = 200_000
"""Beyond so many occurrences the documents of a clue are not counted."""
MOST_TOKENS = 64
SHOWN_DOCUMENTS = 8


class ClueTree:
    """The clues that a generative retriever may write, walked token by token."""

    def __init__(self, retriever: GenerativeRetriever) -> None:
        self.index, self.tokenizer = retriever.index, retriever.tokenizer
        decoding = retriever.decoding
        self._matcher = ClueMatcher(
            retriever.index,
            word_start=retriever.word_start if decoding.word_start else None,
            stop_tokens=retriever.model.eos_token_ids,
            borders=retriever.borders,
        )

    def tokens_of(self, text: str) -> list[int]:
        """The tokens of a typed text."""
        return [int(token) for token in self.tokenizer.encode(text)]

    def following(self, tokens: Sequence[int], starting: str = "", most: int = 40) -> dict[str, Any]:
        """What may follow `tokens`, most frequent first, of it what begins like `starting` (in any case).

        DataError for too many tokens. Cost: one query of the index, and locating the occurrences of what is shown.
        """
        if len(tokens) > MOST_TOKENS:
            raise DataError(f"a clue of {len(tokens)} tokens is longer than {MOST_TOKENS}; begin further on")
        strange = [token for token in tokens if not 0 <= token < self.tokenizer.vocab_size]
        if strange:
            raise DataError(
                f"the token {strange[0]} is not in the vocabulary of {self.tokenizer.vocab_size:,}; take tokens that the tree has listed"
            )
        span = self._span(tokens)
        found = {
            "tokens": list(tokens),
            "text": self.tokenizer.decode(tokens),
            "count": span.count if tokens else self.index.n_tokens,
            "documents": self._documents(span) if tokens else len(self.index),
            "doc_ids": self._doc_ids(span) if tokens else [],
            "may_end": False,
            "continuations": 0,
            "next": [],
        }
        if not span:
            return found | {"count": 0, "documents": 0, "doc_ids": []}
        lo, hi = np.array([span.lo], dtype=np.int64), np.array([span.hi], dtype=np.int64)
        last = np.array(tokens[-1:] or [0], dtype=np.int64)
        allowed = self._matcher.allowed(lo, hi, np.array([len(tokens)], dtype=np.int64), last)
        order = np.lexsort((allowed.tokens, -allowed.counts))
        wanted = starting.strip().casefold()
        shown = []
        for at in order.tolist():
            token = int(allowed.tokens[at])
            text = self._text(token)
            if text.strip().casefold().startswith(wanted):
                shown.append((token, text, int(allowed.counts[at])))
                if len(shown) == most:
                    break
        ends = bool(allowed.whole[0]) and bool(tokens)
        found |= {"may_end": ends, "continuations": len(allowed.tokens)}
        found["next"] = [
            {
                "token": token,
                "text": text,
                "count": count,
                "documents": self._documents(self._after(lo, hi, token, len(tokens) + 1)),
            }
            for token, text, count in shown
        ]
        return found

    def _span(self, tokens: Sequence[int]) -> Span:
        lo, hi = self._matcher.start(1)
        for token in tokens:
            if not 0 <= token < self.index.vocab_size:
                return Span(0, 0)
            lo, hi = self._matcher.extend(lo, hi, np.array([token], dtype=np.int64))
        return Span(int(lo[0]), int(hi[0]), len(tokens))

    def _after(self, lo: np.ndarray, hi: np.ndarray, token: int, length: int) -> Span:
        new_lo, new_hi = self._matcher.extend(lo, hi, np.array([token], dtype=np.int64))
        return Span(int(new_lo[0]), int(new_hi[0]), length)

    def _documents(self, span: Span) -> int | None:
        """How many documents hold a clue; None where it stands in too many places to count."""
        if span.count > MOST_ROWS:
            return None
        return len(self.index.documents(span)[0]) if span else 0

    def _doc_ids(self, span: Span) -> list[str]:
        if not span or span.count > MOST_ROWS:
            return []
        return [self.index.doc_ids[doc] for doc in self.index.documents(span, SHOWN_DOCUMENTS)[0].tolist()]

    def _text(self, token: int) -> str:
        return self.tokenizer.piece_bytes(token).decode("utf-8", errors="replace")
