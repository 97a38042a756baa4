"""Synthetic corpora that repeat themselves as texts do, their indexes, and models of random weights."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from benchmarks.bench_decode import PromptedLLM, make_model
from benchmarks.gpu.scale import Scale
from gemkr.decoding.device import DeviceIndex
from gemkr.fm_index import FMIndex

PHRASES, LONGEST, DOCUMENT = 500_000, 6, 155
CHUNK = 10_000_000


def tokens_like_text(count: int, vocabulary: int, device: str) -> np.ndarray:
    """uint16[count]: phrases of 1 to 6 tokens, one after the other; how often a phrase and a token appear falls off as in Zipf's
    law. The same on every machine of a kind."""
    generator = torch.Generator(device).manual_seed(0)

    def ranks(many: int, most: int) -> torch.Tensor:
        drawn = torch.rand(many, generator=generator, device=device, dtype=torch.float64)
        return (most**drawn).long().clamp(max=most) - 1

    phrases = (ranks(PHRASES * LONGEST, vocabulary - 3) + 3).view(PHRASES, LONGEST)
    lengths = torch.randint(1, LONGEST + 1, (PHRASES,), generator=generator, device=device)
    found, made = np.empty(count, np.uint16), 0
    places = torch.arange(LONGEST, device=device)
    while made < count:
        chosen = ranks(min(CHUNK, count - made), PHRASES)
        row = phrases[chosen][places < lengths[chosen, None]][: count - made]
        found[made : made + len(row)] = row.to(torch.int32).cpu().numpy()
        made += len(row)
    return found


@lru_cache(maxsize=1)
def index_of(scale: Scale, count: int) -> tuple[FMIndex, float]:
    """The index of a corpus of so many tokens, and the seconds it took; the last one is kept."""
    tokens = tokens_like_text(count, scale.vocabulary, scale.device)
    offsets = np.append(np.arange(0, count, DOCUMENT), count)
    began = time.perf_counter()
    index = FMIndex.build_flat(tokens, offsets, vocab_size=scale.vocabulary)
    return index, time.perf_counter() - began


@lru_cache(maxsize=1)
def device_index(scale: Scale, count: int) -> DeviceIndex:
    """The same index as tensors on the device; the last one is kept, as making it takes longer than what is measured."""
    return DeviceIndex.build(index_of(scale, count)[0], scale.device, block=16 if scale.dry else 2048)


@lru_cache(maxsize=1)
def llama(scale: Scale, shape: str) -> PromptedLLM:
    """A LLaMA of a shape; the last one is kept."""
    llama.cache_clear()
    return make_model(scale.llama[shape], scale.vocabulary, scale.device, time.perf_counter)


def prompts(scale: Scale) -> list[torch.Tensor]:
    """int64[prompt] for each query."""
    generator = torch.Generator().manual_seed(0)
    return list(torch.randint(3, scale.vocabulary, (scale.queries, scale.prompt), generator=generator))


def seconds_of(scale: Scale, work: Callable[[], Any]) -> float:
    """Seconds of one call, the mean over `scale.seconds` of calls after one to warm up."""
    work()
    scale.synchronize()
    began, seconds, calls = time.perf_counter(), 0.0, 0
    while not calls or seconds < scale.seconds:
        work()
        scale.synchronize()
        calls, seconds = calls + 1, time.perf_counter() - began
    return seconds / calls
