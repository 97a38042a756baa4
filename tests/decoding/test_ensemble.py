"""Models that generate together: the mean of the probabilities of a clue."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from table_model import SETTINGS, VOCAB, Table

from gemkr.decoding.beam import generate_clues
from gemkr.decoding.ensemble import Ensemble
from gemkr.errors import ModelError
from gemkr.fm_index import FMIndex


def together(prompts: list[Any], members: int) -> list[tuple[Any, ...]]:
    return [(prompt,) * members for prompt in prompts]


@pytest.mark.parametrize("weights", [None, [1, 3, 0.5]])
def test_a_clue_has_the_weighted_mean_of_its_probabilities(weights: list[float] | None) -> None:
    members = [Table(1), Table(2), Table(3)]
    shares = torch.tensor(weights or [1.0, 1.0, 1.0]) / sum(weights or [1, 1, 1])
    index = FMIndex.build([[0, 1, 2], [2, 3, 4], [5, 1, 0]], vocab_size=6, threads=1)
    found = generate_clues(Ensemble(members, weights), index, together([1, 2], 3), SETTINGS)
    for prompt, clues in zip((1, 2), found, strict=True):
        assert len(clues) == 4
        for clue in clues:
            if len(clue.tokens) < 3 and not index.next_tokens(clue.span)[0].size:
                continue
            written = (*clue.tokens, *([6] if len(clue.tokens) < 3 else []))
            logs = torch.zeros(3)
            for place, token in enumerate(written):
                seen = (-prompt, *written[:place])
                logs += torch.stack([member.logits(seen).log_softmax(dim=0)[token] for member in members])
            assert clue.log_prob == pytest.approx(float((logs.exp() @ shares).log()), abs=1e-4)


def test_one_member_is_itself() -> None:
    logits, _ = Table(4).prefill([1])
    mean, state = Ensemble([Table(4)]).prefill([(1,)])
    torch.testing.assert_close(mean, logits.log_softmax(dim=-1))
    again, _ = Ensemble([Table(4)]).step(torch.tensor([2, 3]), state.select([0, 0]))
    torch.testing.assert_close(again.exp().sum(dim=1), torch.ones(2))


def test_members_must_fit() -> None:
    wide = Table(1)
    wide.vocab_size = VOCAB + 1
    with pytest.raises(ModelError, match=r"model 2 of the ensemble has 8 tokens"):
        Ensemble([Table(1), wide])
    with pytest.raises(ModelError, match="at least one"):
        Ensemble([])
    for weights in ([1.0], [1.0, 0.0], [1.0, -1.0]):
        with pytest.raises(ModelError, match="as many positive weights"):
            Ensemble([Table(1), Table(2)], weights)
