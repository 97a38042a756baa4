"""Pre-trains the sample's LLaMA (2 M parameters) on passages and on questions over named flags.

Writes a Hugging Face folder: config.json, model.safetensors (float16), tokenizer.model. One CPU thread, about 15
minutes, the same weights for the same seed and package versions. Knows no pictures.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import random
import time
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from gemkr.sample.pretraining_texts import TextMaker, TrainingText
from gemkr.sample.tokenizer import train_tokenizer
from gemkr.text.tokenizer import Tokenizer, load_tokenizer

STEPS = 3000
QUESTIONS, PASSAGES = 32, 6
LEARNING_RATE, WARM_UP, WEIGHT_DECAY = 3e-3, 100, 0.05
MAX_CLUE = 14


def make_model(tokenizer: Tokenizer) -> Any:
    """A fresh LlamaForCausalLM: hidden 192, 4 layers, 6 heads, tied embeddings."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_id,
        eos_token_id=tokenizer.eos_ids[0],
        pad_token_id=None,
    )
    return LlamaForCausalLM(config)


def loss_of(model: Any, texts: list[TrainingText]) -> torch.Tensor:
    """Mean cross entropy over the learned tokens. What all texts begin with is computed once."""
    shared = _shared_prefix(texts)
    length = max(len(text.tokens) for text in texts)
    tokens = torch.zeros(len(texts), length, dtype=torch.long)
    learned = torch.zeros(len(texts), length, dtype=torch.bool)
    for row, text in enumerate(texts):
        tokens[row, : len(text.tokens)] = torch.tensor(text.tokens)
        learned[row, text.learn_from : len(text.tokens)] = True
    cache = None
    if shared:
        cache = model.model(tokens[:1, :shared], use_cache=True).past_key_values
        cache.batch_repeat_interleave(len(texts))
    states = model.model(tokens[:, shared:-1], past_key_values=cache, use_cache=cache is not None)
    targets = learned[:, shared + 1 :]
    logits = model.lm_head(states.last_hidden_state[targets])
    return functional.cross_entropy(logits, tokens[:, shared + 1 :][targets])


@torch.no_grad()
def measure_accuracy(
    model: Any, maker: TextMaker, eos: int, prompts: list[tuple[list[int], Any]]
) -> dict[str, float]:
    """Shares of greedy answers that are the gold clue as a whole, and up to its fifth token."""
    model.eval()
    whole = start = 0
    for prompt, fact in prompts:
        gold = [*maker.clue(fact), eos]
        ids = torch.tensor([prompt])
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=MAX_CLUE, do_sample=False, pad_token_id=0
        )[0, len(prompt) :].tolist()
        whole += out[: len(gold)] == gold
        start += out[:5] == gold[:5]
    model.train()
    return {"whole": round(whole / len(prompts), 3), "start": round(start / len(prompts), 3)}


def pretrain(folder: Path, steps: int = STEPS, seed: int = 0, log: Path | None = None) -> dict[str, Any]:
    """Train tokenizer and model into `folder`; the accuracy on asked and on held-out combinations."""
    torch.manual_seed(seed)
    began = time.perf_counter()
    train_tokenizer(folder / "tokenizer.model")
    tokenizer = load_tokenizer(folder / "tokenizer.model")
    maker, rng = TextMaker(tokenizer), random.Random(f"lessons {seed}")
    model = make_model(tokenizer)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.98))
    eos = tokenizer.eos_ids[0]
    for step in range(steps):
        share = max(step - WARM_UP, 0) / max(steps - WARM_UP, 1)
        rate = (
            LEARNING_RATE
            * min(1.0, (step + 1) / WARM_UP)
            * (0.02 + 0.98 * (1 + math.cos(math.pi * share)) / 2)
        )
        for group in optimizer.param_groups:
            group["lr"] = rate
        answers = loss_of(model, maker.questions(QUESTIONS, rng))
        texts = loss_of(model, maker.passages(PASSAGES, rng))
        optimizer.zero_grad(set_to_none=True)
        (answers + texts).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        row: dict[str, Any] = {"step": step + 1, "answers": answers.item(), "texts": texts.item()}
        if (step + 1) % 250 == 0:
            row |= {
                "held_out": measure_accuracy(model, maker, eos, maker.prompts(1, True)),
                "seconds": round(time.perf_counter() - began),
            }
        if log is not None and (step + 1) % 50 == 0:
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        if (step + 1) % 250 == 0 and step + 1 < steps:
            _save(model, folder)
    _save(model, folder)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "asked": measure_accuracy(model, maker, eos, maker.prompts(1, False)),
        "held_out": measure_accuracy(model, maker, eos, maker.prompts(3, True)),
        "seconds": round(time.perf_counter() - began),
    }


def _save(model: Any, folder: Path) -> None:
    copy.deepcopy(model).half().save_pretrained(folder)


def _shared_prefix(texts: list[TrainingText]) -> int:
    """How many tokens all texts begin with, none of them learned, one before the last at most."""
    limit = min(min(text.learn_from for text in texts), min(len(x.tokens) for x in texts) - 1) - 1
    first = texts[0].tokens
    same = 0
    while same < limit and all(text.tokens[same] == first[same] for text in texts):
        same += 1
    return same


def main(argv: list[str] | None = None) -> None:
    """Command line: `python -m gemkr.sample.pretrain_llm FOLDER`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    print(json.dumps(pretrain(args.folder, args.steps, args.seed, args.log)))


if __name__ == "__main__":
    main()
