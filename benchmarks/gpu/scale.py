"""How large everything is: true shapes on a card, the smallest ones for a dry run on a CPU."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from benchmarks.bench_decode import SHAPES, Shape


@dataclass(frozen=True, eq=False)
class Scale:
    """`llama`: LLaMA's shapes by name; `clip` and `vlm`: settings of a text and a vision part; `wiki` and `large`: tokens of two
    corpora; `documents`: vectors that are searched; `seconds`: about how long a measurement goes on."""

    dry: bool
    device: str
    llama: dict[str, Shape]
    clip: tuple[dict[str, int], dict[str, int]]
    vlm: tuple[dict[str, int], dict[str, int]]
    vocabulary: int
    wiki: int
    large: int
    documents: int
    queries: int
    batch: int
    beams: int
    tokens: int
    prompt: int
    seconds: float

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32 if self.dry else torch.bfloat16

    def synchronize(self) -> None:
        """Wait until the device is done."""
        if self.device == "cuda":
            torch.cuda.synchronize()


CLIP_TEXT = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
}
CLIP_VISION = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16, "image_size": 224,
    "patch_size": 14,
}  # fmt: skip
LLAMA_7B = {
    "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 32064,
}  # fmt: skip
REAL = Scale(
    dry=False, device="cuda", llama=SHAPES, clip=(CLIP_TEXT, CLIP_VISION), vlm=(LLAMA_7B, {**CLIP_VISION, "image_size": 336}),
    vocabulary=32_000, wiki=17_400_000, large=1_000_000_000, documents=1_000_000, queries=256, batch=64, beams=10, tokens=10,
    prompt=100, seconds=3.0,
)  # fmt: skip
TINY = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
DRY = Scale(
    dry=True, device="cpu", llama=dict.fromkeys(SHAPES, (16, 24, 1, 2, 2)), clip=(TINY, {**TINY, "image_size": 8, "patch_size": 4}),
    vlm=({**TINY, "vocab_size": 210}, {**TINY, "image_size": 8, "patch_size": 4}), vocabulary=200, wiki=3_000, large=6_000,
    documents=100, queries=4, batch=2, beams=2, tokens=3, prompt=5, seconds=0.0,
)  # fmt: skip
