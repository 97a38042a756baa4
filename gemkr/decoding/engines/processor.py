"""A logits processor for people who call `model.generate` themselves (greedy, sampling or beams).

Speaks the `LogitsProcessor` interface of transformers without importing it. It knows rows of token ids, not
beams; for group beams, whole batches of queries and evidence use `gemkr.decoding.beam.generate_clues`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from gemkr.decoding.matcher import ClueMatcher
from gemkr.errors import DecodingError, ModelError
from gemkr.interfaces import TokenIndex
from gemkr.text.borders import Borders


class IndexLogitsProcessor:
    """Leaves only the tokens that keep each row's generated text a substring of the corpus.

    Give one instance to one `generate` call (`logits_processor=[IndexLogitsProcessor(...)]`); the prompt's
    length is the width of `input_ids` at the first call (0 with `inputs_embeds`) unless `prompt_length` says
    so. The span of a row is its parent's span extended by one token: spans are kept by generated prefix,
    so reordered, repeated and dropped beams cost nothing, and an unknown prefix is searched once.

    An end token is allowed where a clue may end, where nothing may follow, with `stop_at_one_document`
    where one document is left (then alone), in rows that have ended already (then alone), and where another
    processor has forbidden all that may follow: no row is ever wholly -inf. With `borders` clues begin and end at these, but
    `max_new_tokens`, which only `generate` knows, may still cut one: drop rows for which `is_whole` is false. Raises DecodingError without end tokens, or when a row's tokens are no clue of the
    index, and ModelError when the scores are narrower than the index's vocabulary.
    """

    supports_continuous_batching = False

    def __init__(
        self,
        index: TokenIndex,
        eos_token_ids: int | Sequence[int],
        *,
        prompt_length: int | None = None,
        word_start: np.ndarray | None = None,
        min_tokens: int = 1,
        allow_eos: bool = True,
        stop_at_one_document: bool = False,
        borders: Borders | None = None,
    ) -> None:
        ids = (eos_token_ids,) if isinstance(eos_token_ids, int) else tuple(eos_token_ids)
        if not ids:
            raise DecodingError(
                "the processor needs an end token for clues that nothing may follow; give one"
            )
        self.eos_token_ids = ids
        self.prompt_length = prompt_length
        self.stop_at_one_document = stop_at_one_document
        self.matcher = ClueMatcher(
            index,
            word_start=word_start,
            stop_tokens=ids,
            min_tokens=min_tokens,
            allow_eos=allow_eos,
            borders=borders,
        )
        lo, hi = self.matcher.start(1)
        self._root = (int(lo[0]), int(hi[0]))
        self._spans: dict[tuple[int, ...], tuple[int, int]] = {}

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores [n, V] with everything that may not follow `input_ids` [n, length] set to -inf."""
        if self.matcher.index.vocab_size > scores.shape[1]:
            raise ModelError(
                f"the index's vocabulary has {self.matcher.index.vocab_size} tokens but the model scores only"
                f" {scores.shape[1]}; build the index with the model's own tokenizer"
            )
        if self.prompt_length is None:
            self.prompt_length = input_ids.shape[1]
        prefixes = [tuple(row) for row in input_ids[:, self.prompt_length :].tolist()]
        ended = [not set(self.eos_token_ids).isdisjoint(prefix) for prefix in prefixes]
        going = np.array([row for row, end in enumerate(ended) if not end], dtype=np.int64)
        spans = self._look_up([prefixes[row] for row in going])
        lengths = np.array([len(prefixes[row]) for row in going], dtype=np.int64)
        last = np.array([prefixes[row][-1] if prefixes[row] else 0 for row in going], dtype=np.int64)
        allowed = self.matcher.allowed(spans[0], spans[1], lengths, last)
        widths = allowed.widths
        if self.stop_at_one_document:
            found = [n > 0 and self._one_document(*s) for n, *s in zip(lengths * allowed.whole, *spans)]
            widths = np.where(np.array(found, dtype=bool), 0, widths)
        keep = np.repeat(widths > 0, allowed.widths)
        rows = torch.from_numpy(np.repeat(going, widths)).to(scores.device)
        tokens = torch.from_numpy(allowed.tokens[keep]).to(scores.device)
        may_end = np.ones(len(prefixes), dtype=bool)
        may_end[going] = allowed.may_end | (widths == 0)
        end_rows = torch.from_numpy(np.flatnonzero(may_end)).to(scores.device).unsqueeze(1)
        end_ids = torch.tensor(self.eos_token_ids, device=scores.device)
        out = torch.full_like(scores, -torch.inf)
        out[rows, tokens] = scores[rows, tokens]
        out[end_rows, end_ids] = scores[end_rows, end_ids]
        blocked = torch.isneginf(out).all(dim=1).nonzero()
        out[blocked, end_ids] = 0.0
        return out

    def is_whole(self, tokens: Sequence[int]) -> bool:
        """Whether generated tokens, end tokens aside, are a clue of the corpus that ends where clues may."""
        clue = tuple(token for token in tokens if token not in self.eos_token_ids)
        lo, hi = self._search(clue)
        if not clue or lo >= hi:
            return False
        ends = self.matcher.endings(np.array([lo]), np.array([hi]), np.array(clue[-1:], dtype=np.int64))
        return bool(ends[0] > 0)

    def _look_up(self, prefixes: list[tuple[int, ...]]) -> tuple[np.ndarray, np.ndarray]:
        """The spans of generated prefixes; those of this step replace those of the last."""
        known, self._spans = self._spans, {}
        parents = [known.get(prefix[:-1], self._root if len(prefix) < 2 else None) for prefix in prefixes]
        for place, prefix in enumerate(prefixes):
            if parents[place] is None:
                parents[place] = self._search(prefix[:-1])
        lo = np.array([parent[0] for parent in parents], dtype=np.int64)
        hi = np.array([parent[1] for parent in parents], dtype=np.int64)
        longer = np.array([len(prefix) > 0 for prefix in prefixes], dtype=bool)
        if longer.any():
            last = np.array([prefix[-1] for prefix in prefixes if prefix], dtype=np.int64)
            lo[longer], hi[longer] = self.matcher.extend(lo[longer], hi[longer], last)
        for prefix, a, b in zip(prefixes, lo.tolist(), hi.tolist()):
            if a >= b:
                raise DecodingError(
                    f"the generated tokens {list(prefix)} do not occur in the index; give the processor a fresh"
                    " instance for each generate call, or the prompt's length"
                )
            self._spans[prefix] = (a, b)
        return lo, hi

    def _search(self, prefix: tuple[int, ...]) -> tuple[int, int]:
        lo, hi = self.matcher.start(1)
        for token in prefix:
            lo, hi = self.matcher.extend(lo, hi, np.array([token], dtype=np.int64))
        return int(lo[0]), int(hi[0])

    def _one_document(self, lo: int, hi: int) -> bool:
        return self.matcher.only_document(lo, hi) is not None
