"""One step for all queries of a batch at once: group after group, candidates ranked as arrays, then walked.

The arrays are on the host. It knows beams and their totals; it knows no model and no index.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gemkr.decoding.claims import Candidate
from gemkr.decoding.logits import Candidates
from gemkr.decoding.search import QuerySearch


def advance(searches: Sequence[QuerySearch], step: Candidates, spans: tuple[np.ndarray, np.ndarray]) -> None:
    """Advance all queries by one token: group after group, all queries of the batch at once.

    Costs O(candidates) numpy work per group plus a short walk per query; afterwards each live beam's `row`
    names the old row it extends and its last token the new token.
    """
    settings = searches[0].settings
    dead = np.isneginf(step.log_probs[:, 0])
    end = np.where(dead, -np.inf, step.end).astype(np.float64)
    finished = dead & step.whole
    for search in searches:
        search.begin_step()
    for g in range(settings.groups):
        active = [search for search in searches if search.groups[g]]
        if not active:
            continue
        rows, ranked = _rank(active, g, step, end)
        for search, beam_rows, candidates in zip(active, rows, ranked):
            search.walk(g, candidates, spans, finished[beam_rows[: len(search.groups[g])]])


def _rank(
    active: Sequence[QuerySearch], g: int, step: Candidates, end: np.ndarray
) -> tuple[np.ndarray, list[list[Candidate]]]:
    """The candidates of group g of each query, best first (ties: earlier beam, better token).

    The best 2 x size of them, as published; with heads or documents in play, 2 x (size + beam_size).
    """
    settings, size, k = active[0].settings, active[0].size, step.tokens.shape[1]
    rows = np.zeros((len(active), size), dtype=np.int64)
    base = np.full((len(active), size), -np.inf)
    for a, search in enumerate(active):
        for b, beam in enumerate(search.groups[g]):
            rows[a, b], base[a, b] = beam.row, beam.total
    tokens = step.tokens[rows]
    gains = np.concatenate([step.log_probs[rows].astype(np.float64), end[rows][:, :, None]], axis=2)
    totals = gains + base[:, :, None]
    if settings.diversity and g:
        chosen = np.full((len(active), g * size), -1, dtype=np.int64)
        for a, search in enumerate(active):
            chosen[a, : len(search.chosen)] = search.chosen
        repeats = (tokens[:, :, :, None] == chosen[:, None, None, :]).sum(axis=3)
        totals[:, :, :k] -= settings.diversity * repeats
    if settings.group_by_head:
        totals[:, :, :k][_beyond_quota(active, g, tokens)] = -np.inf
    flat = totals.reshape(len(active), -1)
    plain = not (settings.group_by_head or settings.document_penalty or settings.stop_at_one_document)
    most = 2 * size if plain else 2 * (size + settings.beam_size)
    order = np.argsort(-flat, axis=1, kind="stable")[:, :most]
    best = np.take_along_axis(flat, order, axis=1)
    found = np.isfinite(best).sum(axis=1).tolist()
    beams, columns = (order // (k + 1)).tolist(), (order % (k + 1)).tolist()
    ranked = []
    for a, n in enumerate(found):
        ranked.append(
            [
                (total, b, int(tokens[a, b, c]) if c < k else None, float(gains[a, b, c]))
                for total, b, c in zip(best[a, :n].tolist(), beams[a], columns[a])
            ]
        )
    return rows, ranked


def _beyond_quota(active: Sequence[QuerySearch], g: int, tokens: np.ndarray) -> np.ndarray:
    """bool[queries, size, k]: tokens that their own beam's better tokens leave no room for.

    All continuations of a beam whose head is finished share that head, and so do all that finish it.
    """
    settings = active[0].settings
    finishes = np.zeros(tokens.shape, dtype=bool)
    for a, search in enumerate(active):
        for b, beam in enumerate(search.groups[g]):
            if beam.head:
                finishes[a, b] = True
            elif beam.words == settings.head_words:
                finishes[a, b] = search.words.breaks(tokens[a, b])
    return finishes & (np.cumsum(finishes, axis=2) > settings.beams_per_head)
