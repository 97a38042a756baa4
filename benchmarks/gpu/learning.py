"""Fine-tuning with the paper's recipe: LoRA of rank 8, 12 queries a batch, with gradient checkpointing and without."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.gpu.material import llama, seconds_of
from benchmarks.gpu.scale import Scale
from gemkr.models.hf.config import LoraConfig
from gemkr.models.hf.llm import LLM
from gemkr.models.hf.llm_folder import add_lora

SAMPLES = 144_000
BATCH, CLUE = 12, 10


def finetune(scale: Scale, shape: str = "7b") -> dict[str, Any]:
    """Samples a second, and so the minutes of one pass over the paper's 144 K; peak memory in GB."""
    figures: dict[str, Any] = {"batch": BATCH, "tokens": scale.prompt + CLUE}
    model = llama(scale, shape).llm.model
    model.requires_grad_(False)
    add_lora(model, LoraConfig())
    learned = [p for p in model.parameters() if p.requires_grad]
    for parameter in learned:
        parameter.data = parameter.data.float()
    llm, optimizer = LLM(model).train(), torch.optim.AdamW(learned, lr=6e-5)
    tokens = torch.randint(3, scale.vocabulary, (BATCH, scale.prompt + CLUE), device=scale.device)
    mask = torch.ones_like(tokens)

    def step() -> None:
        with torch.autocast(scale.device, torch.bfloat16, enabled=scale.device == "cuda"):
            logits = llm.logits(llm.embed(tokens), mask, last=CLUE + 1)[:, :-1]
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, -CLUE:].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for name in ("whole", "checkpointed"):
        if name == "checkpointed":
            enable = (
                getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
            )
            enable({"use_reentrant": False})
        if scale.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        rate = BATCH / seconds_of(scale, step)
        figures[name] = {"samples_per_second": rate, "minutes_of_144k": SAMPLES / rate / 60}
        if scale.device == "cuda":
            figures[name]["peak_gb"] = torch.cuda.max_memory_allocated() / 1e9
    llama.cache_clear()
    return figures
