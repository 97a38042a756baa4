"""What a beam search may choose from: the index's continuations, or (as a control) anything at all.

Joins the matcher's sets with the model's logits. It knows rows, spans and logits, not beams or queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch

from gemkr.decoding import logits as choose
from gemkr.decoding.logits import Candidates
from gemkr.decoding.matcher import ClueMatcher


class Constraint(Protocol):
    """The part of a beam search that knows which tokens may follow; spans are int64[n] arrays lo, hi, and `last`
    int64[n] the last tokens of the clues."""

    def start(self, n: int) -> tuple[np.ndarray, np.ndarray]: ...

    def extend(self, lo: np.ndarray, hi: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...

    def candidates(
        self, logits: Any, norm: Any, lo: np.ndarray, hi: np.ndarray, last: np.ndarray, length: int, k: int
    ) -> Candidates: ...

    def endings(self, lo: np.ndarray, hi: np.ndarray, last: np.ndarray) -> np.ndarray: ...

    def only_document(self, lo: int, hi: int) -> int | None: ...


class IndexConstraint:
    """Only tokens that continue a substring of the corpus; the CPU index answers while the model computes.

    `candidates` queries the index before it waits for the logits, so on a GPU the index works while the step
    that was launched just before still runs.
    """

    def __init__(self, matcher: ClueMatcher, eos_token_ids: Sequence[int]) -> None:
        self.matcher = matcher
        self.eos_token_ids = tuple(eos_token_ids)
        self.start, self.extend = matcher.start, matcher.extend
        self.only_document, self.endings = matcher.only_document, matcher.endings

    def candidates(
        self,
        logits: torch.Tensor,
        norm: torch.Tensor,
        lo: np.ndarray,
        hi: np.ndarray,
        last: np.ndarray,
        length: int,
        k: int,
    ) -> Candidates:
        """The k best allowed tokens of each row of logits [n, V], `norm` their `normalizer`.

        Every row has `length` tokens so far.
        """
        if length == 0:
            first = choose.sent(self.matcher.first_tokens, logits.device)
            found = choose.fetched(*choose.top_shared(logits, norm, first, k))
            return choose.candidates(*found, _never(len(lo)), np.zeros(len(lo), dtype=bool))
        allowed = self.matcher.allowed(lo, hi, np.full(len(lo), length), last)
        scores, tokens = choose.top_allowed(logits, norm, allowed, k)
        if not allowed.may_end.any():
            return choose.candidates(*choose.fetched(scores, tokens), _never(len(lo)), allowed.whole)
        ends = choose.end_log_probs(logits, norm, self.eos_token_ids)
        *found, end = choose.fetched(scores, tokens, ends)
        return choose.candidates(*found, np.where(allowed.may_end, end, -np.inf), allowed.whole)


class NoConstraint:
    """Every token is allowed and every clue may end: the control that shows what the index is worth."""

    def __init__(self, eos_token_ids: Sequence[int], min_tokens: int = 1) -> None:
        self.eos_token_ids = tuple(eos_token_ids)
        self.min_tokens = max(1, min_tokens)

    def start(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)

    def extend(self, lo: np.ndarray, hi: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return lo, hi

    def only_document(self, lo: int, hi: int) -> int | None:
        return None

    def endings(self, lo: np.ndarray, hi: np.ndarray, last: np.ndarray) -> np.ndarray:
        return np.ones(len(lo), dtype=np.int64)

    def candidates(
        self,
        logits: torch.Tensor,
        norm: torch.Tensor,
        lo: np.ndarray,
        hi: np.ndarray,
        last: np.ndarray,
        length: int,
        k: int,
    ) -> Candidates:
        found = choose.top_free(logits, norm, self.eos_token_ids, k)
        whole = np.ones(len(lo), dtype=bool)
        if length < self.min_tokens:
            return choose.candidates(*choose.fetched(*found), _never(len(lo)), whole)
        ends = choose.end_log_probs(logits, norm, self.eos_token_ids)
        return choose.candidates(*choose.fetched(*found, ends), whole)


def _never(n: int) -> np.ndarray:
    """float32[n]: the log-probability of an end that is not allowed."""
    return np.full(n, -np.inf, dtype=np.float32)
