"""From logits to the best allowed tokens: probabilities of the full vocabulary, choice among a few.

The only full-vocabulary pass is the log-sum-exp that turns logits into probabilities; everything after it
touches allowed tokens only: on the host in C++ (csrc/choose.hpp), on a device, or in another precision than float32,
in torch, with the same result. It knows rows of logits and CSR sets, not beams.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from gemkr.decoding import _choose
from gemkr.decoding.matcher import Allowed
from gemkr.errors import ModelError

CACHE_FLOATS = 1 << 19
"""On a CPU, rows are normalised in lots that fit its cache: less than half the time of one go."""
_LOW = 0xFFFFFFFF
_PAD = torch.iinfo(torch.int64).min


@dataclass(frozen=True, slots=True)
class Candidates:
    """The best continuations of n rows, on the host.

    `log_probs` float32[n, k], best first, padded with -inf; `tokens` int64[n, k] (0 under the padding);
    `end` float32[n]: log-probability that the model ends the clue here, -inf where it may not; `whole` bool[n]: the clue
    may be finished as it stands where nothing follows. The probabilities are the model's own, normalised over its full vocabulary.
    """

    log_probs: np.ndarray
    tokens: np.ndarray
    end: np.ndarray
    whole: np.ndarray


def candidates(log_probs: np.ndarray, tokens: np.ndarray, end: np.ndarray, whole: np.ndarray) -> Candidates:
    """The candidates of a step; ModelError where the model's logits are not numbers."""
    if np.isnan(log_probs).any() or np.isnan(end).any():
        raise ModelError(
            "the model returned logits that are not numbers (NaN); check its weights and precision"
        )
    return Candidates(log_probs, tokens, end, whole)


def sent(values: np.ndarray, device: torch.device) -> torch.Tensor:
    """An array as a tensor on the device, without waiting for what the device does."""
    return torch.from_numpy(np.ascontiguousarray(values)).to(device, non_blocking=True)


def fetched(*parts: torch.Tensor) -> list[np.ndarray]:
    """Tensors of n rows, each float32, bool, or int64 below 2^31, as arrays on the host. The one place where a step waits for its
    device, and waits once: all parts come in one transfer."""
    if parts[0].device.type == "cpu":
        return [part.numpy() for part in parts]
    return unpacked(packed(parts).cpu().numpy(), parts)


def packed(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """int32[n, columns of all parts]: floats by their bits."""
    columns = [part.view(torch.int32) if part.is_floating_point() else part.to(torch.int32) for part in parts]
    return torch.cat([column.reshape(len(column), -1) for column in columns], dim=1)


def unpacked(values: np.ndarray, parts: Sequence[torch.Tensor]) -> list[np.ndarray]:
    """The inverse of `packed`, in the shapes and dtypes of `parts`."""
    widths = [part[:1].numel() if len(part) else 1 for part in parts]
    found = []
    for part, columns in zip(parts, np.split(values, np.cumsum(widths)[:-1], axis=1), strict=True):
        columns = np.ascontiguousarray(columns).reshape(part.shape)
        kind = {torch.bool: bool, torch.int64: np.int64}.get(part.dtype)
        found.append(columns.view(np.float32) if kind is None else columns.astype(kind))
    return found


def normalizer(logits: torch.Tensor) -> torch.Tensor:
    """log-sum-exp of each row of logits [n, V] -> float32[n]: log p(t) = logits[t] - normalizer."""
    if logits.device.type != "cpu":
        return torch.logsumexp(logits.float(), dim=-1)
    few = max(1, CACHE_FLOATS // logits.shape[1])
    return torch.cat([torch.logsumexp(rows.float(), dim=-1) for rows in logits.split(few)])


def end_log_probs(
    logits: torch.Tensor, norm: torch.Tensor, eos_token_ids: Sequence[int] | torch.Tensor
) -> torch.Tensor:
    """float32[n]: the log-probability that the next token is any of the end tokens (int64[m] where they are on the device)."""
    if not len(eos_token_ids):
        return torch.full_like(norm, -torch.inf)
    if isinstance(eos_token_ids, torch.Tensor):
        columns = eos_token_ids
    else:
        columns = sent(np.array(eos_token_ids, dtype=np.int64), logits.device)
    return torch.logsumexp(logits[:, columns].float(), dim=-1) - norm


def top_allowed(
    logits: torch.Tensor,
    norm: torch.Tensor,
    allowed: Allowed,
    k: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The k best allowed tokens of each row: log-probabilities float32[n, k] and token ids int64[n, k].

    Equal probabilities are ordered by token id on every device, so that results do not depend on the batch. Rows with
    fewer than k tokens are padded with -inf and token 0. Costs a few ns per allowed token on the host.
    """
    if _on_host(logits):
        return _top_on_host(logits, norm, allowed.indptr, allowed.tokens, k)
    return top_allowed_torch(logits, norm, allowed, k)


def top_allowed_torch(
    logits: torch.Tensor,
    norm: torch.Tensor,
    allowed: Allowed,
    k: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`top_allowed` on any device and in any precision.

    Rows are handled in buckets of similar width (powers of four), so the work is at most a few times the
    number of allowed tokens.
    """
    n, device = len(logits), logits.device
    best = torch.full((n, k), _PAD, dtype=torch.int64, device=device)
    widths = allowed.widths
    indptr, tokens = sent(allowed.indptr, device), sent(allowed.tokens, device)
    classes = np.ceil(np.log2(np.maximum(widths, 16)) / 2).astype(np.int64)
    for size in np.unique(classes[widths > 0]):
        members = np.flatnonzero((classes == size) & (widths > 0))
        width = int(widths[members].max())
        rows = sent(members, device)
        starts, stops = indptr[rows].unsqueeze(1), indptr[rows + 1].unsqueeze(1)
        places = starts + torch.arange(width, device=device)
        inside = places < stops
        places = torch.minimum(places, stops - 1)
        ids = tokens[places]
        raw = logits[rows.unsqueeze(1), ids]
        raw = torch.where(inside, raw, -torch.inf)
        best[rows, : min(k, width)] = _best_keys(raw, norm[rows], torch.where(inside, ids, 0), k)
    return _unsorted(best)


def top_shared(
    logits: torch.Tensor,
    norm: torch.Tensor,
    tokens: torch.Tensor,
    k: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`top_allowed` for rows that all may choose among the same tokens (int64[m]): the first step."""
    if _on_host(logits):
        return _top_on_host(logits, norm, None, tokens.numpy(), k)
    n = len(logits)
    raw = logits.index_select(1, tokens)
    best = torch.full((n, k), _PAD, dtype=torch.int64, device=logits.device)
    best[:, : min(k, len(tokens))] = _best_keys(raw, norm, tokens.expand(n, -1), k)
    return _unsorted(best)


def top_masked(
    logits: torch.Tensor, norm: torch.Tensor, mask: torch.Tensor, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """`top_allowed` for sets given as bool[n, W], W <= V: no shape depends on data, and nothing waits for the device."""
    n, width = mask.shape
    scores = logits[:, :width].float() - norm.unsqueeze(1)
    ids = torch.arange(width, device=logits.device).expand(n, -1)
    keys = torch.where(mask, _sortable(scores, ids), _PAD)
    best = torch.full((n, k), _PAD, dtype=torch.int64, device=logits.device)
    best[:, : min(k, width)] = keys.topk(min(k, width), dim=1).values
    return _unsorted(best)


def top_free(
    logits: torch.Tensor, norm: torch.Tensor, banned: Sequence[int], k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The k best tokens of the whole vocabulary but `banned`: decoding without an index."""
    scores = logits.float() - norm.unsqueeze(1)
    if banned:
        scores[:, sent(np.array(banned, dtype=np.int64), scores.device)] = -torch.inf
    return scores.topk(min(k, scores.shape[1]), dim=1)


def _on_host(logits: torch.Tensor) -> bool:
    return logits.device.type == "cpu" and logits.dtype == torch.float32 and logits.is_contiguous()


def _top_on_host(
    logits: torch.Tensor,
    norm: torch.Tensor,
    indptr: np.ndarray | None,
    tokens: np.ndarray,
    k: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    scores, chosen = _choose.top_k(logits.numpy(), norm.numpy(), indptr, tokens, k)
    return torch.from_numpy(scores), torch.from_numpy(chosen)


def _best_keys(raw: torch.Tensor, norm: torch.Tensor, ids: torch.Tensor, k: int) -> torch.Tensor:
    """The k best (score, token) pairs of each row, as `_sortable` keys int64[n, min(k, width)].

    Scores are the logits `raw` [n, width] less `norm` [n]. On the host, wide rows are first cut to a few more than k by
    logits alone, unless equal scores reach past the cut; a device would have to be waited for to know.
    """
    width = raw.shape[1]
    k, few = min(k, width), 2 * k + 16
    if width > 2 * few and raw.device.type == "cpu":
        values, places = raw.topk(few, dim=1)
        scores = values.float() - norm.unsqueeze(1)
        if bool(((scores[:, -1] < scores[:, k - 1]) | scores[:, k - 1].isneginf()).all()):
            return _sortable(scores, ids.gather(1, places)).topk(k, dim=1).values
    return _sortable(raw.float() - norm.unsqueeze(1), ids).topk(k, dim=1).values


def _sortable(scores: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """One int64 per (score, token) whose order is: higher score first, then lower token id."""
    bits = (scores + 0.0).view(torch.int32)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.long() << 32) | (_LOW - tokens)


def _unsorted(keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The inverse of `_sortable`; padding becomes (-inf, 0)."""
    ordered = keys >> 32
    bits = torch.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered)
    scores = bits.to(torch.int32).view(torch.float32)
    scores = scores.masked_fill(keys == _PAD, -torch.inf)
    return scores, torch.where(scores.isneginf(), 0, _LOW - (keys & _LOW))
