"""What the constraint costs: decoding with and without the index, and the reference's way, on the same model.

    python benchmarks/bench_decode.py --index wiki.fmi --shape tiny --queries 64 --beams 10 --json out.json

Variants: `unconstrained` (our engine, any token), `constrained` (our engine, the CPU index), `words` (the same, clues end with
words of `--tokenizer`), `device` (our engine, the index as tensors on the model's device), `reference` (transformers' `generate`, one query at a
time, `prefix_allowed_tokens_fn` that searches each beam's whole prefix again and returns a Python list).
Models have random weights; prompts are random tokens. `constraint_share` is the time in the index and in
choosing among its tokens divided by the time of the step, log-softmax and beam bookkeeping included.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gemkr.decoding.beam import beam_search
from gemkr.decoding.config import DecodingConfig
from gemkr.decoding.constraint import Constraint, IndexConstraint, NoConstraint
from gemkr.decoding.device import DeviceConstraint, DeviceIndex
from gemkr.decoding.matcher import ClueMatcher
from gemkr.fm_index import FMIndex
from gemkr.models.gemkr import branches
from gemkr.models.gemkr.branches import BranchState
from gemkr.models.gemkr.slots import Slots
from gemkr.models.hf.llm import LLM
from gemkr.text.borders import borders_of
from gemkr.text.tokenizer import load_tokenizer

Shape = tuple[int, int, int, int, int]
SHAPES: dict[str, Shape] = {  # hidden, intermediate, layers, heads, key/value heads
    "tiny": (256, 688, 4, 4, 4),
    "1b": (2048, 5632, 22, 32, 4),
    "7b": (4096, 11008, 32, 32, 32),
}
EOS = 2


Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}


class PromptedLLM:
    """`LanguageModel` over prompts that are int64[T] token tensors of equal length; adds up its seconds of prefill."""

    eos_token_ids = (EOS,)

    def __init__(self, llm: LLM, device: str, clock: Clock) -> None:
        self.llm, self.device, self.vocab_size = llm, torch.device(device), llm.vocab_size
        self.clock, self.prefill_seconds = clock, 0.0

    def prefill(self, prompts: Any) -> Any:
        self.synchronize()
        began = self.clock()
        tokens = torch.stack(list(prompts)).to(self.device)
        logits, state = self.llm.prefill(self.llm.embed(tokens), torch.ones_like(tokens))
        self.synchronize()
        self.prefill_seconds += self.clock() - began
        return logits, BranchState.root(state)

    def step(self, tokens: torch.Tensor, state: Any) -> Any:
        return branches.step(self.llm, tokens, state)

    def slots(self, state: Any, queries: int, beams: int, steps: int) -> Slots:
        return Slots(self.llm, state, queries, beams, steps)

    def synchronize(self) -> None:
        """Wait until the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()


class Timed:
    """A constraint that adds up the seconds spent in it and counts steps."""

    def __init__(self, inner: Constraint, model: PromptedLLM) -> None:
        self.inner, self.synchronize, self.clock = inner, model.synchronize, model.clock
        self.seconds, self.steps = 0.0, 0
        self.start, self.only_document = inner.start, inner.only_document

    def extend(self, *args: Any) -> Any:
        return self._measure(self.inner.extend, *args)

    def endings(self, *args: Any) -> Any:
        return self._measure(self.inner.endings, *args)

    def candidates(self, *args: Any) -> Any:
        self.steps += 1
        return self._measure(self.inner.candidates, *args)

    def _measure(self, call: Any, *args: Any) -> Any:
        self.synchronize()
        began = self.clock()
        result = call(*args)
        self.synchronize()
        self.seconds += self.clock() - began
        return result


def make_model(shape: Shape, vocab: int, device: str, clock: Clock) -> PromptedLLM:
    """A LLaMA of random weights, in bfloat16 on a GPU."""
    from transformers import LlamaConfig, LlamaForCausalLM

    hidden, intermediate, layers, heads, kv_heads = shape
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        bos_token_id=1,
        eos_token_id=EOS,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    precision = torch.bfloat16 if device == "cuda" else torch.float32
    torch.set_default_dtype(precision)
    with torch.device(device):
        model = LlamaForCausalLM(config).eval()
    torch.set_default_dtype(torch.float32)
    return PromptedLLM(LLM(model), device, clock)


def measure_search(
    model: PromptedLLM, constraint: Constraint, prompts: Any, settings: DecodingConfig
) -> dict:
    """Time one variant twice: the constraint's seconds, and the seconds of the whole search. Steps exclude the prefill."""
    beam_search(model, constraint, prompts[:2], settings)
    found, seconds, prefill = _timed_search(model, constraint, prompts, settings)
    timed = Timed(constraint, model)
    _, total, prefill_total = _timed_search(model, timed, prompts, settings)
    return {
        "seconds": seconds,
        "queries_per_second": len(prompts) / seconds,
        "steps": timed.steps,
        "prefill_ms": 1000 * prefill,
        "step_ms": 1000 * (seconds - prefill) / timed.steps,
        "constraint_ms": 1000 * timed.seconds / timed.steps,
        "constraint_share": timed.seconds / (total - prefill_total),
        "clues": sum(map(len, found)),
    }


def _timed_search(
    model: PromptedLLM, constraint: Constraint, prompts: Any, settings: DecodingConfig
) -> tuple[list, float, float]:
    """What the search finds, its seconds, and those of them spent in the prefill."""
    model.synchronize()
    model.prefill_seconds = 0.0
    began = model.clock()
    found = beam_search(model, constraint, prompts, settings)
    model.synchronize()
    return found, model.clock() - began, model.prefill_seconds


def reference(model: PromptedLLM, index: FMIndex, prompts: Any, settings: DecodingConfig) -> dict:
    """transformers' beam search, one query at a time, the allowed tokens as Python lists."""
    width = len(prompts[0])

    def allowed(_: int, ids: torch.Tensor) -> list[int]:
        tokens, _ = index.next_tokens(index.search(ids[width:].tolist()))
        return [*tokens.tolist(), EOS]

    began = model.clock()
    for prompt in prompts:
        ids = prompt[None].to(model.device)
        model.llm.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            num_beams=settings.beam_size,
            num_return_sequences=settings.beam_size,
            max_new_tokens=settings.max_tokens,
            length_penalty=settings.length_penalty,
            do_sample=False,
            prefix_allowed_tokens_fn=allowed,
        )
    model.synchronize()
    seconds = model.clock() - began
    return {
        "seconds": seconds,
        "queries_per_second": len(prompts) / seconds,
        "step_ms": 1000 * seconds / (len(prompts) * settings.max_tokens),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--index", required=True, help="an .fmi file")
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--queries", type=int, default=64)
    parser.add_argument("--reference-queries", type=int, default=4)
    parser.add_argument("--beams", type=int, default=10)
    parser.add_argument("--groups", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=10)
    parser.add_argument("--prompt-tokens", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu: processor time, for busy machines"
    )
    parser.add_argument("--variants", default="unconstrained,constrained,device,reference")
    parser.add_argument("--tokenizer", help="for the variant words: the tokenizer of the index")
    parser.add_argument("--json", help="write the figures here")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    index = FMIndex.load(args.index)
    model = make_model(SHAPES[args.shape], index.vocab_size, args.device, CLOCKS[args.clock])
    generator = torch.Generator().manual_seed(0)
    prompts = list(
        torch.randint(3, index.vocab_size, (args.queries, args.prompt_tokens), generator=generator)
    )
    settings = DecodingConfig(
        beam_size=args.beams,
        groups=args.groups,
        diversity=0.5 if args.groups > 1 else 0.0,
        max_tokens=args.tokens,
        min_tokens=args.tokens,
        length_penalty=0.0,
        batch_size=args.batch_size,
    )
    results: dict[str, Any] = {
        "shape": args.shape,
        "device": args.device,
        "clock": args.clock,
        "variants": {},
    }
    matcher = ClueMatcher(index, stop_tokens=(EOS,), min_tokens=settings.min_tokens)
    for name in args.variants.split(","):
        if name == "reference":
            figures = reference(model, index, prompts[: args.reference_queries], settings)
        else:
            if name == "unconstrained":
                constraint: Constraint = NoConstraint((EOS,), settings.min_tokens)
            elif name == "constrained":
                constraint = IndexConstraint(matcher, (EOS,))
            elif name == "words":
                borders = borders_of(load_tokenizer(args.tokenizer), index.vocab_size, words=True)
                bordered = ClueMatcher(
                    index, stop_tokens=(EOS,), min_tokens=settings.min_tokens, borders=borders
                )
                constraint = IndexConstraint(bordered, (EOS,))
            else:
                constraint = DeviceConstraint(DeviceIndex.build(index, args.device), matcher, (EOS,))
            figures = measure_search(model, constraint, prompts, settings)
        results["variants"][name] = figures
        print(f"{name:14s} " + "  ".join(f"{k} {v:.4g}" for k, v in figures.items()), flush=True)
    results["constraint_share"] = {
        name: figures["constraint_share"]
        for name, figures in results["variants"].items()
        if "constraint_share" in figures and name != "unconstrained"
    }
    results["peak_rss_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if args.device == "cuda":
        results["peak_gpu_gb"] = torch.cuda.max_memory_allocated() / 2**30
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps({k: v for k, v in results.items() if k != "variants"}))


if __name__ == "__main__":
    main()
