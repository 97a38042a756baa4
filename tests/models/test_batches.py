"""One kind of batch: the losses of one clue a row, of clues that share a prompt and of judged clues, held to reference values.

The values were printed by the three kinds of batches that came before; each is also what plain arithmetic over single rows
gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from gemkr.models.gemkr.batch import Batch, collate
from gemkr.models.gemkr.config import ModelConfig
from gemkr.models.gemkr.inputs import Example
from gemkr.models.gemkr.network import GeMKR
from gemkr.models.gemkr.prompt import Sample
from gemkr.models.gemkr.rows import ClueTarget, RankWeight
from gemkr.models.hf.llm import LLM

EOS = 1
PROMPTS = [(2, 9, 14, 33, 8), (2, 21, 7), (2, 40, 41, 42, 43, 44, 11)]
CLUES = [((5, 6, 7), (30,)), ((12, 13, 14, 15),), ((5, 6), (17, 18, 19), (25,))]
REWARDS = [(1.0, 0.25), (None,), (0.0, 0.5, None)]
LEARNED = [(True, False), (True,), (False, True, True)]


@pytest.fixture(scope="module")
def model() -> GeMKR:
    torch.manual_seed(0)
    size = LlamaConfig(
        vocab_size=48, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.4,
    )  # fmt: skip
    tokenizer = SimpleNamespace(vocab_size=48, eos_ids=(EOS,), pad_id=0)
    config = ModelConfig(llm="", lora=None, train_llm=True, prompt_dropout=0.5)
    return GeMKR(config, tokenizer, LLM(LlamaForCausalLM(size)), None).eval()


def example(
    prompt: tuple[int, ...], clue: tuple[int, ...] = (), behind: tuple[ClueTarget, ...] = ()
) -> Example:
    tokens = np.array([*prompt, *clue, EOS] if clue else prompt)
    none = np.zeros(0, np.int64)
    return Example(Sample("q", tokens, none, none, len(prompt)), None, None, clues=behind)


def apart() -> Batch:
    return collate([example(p, c) for p, clues in zip(PROMPTS, CLUES) for c in clues])


def shared() -> Batch:
    rows = zip(PROMPTS, CLUES)
    return collate([example(p, behind=tuple(map(ClueTarget, clues))) for p, clues in rows], 0, EOS)


def ranked(weight: float = 0.7, sharpness: float = 1.3) -> Batch:
    rows = zip(PROMPTS, CLUES, LEARNED, REWARDS)
    examples = [example(p, behind=tuple(map(ClueTarget, c, ln, r))) for p, c, ln, r in rows]
    return collate(examples, 0, EOS, rank=RankWeight(weight, sharpness))


REFERENCE = {
    apart: ((5.964494705200195, 24.18034148315059), (5.916685581207275, 13.013970005320113)),
    shared: ((5.964495658874512, 24.180330079071233), (6.159184455871582, 14.311215797215139)),
    ranked: ((7.907474040985107, 75.7757224191178), (7.417558670043945, 43.458798705261806)),
}
"""Loss and length of the gradient, in evaluation and in training with hidden words."""


def outcome(model: GeMKR, batch: Batch) -> tuple[float, float]:
    model.zero_grad()
    loss = model(batch)
    loss.backward()
    squares = sum(float(p.grad.double().pow(2).sum()) for p in model.parameters())
    return loss.item(), math.sqrt(squares)


@pytest.mark.parametrize("make", REFERENCE, ids=lambda make: make.__name__)
def test_losses_and_gradients_are_those_of_the_three_kinds_before(
    model: GeMKR, make: Callable[[], Batch]
) -> None:
    evaluated, trained = REFERENCE[make]
    assert outcome(model.eval(), make()) == pytest.approx(evaluated, rel=1e-5)
    torch.manual_seed(3)
    assert outcome(model.train(), make()) == pytest.approx(trained, rel=1e-5)


def test_losses_are_those_of_single_rows(model: GeMKR) -> None:
    """The definitions, with every clue in a row of its own."""
    model.eval()
    with torch.no_grad():
        nats = [
            [model.token_losses(collate([example(p, c)]))[0].item() for c in clues]
            for p, clues in zip(PROMPTS, CLUES)
        ]
        found = {make: model(make()).item() for make in REFERENCE}
    lengths = [[len(clue) + 1 for clue in clues] for clues in CLUES]
    mean = sum(map(sum, nats)) / sum(map(sum, lengths))
    assert found[apart] == pytest.approx(mean, rel=1e-5)
    assert found[shared] == pytest.approx(mean, rel=1e-5)
    total = targets = 0.0
    for own, counts, learned, rewards in zip(nats, lengths, LEARNED, REWARDS):
        judged = [(math.exp(-1.3 * loss), reward) for loss, reward in zip(own, rewards) if reward is not None]
        worth = sum(p * reward for p, reward in judged) / sum(p for p, _ in judged) if judged else 0.0
        rank = -math.log(worth) if worth else 0.0
        written = sum(count for count, is_learned in zip(counts, learned) if is_learned)
        total += sum(loss for loss, is_learned in zip(own, learned) if is_learned) + 0.7 * written * rank
        targets += written
    assert found[ranked] == pytest.approx(total / targets, rel=1e-5)


def test_targets_are_counted_and_batches_move_whole() -> None:
    assert [make().target_count() for make in (apart, shared, ranked)] == [20, 20, 15]
    moved = ranked().to("meta")
    assert {moved.tokens.device.type, moved.clues.reward.device.type} == {"meta"}
    assert moved.clues.rank == RankWeight(0.7, 1.3)
    assert shared().clues.reward is None
    assert apart().clues is None
