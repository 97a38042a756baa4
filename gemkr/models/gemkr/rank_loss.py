"""The rank loss: among the clues that a retriever once wrote for a query, probability goes to those that earned a reward.

Minus the logarithm of the expected reward under the model's own probabilities, taken over the judged clues alone (minimum risk
training, Shen et al. 2016, over retrieval rewards as in LTRGR, Li et al. 2024). No reference model is needed; the cross entropy
of the learned clues beside it keeps the learned clues probable. A clue counts with its end, also where decoding cut it off.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gemkr.models.gemkr.rows import Clues


def ranked_loss(log_probs: Tensor, clues: Clues) -> Tensor:
    """The loss of clues with rewards from their log-probabilities, ends included: float32[C].

    A mean over the learned tokens, to each of which its prompt's rank loss is added `rank.weight` times: however a step is
    split into batches, the loss is the same.
    """
    prompts = len(clues.tokens)
    tokens = clues.lengths() * clues.learned
    learned_tokens = torch.zeros(prompts, dtype=log_probs.dtype, device=log_probs.device)
    learned_tokens.index_add_(0, clues.owner, tokens.to(learned_tokens.dtype))
    written = -log_probs[clues.learned].sum()
    losses = rank_losses(log_probs * clues.rank.sharpness, clues.reward, clues.owner, prompts)
    return (written + clues.rank.weight * (learned_tokens * losses).sum()) / learned_tokens.sum()


def rank_losses(log_weights: Tensor, reward: Tensor, owner: Tensor, prompts: int) -> Tensor:
    """float32[prompts]: minus the logarithm of the expected reward of a judged clue drawn with softmax(`log_weights`).

    Zero for a prompt without a judged clue of a positive reward. `owner` int64[C] is each clue's prompt, ascending.
    """
    counts = torch.bincount(owner, minlength=prompts)
    column = torch.arange(len(owner), device=owner.device) - (counts.cumsum(0) - counts)[owner]
    judged = ~reward.isnan()
    shape = prompts, int(counts.max())
    table = torch.full(shape, -torch.inf, dtype=log_weights.dtype, device=log_weights.device)
    table = table.index_put((owner[judged], column[judged]), log_weights[judged])
    value = torch.zeros(shape, dtype=log_weights.dtype, device=log_weights.device)
    value[owner[judged], column[judged]] = reward[judged].to(value.dtype)
    rewarded = (value > 0).any(dim=1)
    table, value = table[rewarded], value[rewarded]
    weighted = (table + value.log()).masked_fill(value == 0, -torch.inf)
    losses = torch.zeros(prompts, dtype=log_weights.dtype, device=log_weights.device)
    return losses.index_put((rewarded.nonzero()[:, 0],), table.logsumexp(1) - weighted.logsumexp(1))
