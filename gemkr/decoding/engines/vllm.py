"""Clues from vLLM: a logits processor for its batch interface (`vllm.v1.sample.logits_processor`).

One object serves the whole engine; each request for a clue has its own span. It knows rows of logits and
lists of output tokens, not prompts. The only file that imports vllm, and only where vllm is installed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from gemkr.collection.opening import holds_collection, index_here, open_collection
from gemkr.decoding.matcher import ClueMatcher
from gemkr.errors import DecodingError, ModelError
from gemkr.fm_index import FMIndex
from gemkr.text.borders import borders_of
from gemkr.text.index_tokenizer import tokenizer_of
from gemkr.text.tokenizer import load_tokenizer

try:
    from vllm.v1.sample.logits_processor import LogitsProcessor
except ImportError:
    LogitsProcessor = None

INDEX_VARIABLE = "GEMKR_VLLM_INDEX"
"""Environment variable of the engine: an index file, or a collection, whose newest generation is opened. Not a request's
argument, so that no client opens files."""
TOKENIZER_VARIABLE = "GEMKR_VLLM_TOKENIZER"
"""Environment variable of the engine: the model's tokenizer, for clues that end with words. Without it a clue may end inside a
word, and under byte-level vocabularies inside a character."""
INDEXES = "a file made by gemkr index build, or to a collection"
CLUE, ONE_DOCUMENT = "gemkr_clue", "gemkr_one_document"
"""Keys of `SamplingParams.extra_args` (`vllm_xargs` over HTTP): write a clue; end it when one document is left."""


@dataclass(slots=True)
class ClueRequest:
    """One request's clue so far. `output` is the engine's own growing list; `read` of its tokens make the span [lo, hi)."""

    output: list[int]
    end_tokens: tuple[int, ...]
    one_document: bool
    lo: int
    hi: int
    read: int = 0
    ended: bool = False


class ClueLogitsProcessor(LogitsProcessor or object):
    """Leaves only the tokens that keep a request's output a substring of the corpus.

    Start the engine with `logits_processors=["gemkr.decoding.engines.vllm:ClueLogitsProcessor"]` and the index's path in
    `GEMKR_VLLM_INDEX`, and the model's tokenizer in `GEMKR_VLLM_TOKENIZER`: then clues begin between characters and end with
    words, but for those that the request's `max_tokens` cuts. Ask with `SamplingParams(extra_args={"gemkr_clue": True})`. Other requests are left alone, and
    the index is opened at the first clue.

    End tokens are the request's own (`all_stop_token_ids`): allowed once a token is written, alone where nothing may
    follow, where the clue has ended, where another processor has led out of the corpus, and, with
    `gemkr_one_document`, where one document is left. No row is ever wholly -inf: a row whose allowed tokens other
    processors forbid ends. Costs one `extend` and one bitmap row of the index per request and step.

    Raises DecodingError without vLLM, without an index, and for output tokens that are not known yet.
    """

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        if LogitsProcessor is None:
            raise DecodingError("vLLM is not installed; install vllm, or decode with generate_clues")
        self._requests: dict[int, ClueRequest] = {}

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """Refuse (ValueError, as vLLM requires) a clue that could not be generated, before the engine sees it."""
        if not _asks(sampling_params, CLUE):
            return
        path = os.environ.get(INDEX_VARIABLE, "")
        if not os.path.isfile(path) and not (path and holds_collection(path)):
            raise ValueError(f"{CLUE} needs an index but {INDEX_VARIABLE} is {path!r}; set it to {INDEXES}")
        if sampling_params.ignore_eos:
            raise ValueError(f"{CLUE} needs an end token but ignore_eos is set; leave it unset")

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: Any) -> None:
        """Follow requests through the batch: removed, then added, then moved, as vLLM prescribes; None: no change."""
        if batch_update is None:
            return
        for row in batch_update.removed:
            self._requests.pop(row, None)
        for row, params, _, output in batch_update.added:
            self._requests.pop(row, None)
            if _asks(params, CLUE):
                self._requests[row] = self._begin(params, output)
        for source, target, direction in batch_update.moved:
            moved, replaced = self._requests.pop(source, None), self._requests.pop(target, None)
            if moved is not None:
                self._requests[target] = moved
            if replaced is not None and direction.name == "SWAP":
                self._requests[source] = replaced

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits [n, V], changed in place: -inf for what may not follow, in the rows of clues."""
        if not self._requests:
            return logits
        vocabulary, width = self._matcher.index.vocab_size, logits.shape[1]
        if vocabulary > width:
            raise ModelError(
                f"the index's vocabulary has {vocabulary} tokens but the model scores only {width};"
                " build the index with the model's own tokenizer"
            )
        rows, requests = list(self._requests), list(self._requests.values())
        self._read_output(requests)
        words = self._masks(requests, width)
        keep = _unpacked(torch.from_numpy(words.view(np.int32)).to(logits.device), width)
        places = torch.tensor(rows, device=logits.device)
        kept = logits[places].masked_fill(~keep, -torch.inf)
        pairs = [(i, token) for i, request in enumerate(requests) for token in request.end_tokens]
        owner, end = torch.tensor(pairs, device=logits.device).T
        blocked = kept.isneginf().all(dim=1)[owner]
        kept[owner, end] = torch.where(blocked, 0.0, kept[owner, end])
        logits[places] = kept
        return logits

    @cached_property
    def _matcher(self) -> ClueMatcher:
        path = os.environ.get(INDEX_VARIABLE)
        if not path:
            raise DecodingError(f"the engine knows no index; set {INDEX_VARIABLE} to {INDEXES}")
        index = index_here(open_collection(path)) if holds_collection(path) else FMIndex.load(path)
        tokenizer = os.environ.get(TOKENIZER_VARIABLE)
        if not tokenizer:
            return ClueMatcher(index)
        found = tokenizer_of(index, load_tokenizer(tokenizer))
        return ClueMatcher(index, borders=borders_of(found, index.vocab_size, words=True))

    def _begin(self, params: Any, output: list[int]) -> ClueRequest:
        end_tokens = tuple(sorted(params.all_stop_token_ids))
        if not end_tokens:
            raise DecodingError(
                "a clue that nothing may follow needs an end token and the request has none; set stop_token_ids"
            )
        root = self._matcher.index.root
        return ClueRequest(output, end_tokens, _asks(params, ONE_DOCUMENT), root.lo, root.hi)

    def _read_output(self, requests: list[ClueRequest]) -> None:
        """Extend the spans by the tokens that the engine has written since; a resumed request catches up."""
        while behind := [r for r in requests if not r.ended and r.read < len(r.output)]:
            growing = []
            for request in behind:
                token = request.output[request.read]
                if token < 0:
                    raise DecodingError(
                        f"vLLM hands over token {token} in place of one not known yet; name the processor in"
                        " logits_processors or switch asynchronous scheduling off"
                    )
                request.ended = token in request.end_tokens or token >= self._matcher.index.vocab_size
                if not request.ended:
                    growing.append(request)
                    request.read += 1
            if growing:
                spans = np.array([(r.lo, r.hi) for r in growing], dtype=np.int64)
                last = np.array([r.output[r.read - 1] for r in growing], dtype=np.int64)
                lo, hi = self._matcher.extend(
                    np.ascontiguousarray(spans[:, 0]), np.ascontiguousarray(spans[:, 1]), last
                )
                for request, a, b in zip(growing, lo.tolist(), hi.tolist()):
                    request.lo, request.hi, request.ended = a, b, a >= b

    def _masks(self, requests: list[ClueRequest], width: int) -> np.ndarray:
        """Bitmaps of the tokens each request may write next, uint32[n, ceil(width / 32)]."""
        index, whole = self._matcher.index, self._whole(requests)
        words = np.zeros((len(requests), -(-width // 32)), dtype=np.uint32)
        going = [
            i
            for i, r in enumerate(requests)
            if not r.ended and not (r.one_document and r.read and whole[i] and self._one_document(r))
        ]
        if going:
            lo = np.array([requests[i].lo for i in going], dtype=np.int64)
            hi = np.array([requests[i].hi for i in going], dtype=np.int64)
            allowed = np.zeros((len(going), -(-index.vocab_size // 32)), dtype=np.uint32)
            index.fill_mask(lo, hi, allowed)
            words[going, : allowed.shape[1]] = allowed
        if self._matcher.borders is not None:
            first = np.array([not request.read for request in requests])
            words[first] &= self._bitmap(self._matcher.first_tokens, width)
            words &= ~self._bitmap(self._matcher.banned, width)
        for row, request, ends_here in zip(words, requests, whole):
            ends = np.zeros_like(row)
            for token in request.end_tokens:
                ends[token // 32] |= np.uint32(1 << token % 32)
            row &= ~ends
            if (request.read and ends_here) or not row.any():
                row |= ends
        return words

    def _whole(self, requests: list[ClueRequest]) -> np.ndarray:
        """bool[n]: which requests' clues may end where they are."""
        if self._matcher.borders is None:
            return np.ones(len(requests), dtype=bool)
        rows = [(r.lo, r.hi, r.output[r.read - 1]) if r.read and not r.ended else (0, 0, 0) for r in requests]
        lo, hi, last = np.ascontiguousarray(np.array(rows, dtype=np.int64).T)
        return self._matcher.endings(lo, hi, last) > 0

    @staticmethod
    def _bitmap(tokens: np.ndarray, width: int) -> np.ndarray:
        """uint32[ceil(width / 32)]: the bits of tokens."""
        bits = np.zeros(-(-width // 32) * 32, dtype=bool)
        bits[tokens] = True
        return np.packbits(bits, bitorder="little").view(np.uint32)

    def _one_document(self, request: ClueRequest) -> bool:
        return self._matcher.only_document(request.lo, request.hi) is not None


def _asks(params: Any, key: str) -> bool:
    return bool(params is not None and (params.extra_args or {}).get(key))


def _unpacked(words: torch.Tensor, width: int) -> torch.Tensor:
    """bool[n, width] of bitmaps int32[n, ceil(width / 32)]."""
    bits = words.unsqueeze(2) >> torch.arange(32, dtype=torch.int32, device=words.device)
    return (bits & 1).bool().flatten(1)[:, :width]
