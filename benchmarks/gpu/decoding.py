"""Decoding under an index: queries a second, what the constraint costs, where a step goes, and what waits for the device."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import torch

from benchmarks.bench_decode import PromptedLLM, measure_search, reference
from benchmarks.gpu import on_device
from benchmarks.gpu.material import device_index, index_of, llama, prompts, seconds_of
from benchmarks.gpu.scale import Scale
from gemkr.decoding.beam import TAIL, beam_search
from gemkr.decoding.config import DecodingConfig
from gemkr.decoding.constraint import Constraint, IndexConstraint, NoConstraint
from gemkr.decoding.device import DeviceConstraint
from gemkr.decoding.device_search import DeviceSearch
from gemkr.decoding.matcher import ClueMatcher
from gemkr.fm_index import FMIndex

WAITS = {
    "cuda": ("cudaStreamSynchronize", "cudaEventSynchronize"),
    "cpu": ("aten::_local_scalar_dense",),
}
"""What the profiler calls a host that waits for its device (cudaDeviceSynchronize is this script's own); on a CPU, what would
wait for one."""
SHOWN = 8


def settings(scale: Scale) -> DecodingConfig:
    return DecodingConfig(
        beam_size=scale.beams, groups=1, diversity=0.0, max_tokens=scale.tokens, batch_size=scale.batch
    )


def constraints(scale: Scale, index: FMIndex, model: PromptedLLM, *, device: bool) -> dict[str, Constraint]:
    """No index, the one on the host and, with `device`, the one as tensors beside the model."""
    matcher = ClueMatcher(index, stop_tokens=model.eos_token_ids)
    found: dict[str, Constraint] = {
        "unconstrained": NoConstraint(model.eos_token_ids),
        "host": IndexConstraint(matcher, model.eos_token_ids),
    }
    if device:
        there = device_index(scale, scale.wiki)
        found["device"] = DeviceConstraint(there, matcher, model.eos_token_ids)
    return found


def decode(scale: Scale, shape: str) -> dict[str, Any]:
    """Each constraint over an index of Wikipedia's size; `generate` beside it, without an index and as the reference does it."""
    index, build_seconds = index_of(scale, scale.wiki)
    model, asked, how = llama(scale, shape), prompts(scale), settings(scale)
    figures: dict[str, Any] = {"index_tokens": scale.wiki, "build_seconds": build_seconds}
    ways = constraints(scale, index, model, device=True)
    for name, constraint in ways.items():
        figures[name] = measure_search(model, constraint, asked, how)
    there, expected = ways["device"], beam_search(model, ways["device"], asked, how)
    for name, graph in (("search", False), ("graph", True)):
        figures[name] = on_device.measure(scale, model, there, asked, how, expected, graph=graph)
    figures["search"]["constraint_ms"] = on_device.constraint_ms(scale, there, how, model.vocab_size)
    figures["generate"] = {
        "queries_per_second": scale.batch
        / seconds_of(scale, lambda: _generate(model, asked[: scale.batch], how))
    }
    figures["reference"] = reference(model, index, asked[:2], how)
    return figures


def _generate(model: PromptedLLM, asked: list[torch.Tensor], how: DecodingConfig) -> None:
    """Transformers' beam search of a whole batch, any token allowed."""
    ids = torch.stack(asked).to(model.device)
    model.llm.model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), num_beams=how.beam_size, max_new_tokens=how.max_tokens,
        num_return_sequences=how.beam_size, do_sample=False,
    )  # fmt: skip


def decode_large(scale: Scale) -> dict[str, Any]:
    """The index on the host over 10^9 tokens, under every shape."""
    index, build_seconds = index_of(scale, scale.large)
    figures: dict[str, Any] = {"index_tokens": scale.large, "build_seconds": build_seconds}
    for shape in ("tiny", "1b", "7b"):
        model = llama(scale, shape)
        constraint = constraints(scale, index, model, device=False)["host"]
        figures[shape] = measure_search(model, constraint, prompts(scale), settings(scale))
    return figures


def profile(scale: Scale, shape: str = "7b") -> dict[str, Any]:
    """One batch of queries under the profiler, each way of the index: where its time goes, and how often a step waits."""
    index, _ = index_of(scale, scale.wiki)
    model, asked, how = llama(scale, shape), prompts(scale)[: scale.batch], settings(scale)
    activities = [torch.profiler.ProfilerActivity.CPU]
    if scale.device == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    figures = {}
    ways = constraints(scale, index, model, device=True)
    runs = {name: partial(beam_search, model, way, asked, how) for name, way in ways.items()}
    runs["search"] = partial(DeviceSearch(model, ways["device"], how, tail=TAIL).run, asked)
    for name, run in runs.items():
        run()
        scale.synchronize()
        with torch.profiler.profile(activities=activities) as profiler:
            run()
            scale.synchronize()
        events = profiler.key_averages()
        waits = Counter({event.key: event.count for event in events if event.key in WAITS[scale.device]})
        copies = sum(event.count for event in events if "Memcpy DtoH" in event.key)
        spent = {
            e.key: getattr(e, "self_device_time_total" if scale.device == "cuda" else "self_cpu_time_total")
            for e in events
        }
        whole = sum(spent.values()) or 1.0
        longest = sorted(spent, key=lambda key: -spent[key])[:SHOWN]
        figures[name] = {
            "waits_per_step": sum(waits.values()) / how.max_tokens,
            "copies_to_host_per_step": copies / how.max_tokens,
            "waits": dict(waits),
            "shares": {key: spent[key] / whole for key in longest},
        }
    return figures
