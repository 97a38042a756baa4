"""Writing and scoring texts behind prompts that were read once, against a model fed anew for each text."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from gemkr.answering.reading import Reading
from gemkr.testing import RandomLM

MODEL = RandomLM(6, eos_token_ids=(1, 2), seed=3)
PROMPTS = ["where?", "who?", "when?"]


def log_prob(model: RandomLM, prompt: str, text: tuple[int, ...]) -> float:
    total = 0.0
    for place in range(len(text) + 1):
        logits = model.logits_of(prompt, text[:place]).astype(np.float64)
        logs = logits - np.logaddexp.reduce(logits)
        total += (
            logs[text[place]] if place < len(text) else np.logaddexp.reduce(logs[list(model.eos_token_ids)])
        )
    return total


def test_scores_are_those_of_every_text_by_itself() -> None:
    texts = [[(3,), (4, 5, 3), (3, 3)], [(5, 4)], [(0,), (3, 4, 5, 0, 3)]]
    found = Reading(MODEL, PROMPTS).log_probs(texts)
    assert [len(each) for each in found] == [3, 1, 2]
    for prompt, own, scores in zip(PROMPTS, texts, found):
        assert scores == pytest.approx([log_prob(MODEL, prompt, text) for text in own], abs=1e-4)


def test_a_wide_beam_writes_the_likeliest_texts() -> None:
    tokens = [t for t in range(6) if t not in MODEL.eos_token_ids]
    every = [text for length in (1, 2) for text in product(tokens, repeat=length)]
    reading = Reading(MODEL, PROMPTS)
    for prompt, written in zip(PROMPTS, reading.write(beam_size=20, max_tokens=3)):
        best = max(every, key=lambda text: log_prob(MODEL, prompt, text))
        short = [text for text in written if len(text) < 3]
        assert max(short, key=lambda text: log_prob(MODEL, prompt, text)) == best


def test_greedy_writing_takes_the_likeliest_token_each_time() -> None:
    (written,) = Reading(MODEL, PROMPTS[:1]).write(beam_size=1, max_tokens=1)
    logits = MODEL.logits_of(PROMPTS[0], ())
    allowed = [t for t in range(6) if t not in MODEL.eos_token_ids]
    assert written == [(max(allowed, key=lambda token: logits[token]),)]
