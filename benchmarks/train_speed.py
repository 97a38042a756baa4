"""Seconds and losses of a fine-tuning step on one core, before and after: a real LLaMA, adapters on all linear layers, bf16.

    OMP_NUM_THREADS=1 python -m benchmarks.train_speed --llm runs/base-llm --queries train.jsonl --clues clues.jsonl

The variants take turns batch by batch, so that a busy machine slows all of them alike; times are those of the processor.
`plain` is what transformers and peft do, `eager` the same with another attention of theirs, `fused` the pass of `model.fused`.
Losses are without dropout, behind adapters that have learned something, and stand beside those of float32.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from gemkr.models.gemkr.config import ModelConfig
from gemkr.models.gemkr.network import GeMKR, load_gemkr
from gemkr.models.hf.config import LoraConfig, PromptConfig
from gemkr.training.data import PromptDataset, read_clue_dataset
from gemkr.training.loop.order import BatchOrder

ALL_LINEAR = r".*\.(q|k|v|o|gate|up|down)_proj"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llm", required=True, help="a LLaMA's folder or GGUF file")
    parser.add_argument("--queries", required=True)
    parser.add_argument("--clues", required=True, help="mined with the LLM's tokenizer")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--dropout", type=float, default=0.05)
    args = parser.parse_args()
    torch.set_num_threads(1)
    lora = LoraConfig(r=16, alpha=32, dropout=args.dropout, targets=ALL_LINEAR)
    prompt = PromptConfig(caption=True, detections=True, template="okvqa")
    config = ModelConfig(llm=args.llm, lora=lora, prompt=prompt, precision="bf16")
    plain = load(config)
    batches = read_batches(plain, args)
    eager = load(config)
    eager.llm.model.config._attn_implementation = "eager"
    variants = {"plain": plain, "eager": eager, "fused": load(replace(config, fused=True))}
    seconds = measure(variants, batches)
    base = statistics.median(seconds["plain"])
    print(f"\n{'':14}{'s / step':>10}{'questions / s':>15}{'times':>8}")
    for name, times in seconds.items():
        median = statistics.median(times)
        print(f"{name:14}{median:10.2f}{args.batch_size / median:15.2f}{base / median:8.2f}")
    compare(variants, config, batches[:2])


def load(config: ModelConfig) -> GeMKR:
    """A model whose adapters are the same in all variants and not zero."""
    model = load_gemkr(config).train()
    torch.manual_seed(0)
    for name, parameter in model.trainable_parameters().items():
        parameter.data.normal_(std=0.02 if ".lora_B." in name else 0.04)
    return model


def read_batches(model: GeMKR, args: argparse.Namespace) -> list[Any]:
    """The first batches of a run: prompts of like lengths, up to 8 clues behind each."""
    build = model.input_builder(max_prompt_tokens=96)
    data = PromptDataset.of(read_clue_dataset(args.queries, args.clues, build), 8)
    order = BatchOrder(data.lengths(), args.batch_size, 0, groups=data.groups()).batches(0)
    batches = [model.collate([data[i] for i in numbers]) for numbers in order[: args.steps]]
    for batch in batches:
        rows, length = batch.tokens.shape
        print(
            f"{rows} prompts of {length} tokens, {len(batch.clues.first)} clues, {batch.target_count()} targets"
        )
    return batches


def measure(variants: dict[str, GeMKR], batches: list[Any]) -> dict[str, list[float]]:
    """Processor seconds of a step forward, backward and clipped, after one step to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for number, batch in enumerate([batches[0], *batches]):
        for name, model in variants.items():
            took = clock(lambda model=model, batch=batch: step(model, batch))
            if number:
                seconds[name].append(took)
    return seconds


def step(model: GeMKR, batch: Any) -> float:
    """One step without the optimizer's; the loss."""
    torch.manual_seed(0)
    loss = model(batch)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(list(model.trainable_parameters().values()), 1.0)
    return loss.item()


def clock(work: Callable[[], Any]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def compare(variants: dict[str, GeMKR], config: ModelConfig, batches: list[Any]) -> None:
    """Losses and gradients without dropout, each beside those of float32 on the same batch."""
    exact = {
        f"{name}, float32": load(replace(config, precision="fp32", fused=name == "fused")) for name in ("plain", "fused")
    }  # fmt: skip
    print(f"\n{'':14}{'loss':>10}{'off':>10}{'gradient off':>15}")
    for batch in batches:
        reference = None
        for name, model in (exact | variants).items():
            loss, gradient = gradients(model.eval(), batch)
            reference = reference or (loss, gradient)
            off = float((gradient - reference[1]).norm() / reference[1].norm())
            print(f"{name:14}{loss:10.5f}{loss - reference[0]:10.5f}{off:15.6f}")


def gradients(model: GeMKR, batch: Any) -> tuple[float, torch.Tensor]:
    """The loss and all gradients in one row."""
    model.zero_grad()
    loss = model(batch)
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in model.trainable_parameters().values()])


if __name__ == "__main__":
    main()
