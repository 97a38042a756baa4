"""Batched constrained beam search: from prompts to clues, many queries at once.

Drives a `LanguageModel` step by step under a constraint. It knows nothing of pictures, prompts' contents,
documents or scores of documents.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from gemkr.decoding.advance import advance
from gemkr.decoding.checks import check_settings, check_vocabulary, require_words
from gemkr.decoding.config import DecodingConfig
from gemkr.decoding.constraint import Constraint, IndexConstraint
from gemkr.decoding.device import DeviceConstraint, DeviceIndex
from gemkr.decoding.device_search import DeviceSearch, OnDevice, stays_on_device
from gemkr.decoding.hypotheses import Finished
from gemkr.decoding.logits import normalizer, sent
from gemkr.decoding.matcher import ClueMatcher
from gemkr.decoding.search import QuerySearch
from gemkr.decoding.watch import SearchWatch
from gemkr.errors import DecodingError
from gemkr.fm_index import Span
from gemkr.interfaces import LanguageModel, SlottedModel, TokenIndex
from gemkr.text.borders import Borders
from gemkr.text.words import Words
from gemkr.types import Clue

TAIL = 6
"""Tokens beyond `max_tokens` that a clue may take to end the character or word that it stands in."""


def generate_clues(
    model: LanguageModel,
    index: TokenIndex,
    prompts: Sequence[Any],
    settings: DecodingConfig,
    *,
    word_start: np.ndarray | None = None,
    word_break: np.ndarray | None = None,
    fold: np.ndarray | None = None,
    borders: Borders | None = None,
    tokenizer: Any = None,
    watch: SearchWatch | None = None,
    on_device: OnDevice | None = None,
) -> list[list[Clue]]:
    """Write up to `beam_size` clues for each prompt, best first; every clue is a substring of the corpus.

    Group beam search with Hamming diversity as Hugging Face published it: group after group, a candidate's
    total is its summed log-probability minus `diversity` for each earlier group's beam that chose the same
    token at this step; a group keeps its `beam_size / groups` best continuations and as many finished clues,
    ranked by `total / tokens ** length_penalty`; it stops early when its worst finished clue is no worse
    than its best candidate would be if finished now (`early_stopping=False` there). A clue is finished when
    the model ends it (its end token is charged), at `max_tokens`, when nothing may follow, or, with
    `stop_at_one_document`, as soon as one document is left (the last three are not charged). With `borders`
    (`gemkr.text.borders.borders_of`, of words or of characters), clues begin and end at these, and their `count` is that of
    such occurrences: a beam that stands inside a word at `max_tokens` goes on by its best tokens, `TAIL` of them at most,
    until it may end, or is dropped.

    `word_start` (bool[V]: the token starts a word) is needed for the settings `word_start` and
    `group_by_head`; `word_break` (bool[V]: the token cannot belong to the word before it, punctuation for
    example; default `word_start`) says where a head ends, and `fold` (int64[V]: the token that stands for it,
    its lower-case form for example; default itself) which heads are the same. `tokenizer.decode` fills the clues' text, which is
    empty without one. Equal token sequences of several groups are given once. A prompt whose search `watch` stops has no clues.
    With `on_device`, which `put_on_device` made for the same model, index and settings, allowed tokens come from the device; searches
    that nobody watches stay there.
    A prompt's clues do not depend on `batch_size`, as far as the model's logits do not. Raises DecodingError
    for settings or an index that leave nothing to decode, ModelError for a vocabulary wider than the logits
    or logits that are NaN.

    Cost: one prefill per prompt and at most `max_tokens` steps per batch of `batch_size` prompts; beams with
    equal tokens share a row of the model.
    """
    if on_device is None:
        matcher = _matcher(model, index, settings, word_start, borders)
        constraint: Constraint = IndexConstraint(matcher, model.eos_token_ids)
    else:
        constraint, matcher = on_device.constraint, on_device.constraint.matcher
    words = Words(word_start if word_break is None else word_break, fold)
    if on_device is not None and on_device.search is not None and watch is None:
        results = [
            found
            for start in range(0, len(prompts), settings.batch_size)
            for found in on_device.search.run(prompts[start : start + settings.batch_size])
        ]
    else:
        results = beam_search(model, constraint, prompts, settings, words=words, watch=watch)
    every = [found for finished in results for found in finished]
    spans = np.array([(f.lo, f.hi, f.tokens[-1]) for f in every], dtype=np.int64).reshape(-1, 3).T
    counts = iter(matcher.endings(*np.ascontiguousarray(spans)).tolist() if every else ())
    return [[_clue(found, next(counts), tokenizer) for found in finished] for finished in results]


def put_on_device(
    model: LanguageModel,
    index: TokenIndex,
    settings: DecodingConfig,
    *,
    word_start: np.ndarray | None = None,
    borders: Borders | None = None,
) -> OnDevice | None:
    """What `generate_clues` needs for `settings.engine`: None for "host"; otherwise the index as tensors on the model's device, and
    where model and settings allow for it room for whole searches. Costs a second per million tokens. Raises DecodingError as
    `generate_clues`, and for an index over shards."""
    matcher = _matcher(model, index, settings, word_start, borders)
    if settings.engine == "host":
        return None
    there = DeviceIndex.build(index, model.device)
    constraint = DeviceConstraint(there, matcher, model.eos_token_ids)
    if not (stays_on_device(settings) and isinstance(model, SlottedModel)):
        return OnDevice(constraint)
    record = settings.engine == "graph"
    return OnDevice(constraint, DeviceSearch(model, constraint, settings, tail=TAIL, record=record))


def _matcher(
    model: LanguageModel,
    index: TokenIndex,
    settings: DecodingConfig,
    word_start: np.ndarray | None,
    borders: Borders | None,
) -> ClueMatcher:
    check_settings(settings)
    require_words(settings, word_start)
    if settings.end_at_word and borders is None:
        raise DecodingError(
            "end_at_word needs to know where words end; pass the tokenizer's borders or set it to false"
        )
    check_vocabulary(model, index.vocab_size)
    return ClueMatcher(
        index,
        word_start=word_start if settings.word_start else None,
        stop_tokens=model.eos_token_ids,
        min_tokens=settings.min_tokens,
        allow_eos=settings.allow_eos,
        borders=borders,
    )


def beam_search(
    model: LanguageModel,
    constraint: Constraint,
    prompts: Sequence[Any],
    settings: DecodingConfig,
    *,
    words: Words | None = None,
    watch: SearchWatch | None = None,
) -> list[list[Finished]]:
    """The search of `generate_clues` under any constraint; at most `beam_size` results per prompt, best first."""
    results: list[list[Finished]] = []
    for start in range(0, len(prompts), settings.batch_size):
        batch = prompts[start : start + settings.batch_size]
        looking = None if watch is None else _from(start, watch)
        results += _search_batch(model, constraint, batch, settings, words or Words(), looking)
    return results


@torch.inference_mode()
def _search_batch(
    model: LanguageModel,
    constraint: Constraint,
    prompts: Sequence[Any],
    settings: DecodingConfig,
    words: Words,
    watch: SearchWatch | None,
) -> list[list[Finished]]:
    searches = [QuerySearch(settings, constraint, words, row) for row in range(len(prompts))]
    spans, tokens = constraint.start(len(prompts)), np.zeros(len(prompts), dtype=np.int64)
    logits, state = model.prefill(prompts)
    k, most = settings.beam_size + settings.beam_size // settings.groups, settings.max_tokens + TAIL
    for length in range(most):
        beyond = length >= settings.max_tokens
        step = constraint.candidates(logits, normalizer(logits), *spans, tokens, length, 1 if beyond else k)
        if beyond:
            for search in searches:
                search.go_on(step, most)
        else:
            advance([s for s in searches if s.live], step, spans)
        if watch is not None:
            for number, search in enumerate(searches):
                if search.live and not watch(number, search):
                    search.stop()
        beams = [beam for search in searches for beam in search.live]
        if not beams:
            break
        parents, tokens = _share_rows(beams)
        spans = constraint.extend(spans[0][parents], spans[1][parents], tokens)
        if length + 1 >= settings.max_tokens:
            whole = constraint.endings(*spans, tokens) > 0
            for search in searches:
                search.close(spans, whole)
            rows = np.flatnonzero(~whole)
            if not len(rows) or length + 1 == most:
                break
            _keep_rows([beam for search in searches for beam in search.live], rows)
            parents, tokens, spans = parents[rows], tokens[rows], (spans[0][rows], spans[1][rows])
        state = state.select(torch.from_numpy(parents))
        logits, state = model.step(sent(tokens, model.device), state)
    return [search.results() for search in searches]


def _from(start: int, watch: SearchWatch) -> SearchWatch:
    """The watch of a batch whose first prompt is number `start`."""
    return lambda number, search: watch(start + number, search)


def _share_rows(beams: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Give each distinct (old row, token) one new row; returns old rows and tokens of the new rows, int64[n]."""
    places: dict[tuple[int, int], int] = {}
    for beam in beams:
        beam.row = places.setdefault((beam.row, beam.tokens[-1]), len(places))
    pairs = np.array(list(places), dtype=np.int64).reshape(-1, 2)
    return np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1])


def _keep_rows(beams: Sequence[Any], rows: np.ndarray) -> None:
    """Renumber the rows of beams, of which `rows` (int64[n], ascending) are left."""
    for beam in beams:
        beam.row = int(np.searchsorted(rows, beam.row))


def _clue(found: Finished, count: int, tokenizer: Any) -> Clue:
    text = tokenizer.decode(found.tokens) if tokenizer is not None else ""
    span = Span(found.lo, found.hi, len(found.tokens))
    return Clue(found.tokens, text, found.log_prob, found.score, span, count)
