"""Searches that stay on the device: kernel by kernel, and with one CUDA graph for each step, beside those whose beams are on the host."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.bench_decode import PromptedLLM
from benchmarks.gpu.material import seconds_of
from benchmarks.gpu.scale import Scale
from gemkr.decoding.beam import TAIL
from gemkr.decoding.config import DecodingConfig
from gemkr.decoding.device import DeviceConstraint
from gemkr.decoding.device_search import DeviceSearch
from gemkr.decoding.hypotheses import Finished
from gemkr.decoding.logits import normalizer

Found = list[list[Finished]]


def searched(search: DeviceSearch, asked: list[torch.Tensor]) -> Found:
    """The clues of any number of prompts."""
    size = search.settings.batch_size
    batches = (asked[start : start + size] for start in range(0, len(asked), size))
    return [clues for batch in batches for clues in search.run(batch)]


def measure(
    scale: Scale,
    model: PromptedLLM,
    constraint: DeviceConstraint,
    asked: list[torch.Tensor],
    how: DecodingConfig,
    expected: Found,
    *,
    graph: bool,
) -> dict[str, Any]:
    """Queries a second, milliseconds a step (prefill left out), the share of the clues `expected` that were found, and GB at most."""
    search = DeviceSearch(model, constraint, how, tail=TAIL, record=graph)
    found = searched(search, asked)
    if scale.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    batch = asked[: how.batch_size]
    seconds = seconds_of(scale, lambda: search.run(batch))
    prefill = seconds_of(scale, lambda: model.prefill(batch))
    same = sum(
        len({c.tokens for c in ours} & {c.tokens for c in theirs})
        for ours, theirs in zip(found, expected, strict=True)
    )
    figures = {
        "queries_per_second": len(batch) / seconds,
        "step_ms": 1000 * (seconds - prefill) / search.steps,
        "agree": same / max(1, sum(map(len, expected))),
    }
    if scale.device == "cuda":
        figures["peak_gb"] = torch.cuda.max_memory_allocated() / 1e9
    return figures


def constraint_ms(scale: Scale, constraint: DeviceConstraint, how: DecodingConfig, vocabulary: int) -> float:
    """Milliseconds that the index takes of a step: allowed tokens, the best among them, and spans, behind clues of one token."""
    rows, device = scale.batch * how.beam_size, constraint.device
    generator = torch.Generator().manual_seed(0)
    last = torch.randint(3, scale.vocabulary, (rows,), generator=generator).to(device)
    starts = constraint.index.starts
    lo, hi = constraint.index.extend(starts[:-1], starts[1:], last)
    logits = torch.randn(rows, vocabulary, device=device)
    norm = normalizer(logits)

    def work() -> None:
        constraint.following(logits, norm, lo, hi, last, 1, 2 * how.beam_size)
        constraint.index.extend(lo, hi, last)

    with torch.inference_mode():
        return 1000 * seconds_of(scale, work)
