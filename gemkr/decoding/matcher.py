"""From spans to allowed tokens: what may follow each beam, when a clue may end, which document it names.

numpy only. It knows an index as `TokenIndex`; it knows nothing of logits, models or beams.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from gemkr.errors import DecodingError
from gemkr.fm_index import Span
from gemkr.interfaces import TokenIndex
from gemkr.text.borders import WORD, Borders


@dataclass(frozen=True, slots=True)
class Allowed:
    """The tokens that may follow n clues, as CSR: row i is `tokens[indptr[i]:indptr[i + 1]]`, sorted.

    `indptr` int64[n + 1], `tokens` int64[m], `counts` int64[m] (exact occurrences of the extended clue),
    `may_end` bool[n]: the model may end the clue here; `whole` bool[n]: it ends between characters or words, as the borders
    ask. A row without tokens is a dead end: the clue can only be finished as it stands, where it is whole.
    """

    indptr: np.ndarray
    tokens: np.ndarray
    counts: np.ndarray
    may_end: np.ndarray
    whole: np.ndarray

    @property
    def widths(self) -> np.ndarray:
        """Number of allowed tokens of each row, int64[n]."""
        return np.diff(self.indptr)


class ClueMatcher:
    """The rules of a clue over one index; holds no state of any beam, so one matcher serves all queries.

    A clue's first token must start a word when `word_start` (bool[V], V >= the index's vocabulary) is
    given. A clue of at least `min_tokens` tokens may end where the model ends it (`allow_eos`) or, with
    `allow_eos=False`, only where an occurrence stands at the end of a document. The ids in `stop_tokens`
    (the model's end tokens) never continue a clue, even if the corpus holds them.

    With `borders`, clues begin and end at these: of the occurrences of a clue, one at least must be followed by a token that
    may stand behind an end, or by the document's; tokens without a text occur in no clue.

    Raises DecodingError for an index without tokens, for a `word_start` that is too short, and where no
    token may begin a clue.
    """

    def __init__(
        self,
        index: TokenIndex,
        *,
        word_start: np.ndarray | None = None,
        stop_tokens: Iterable[int] = (),
        min_tokens: int = 1,
        allow_eos: bool = True,
        borders: Borders | None = None,
    ) -> None:
        self.index = index
        self.borders = borders
        self.min_tokens = max(1, min_tokens)
        self.allow_eos = allow_eos
        root = index.root
        lo, hi = np.array([root.lo], dtype=np.int64), np.array([root.hi], dtype=np.int64)
        _, tokens, counts = index.next_tokens_many(lo, hi)
        tokens, counts = tokens.astype(np.int64), counts.astype(np.int64)
        if len(tokens) == 0:
            raise DecodingError(
                "the index holds no tokens, so there is no clue to decode; build it from a corpus with text, or add documents to an "
                "empty collection (gemkr collection add)"
            )
        keep = ~np.isin(tokens, np.fromiter(stop_tokens, dtype=np.int64))
        if borders is not None:
            _require_width("borders cover", len(borders.first), index.vocab_size)
            keep &= borders.texts[tokens]
        self.banned = tokens[~keep]
        if borders is not None:
            keep &= borders.begins[tokens]
        if word_start is not None:
            word_start = np.asarray(word_start, dtype=bool)
            _require_width("word_start covers", len(word_start), index.vocab_size)
            keep &= word_start[tokens]
        if not keep.any():
            raise DecodingError(
                f"none of the index's {len(tokens)} tokens may begin a clue (word starts only, end tokens left"
                " out); set word_start to false or check that tokenizer and index belong together"
            )
        self.first_tokens, self.first_counts = tokens[keep], counts[keep]

    def start(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Spans of n empty clues: (lo, hi), int64[n] each."""
        root = self.index.root
        return np.full(n, root.lo, dtype=np.int64), np.full(n, root.hi, dtype=np.int64)

    def extend(self, lo: np.ndarray, hi: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Append one token to each clue; int64[n] in and out. One `extend` per beam and step."""
        lo, hi = self.index.extend_many(lo, hi, tokens)
        return np.asarray(lo, dtype=np.int64), np.asarray(hi, dtype=np.int64)

    def allowed(
        self, lo: np.ndarray, hi: np.ndarray, lengths: np.ndarray, last: np.ndarray | None = None
    ) -> Allowed:
        """What may follow clues with the spans [lo, hi) (int64[n]), `lengths` tokens (int64[n]) and the last tokens `last`
        (int64[n]; looked at where there are borders, and the clue is not empty).

        One batched call into the index; the rest costs O(number of allowed tokens).
        """
        indptr, tokens, counts = self._following(lo, hi)
        lengths = np.asarray(lengths, dtype=np.int64)
        if self.borders is None:
            whole = np.ones(len(lengths), dtype=bool)
        else:
            ends = np.repeat(self.borders.last[last], np.diff(indptr)) * self.borders.first[tokens] > WORD
            whole = _sums(ends, indptr) > 0
        may_end = lengths >= self.min_tokens
        if self.borders is not None or not self.allow_eos:
            at_end = (hi - lo) > _sums(counts, indptr)
            whole |= at_end
            may_end &= whole if self.allow_eos else at_end
        first = lengths == 0
        drop = np.zeros(len(tokens), dtype=bool)
        for banned in self.banned:
            drop |= tokens == banned
        if first.any():
            starts = np.zeros(self.index.vocab_size, dtype=bool)
            starts[self.first_tokens] = True
            drop |= np.repeat(first, np.diff(indptr)) & ~starts[tokens]
        if drop.any():
            kept = np.concatenate(([0], np.cumsum(~drop)))
            indptr, tokens, counts = kept[indptr], tokens[~drop], counts[~drop]
        return Allowed(indptr, tokens, counts, may_end, whole)

    def endings(self, lo: np.ndarray, hi: np.ndarray, last: np.ndarray) -> np.ndarray:
        """int64[n]: of the occurrences of clues (spans and last tokens, int64[n]), those that end at a border; 0: the clue
        may not end here. Without borders all occurrences. One batched call into the index."""
        if self.borders is None:
            return np.asarray(hi - lo)
        indptr, tokens, counts = self._following(lo, hi)
        inside = np.repeat(self.borders.last[last], np.diff(indptr)) * self.borders.first[tokens] <= WORD
        return (hi - lo) - _sums(counts * inside, indptr)

    def _following(self, lo: np.ndarray, hi: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`next_tokens_many` as int64 arrays."""
        return tuple(each.astype(np.int64, copy=False) for each in self.index.next_tokens_many(lo, hi))

    def only_document(self, lo: int, hi: int) -> int | None:
        """The document that holds every occurrence of the span [lo, hi), or None if there are two or more."""
        return self.index.only_document(Span(int(lo), int(hi)))


def _sums(values: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    """int64[n]: the sum of each row of a CSR array."""
    running = np.zeros(len(values) + 1, dtype=np.int64)
    np.cumsum(values, out=running[1:])
    return running[indptr[1:]] - running[indptr[:-1]]


def _require_width(what: str, width: int, vocab_size: int) -> None:
    if width < vocab_size:
        raise DecodingError(
            f"{what} {width} tokens but the index's vocabulary has {vocab_size}; take both from the same tokenizer"
        )
