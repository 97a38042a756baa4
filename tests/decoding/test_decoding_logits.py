"""The choice among allowed tokens: against a full-vocabulary mask, with ties and padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gemkr.decoding import _choose
from gemkr.decoding.logits import (
    end_log_probs,
    normalizer,
    top_allowed,
    top_allowed_torch,
    top_free,
    top_shared,
)
from gemkr.decoding.matcher import Allowed


def csr(rows: list[list[int]]) -> Allowed:
    indptr = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    tokens = np.array([t for row in rows for t in row], dtype=np.int64)
    return Allowed(indptr, tokens, np.ones_like(tokens), *np.ones((2, len(rows)), dtype=bool))


@settings(deadline=None)
@given(
    rows=st.lists(st.sets(st.integers(0, 49)), min_size=1, max_size=8),
    k=st.integers(1, 12),
    seed=st.integers(0, 99),
    coarse=st.booleans(),
)
def test_top_allowed_equals_a_masked_sort(rows, k, seed, coarse) -> None:
    torch.manual_seed(seed)
    logits = torch.randn(len(rows), 50) * 3
    if coarse:
        logits = logits.round()
    lists = [sorted(row) for row in rows]
    scores, tokens = top_allowed(logits, normalizer(logits), csr(lists), k)
    log_probs = torch.log_softmax(logits, dim=-1)
    for i, row in enumerate(lists):
        expected = sorted(row, key=lambda t: (-logits[i, t].item(), t))[:k]
        assert tokens[i, : len(expected)].tolist() == expected
        torch.testing.assert_close(scores[i, : len(expected)], log_probs[i, expected])
        assert torch.isneginf(scores[i, len(expected) :]).all()


@settings(deadline=None)
@given(
    rows=st.lists(st.sets(st.integers(0, 299)), min_size=1, max_size=8),
    k=st.integers(1, 40),
    seed=st.integers(0, 99),
    coarse=st.booleans(),
)
def test_host_and_torch_choose_the_same_bits(rows, k, seed, coarse) -> None:
    torch.manual_seed(seed)
    logits = torch.randn(len(rows), 300) * 3
    if coarse:
        logits = logits.round()
    logits[torch.rand(logits.shape) < 0.05] = -torch.inf
    allowed = csr([sorted(row) for row in rows])
    norm = normalizer(logits)
    here = top_allowed(logits, norm, allowed, k)
    there = top_allowed_torch(logits, norm, allowed, k)
    assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))


def test_numbers_that_are_none_come_first() -> None:
    logits = torch.tensor([[0.0, torch.nan, 9.0, torch.nan, 1.0]])
    norm = torch.zeros(1)
    for k in (1, 3):
        scores, tokens = top_allowed(logits, norm, csr([[0, 1, 2, 3, 4]]), k)
        assert tokens[0].tolist() == [1, 3, 2][:k]
        assert bool(scores[0, 0].isnan())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"tokens": np.array([1, 4])}, "width 4"),
        ({"tokens": np.array([-1, 2])}, "width 4"),
        ({"indptr": np.array([0, 3])}, "at most 2"),
        ({"indptr": np.array([0, 1, 2])}, "indptr"),
        ({"indptr": np.array([1, 0])}, "rise"),
        ({"norm": np.zeros(2, np.float32)}, "norm"),
        ({"k": 0}, "at least 1"),
    ],
)
def test_the_host_kernel_refuses_what_does_not_fit(change, told) -> None:
    arguments = {
        "logits": np.zeros((1, 4), np.float32),
        "norm": np.zeros(1, np.float32),
        "indptr": np.array([0, 2]),
        "tokens": np.array([1, 2]),
        "k": 2,
    }
    _choose.top_k(**arguments)
    with pytest.raises(ValueError, match=told):
        _choose.top_k(**{**arguments, **change})


def test_ties_go_to_the_lower_token_whatever_the_batch() -> None:
    logits = torch.zeros(3, 600, dtype=torch.bfloat16)
    rows = [list(range(5, 600)), list(range(0, 600, 7)), [9, 11]]
    _, together = top_allowed(logits, normalizer(logits), csr(rows), 4)
    assert together.tolist() == [[5, 6, 7, 8], [0, 7, 14, 21], [9, 11, 0, 0]]
    _, shared = top_shared(logits, normalizer(logits), torch.arange(3, 600), 4)
    assert shared.tolist() == [[3, 4, 5, 6]] * 3


def test_shared_and_free_choices() -> None:
    torch.manual_seed(0)
    logits = torch.randn(4, 30)
    norm = normalizer(logits)
    log_probs = torch.log_softmax(logits, dim=-1)
    tokens = torch.tensor([3, 8, 29])
    scores, chosen = top_shared(logits, norm, tokens, 5)
    order = log_probs[:, tokens].sort(dim=1, descending=True)
    torch.testing.assert_close(scores[:, :3], order.values)
    assert torch.equal(chosen[:, :3], tokens[order.indices])
    assert torch.isneginf(scores[:, 3:]).all()
    scores, chosen = top_free(logits, norm, [7], 29)
    assert 7 not in chosen.tolist()[0]
    torch.testing.assert_close(scores.exp().sum(1), 1 - log_probs[:, 7].exp())


def test_the_end_is_any_of_the_end_tokens() -> None:
    logits = torch.randn(3, 10)
    log_probs = torch.log_softmax(logits, dim=-1)
    end = end_log_probs(logits, normalizer(logits), (2, 5))
    torch.testing.assert_close(end.exp(), log_probs[:, [2, 5]].exp().sum(1))
    assert torch.isneginf(end_log_probs(logits, normalizer(logits), ())).all()


@pytest.mark.gpu
def test_the_same_choice_on_a_gpu() -> None:
    torch.manual_seed(0)
    logits = torch.randn(16, 500).to(torch.bfloat16)
    rows = [sorted(torch.randperm(500)[: 3 * i + 1].tolist()) for i in range(16)]
    _, here = top_allowed(logits, normalizer(logits), csr(rows), 8)
    _, there = top_allowed(logits.cuda(), normalizer(logits.cuda()), csr(rows), 8)
    assert torch.equal(here, there.cpu())
