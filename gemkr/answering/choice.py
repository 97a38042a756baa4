"""One answer out of what several passages say: their probabilities are added up over equal answers. numpy alone.

The probability of an answer is the sum over passages of the passage's weight times the probability of the answer after reading
it (as RAG-Sequence adds up its documents, Lewis et al. 2020). The passage with the largest part of it is the evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gemkr.text.answers import vqa_form

WIDEST = 10.0
"""Of the margin, in natural logarithms; also where there is one answer only."""
OTHERS = 4


@dataclass(frozen=True, slots=True)
class Choice:
    """`text` has the probability exp(`log_prob`), of which passage i gives the part `shares[i]` (float64[k], sum 1)."""

    text: str
    log_prob: float
    shares: np.ndarray
    others: tuple[tuple[str, float], ...]
    features: dict[str, float]


def rank_weights(passages: int, decay: float) -> np.ndarray:
    """float64[k], sum 1: the passage of rank r counts r ** -decay."""
    weights = np.arange(1, passages + 1, dtype=np.float64) ** -decay
    return weights / weights.sum()


def choose(
    texts: Sequence[str],
    log_probs: np.ndarray,
    weights: np.ndarray,
    holds: Callable[[str], np.ndarray],
) -> Choice:
    """The most probable answer; texts with one VQA form are one answer, written as the most probable of them.

    `log_probs` float64[k, C] of the C texts after each of the k passages, `weights` float64[k]; `holds(text)` bool[k]: the
    passages that hold an answer literally, for a feature.
    """
    forms = [vqa_form(text) or text.strip() for text in texts]
    names = list(dict.fromkeys(forms))
    member = np.array([[form == name for form in forms] for name in names])
    joint = log_probs + np.log(weights)[:, None]
    largest = joint.max()
    parts = np.exp(joint - largest)
    mass = parts @ member.T.astype(np.float64)
    totals = mass.sum(axis=0)
    order = np.argsort(-totals, kind="stable")
    with np.errstate(divide="ignore"):
        logs = np.log(totals) + largest

    def text_of(answer: int) -> str:
        return texts[int(np.argmax(np.where(member[answer], parts.sum(axis=0), -1.0)))].strip()

    best = int(order[0])
    text, shares = text_of(best), mass[:, best] / totals[best]
    agree = (mass.argmax(axis=1) == best) & (mass[:, best] > 0)
    second = float(logs[order[1]]) if len(order) > 1 else -np.inf
    features = {
        "log_prob": float(logs[best]),
        "margin": min(float(logs[best]) - second, WIDEST),
        "agreement": float(weights @ agree),
        "evidence": float(shares.max()),
        "held": float(weights @ holds(text)),
        "words": float(len(text.split())),
    }
    others = tuple((text_of(int(i)), float(logs[i])) for i in order[1 : OTHERS + 1] if totals[i] > 0)
    return Choice(text, float(logs[best]), shares, others, features)
