"""Queries a second on one core, before and after: a real LLaMA with adapters writes clues under an index, in bf16.

    OMP_NUM_THREADS=1 python -m benchmarks.decode_speed --llm runs/base-llm --index wiki.fmi --queries dev.jsonl

`plain` is what transformers and peft do, `fused` the pass of `model.fused`; both write the clues of the same queries lot by
lot in turns, so that a busy machine slows both alike. Times are those of the processor. With --exact float32 as well: there both
write the same clues; in bf16 each is as near to them as rounding allows.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import torch

from benchmarks.train_speed import ALL_LINEAR
from gemkr.data.queries import read_queries
from gemkr.decoding.beam import generate_clues
from gemkr.decoding.config import DecodingConfig
from gemkr.fm_index import FMIndex
from gemkr.models.gemkr.config import ModelConfig
from gemkr.models.gemkr.network import GeMKR, load_gemkr
from gemkr.models.hf.config import LoraConfig, PromptConfig
from gemkr.text.words import Words, words_of
from gemkr.training.checkpoints.checkpoint import read_checkpoint
from gemkr.training.checkpoints.trained import load_into
from gemkr.types import Clue


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llm", required=True, help="a LLaMA's folder or GGUF file")
    parser.add_argument("--index", required=True, help="built with the LLM's tokenizer")
    parser.add_argument("--queries", required=True)
    parser.add_argument("--checkpoint", help="adapters that were trained (r 16, all linear layers)")
    parser.add_argument("--limit", type=int, default=64)
    parser.add_argument("--beams", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--exact", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lora = LoraConfig(r=16, alpha=32, targets=ALL_LINEAR)
    prompt = PromptConfig(caption=True, detections=True, template="okvqa")
    config = ModelConfig(llm=args.llm, lora=lora, prompt=prompt, precision="bf16")
    settings = [config, replace(config, fused=True)]
    if args.exact:
        settings += [replace(one, precision="fp32") for one in settings]
    models = {
        f"{'fused' if one.fused else 'plain'}, {one.precision}": load(one, args.checkpoint)
        for one in settings
    }
    index, queries = FMIndex.load(args.index), list(islice(read_queries(args.queries), args.limit))
    seconds = dict.fromkeys(models, 0.0)
    written: dict[str, list[list[Clue]]] = {name: [] for name in models}
    first = next(iter(models.values()))
    words = words_of(first.tokenizer, first.vocab_size)
    for model in models.values():
        write(model, index, queries[:1], words, args)
    for start in range(0, len(queries), args.batch_size):
        for name, model in models.items():
            began = time.process_time()
            written[name] += write(model, index, queries[start : start + args.batch_size], words, args)
            seconds[name] += time.process_time() - began
    reference = written[list(models)[-2]]
    print(f"{'':14}{'queries / s':>13}{'times':>8}{'clues shared':>14}{'first clue':>12}")
    for name, took in seconds.items():
        same, first = agreement(reference, written[name])
        print(
            f"{name:14}{len(queries) / took:13.2f}{seconds['plain, bf16'] / took:8.2f}{same:14.4f}{first:12.4f}"
        )


def load(config: ModelConfig, checkpoint: str | None) -> GeMKR:
    model = load_gemkr(config)
    if checkpoint is not None:
        load_into(model, read_checkpoint(checkpoint))
    return model


def write(
    model: GeMKR, index: Any, queries: Sequence[Any], words: Words, args: argparse.Namespace
) -> list[list[Clue]]:
    """Clues of one lot of queries, prompts included."""
    build = model.input_builder(max_prompt_tokens=96)
    settings = DecodingConfig(
        beam_size=args.beams,
        groups=1,
        diversity=0.0,
        max_tokens=8,
        length_penalty=0.0,
        word_start=True,
        group_by_head=True,
        batch_size=args.batch_size,
    )
    prompts = [build(query) for query in queries]
    return generate_clues(
        model,
        index,
        prompts,
        settings,
        word_start=model.tokenizer.word_start,
        word_break=words.word_break,
        fold=words.fold,
        tokenizer=model.tokenizer,
    )


def agreement(one: list[list[Clue]], other: list[list[Clue]]) -> tuple[float, float]:
    """The share of clues that stand in both lists of a query, and of queries whose first clue is the same."""
    shared = [
        len({clue.tokens for clue in a} & {clue.tokens for clue in b}) / max(len(a), 1)
        for a, b in zip(one, other)
    ]
    first = [a[0].tokens == b[0].tokens for a, b in zip(one, other)]
    return sum(shared) / len(shared), sum(first) / len(first)


if __name__ == "__main__":
    main()
