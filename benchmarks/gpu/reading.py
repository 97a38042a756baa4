"""Pictures and texts to vectors, vectors searched, and a vision-language model that writes."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.gpu.material import seconds_of
from benchmarks.gpu.scale import Scale
from gemkr.models.gemkr import branches
from gemkr.models.gemkr.branches import BranchState
from gemkr.models.hf.vlm_llm import VlmLLM

TEXT = 32
QUERY_VECTORS, DOCUMENT_VECTORS, WIDTH = 32, 180, 128
CHUNK = 2_000


def embed(scale: Scale) -> dict[str, Any]:
    """A CLIP of ViT-L/14's shape: pictures and texts a second."""
    from transformers import CLIPConfig, CLIPModel

    text, vision = scale.clip
    config = CLIPConfig(text_config={**text, "max_position_embeddings": 77}, vision_config=vision)
    with torch.device(scale.device):
        model = CLIPModel(config).to(scale.dtype).eval()
        pixels = torch.randn(scale.batch, 3, vision["image_size"], vision["image_size"]).to(scale.dtype)
        tokens = torch.randint(3, 40_000, (scale.batch, TEXT))
    with torch.inference_mode():
        return {
            "pictures_per_second": scale.batch
            / seconds_of(scale, lambda: model.get_image_features(pixel_values=pixels)),
            "texts_per_second": scale.batch
            / seconds_of(scale, lambda: model.get_text_features(input_ids=tokens)),
        }


@torch.inference_mode()
def late_interaction(scale: Scale) -> dict[str, Any]:
    """Exact MaxSim of one query with many documents: documents a second."""
    shape = min(CHUNK, scale.documents), DOCUMENT_VECTORS, WIDTH
    documents = torch.randn(shape, device=scale.device, dtype=scale.dtype)
    query = torch.randn(QUERY_VECTORS, WIDTH, device=scale.device, dtype=scale.dtype)
    seconds = seconds_of(scale, lambda: (documents @ query.T).amax(dim=1).float().sum(dim=1))
    return {"documents_per_second": len(documents) / seconds}


@torch.inference_mode()
def search(scale: Scale) -> dict[str, Any]:
    """Exact search of all vectors of width 768 for the best 100: queries a second."""
    vectors = torch.randn(scale.documents, 768, device=scale.device, dtype=scale.dtype)
    queries = torch.randn(scale.batch, 768, device=scale.device, dtype=scale.dtype)
    best = min(100, scale.documents)
    seconds = seconds_of(scale, lambda: (queries @ vectors.T).topk(best, dim=1))
    return {"vectors": scale.documents, "queries_per_second": scale.batch / seconds}


@torch.inference_mode()
def vlm(scale: Scale) -> dict[str, Any]:
    """A LLaVA-1.5-7B's shape: one prefill of picture and question, then steps of all beams; no index."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    text, vision = scale.vlm
    image = text["vocab_size"] - 1
    config = AutoConfig.for_model(
        "llava",
        text_config={**text, "model_type": "llama"},
        vision_config={**vision, "model_type": "clip_vision_model"},
        image_token_id=image,
    )
    with torch.device(scale.device):
        llm = VlmLLM(AutoModelForImageTextToText.from_config(config, dtype=scale.dtype).eval())
        pixels = torch.randn(scale.batch, 3, vision["image_size"], vision["image_size"]).to(scale.dtype)
        tokens = torch.randint(3, image, (scale.batch, scale.prompt))
    pictures = {"pixel_values": pixels}
    seen = (vision["image_size"] // vision["patch_size"]) ** 2
    tokens = torch.cat([tokens.new_full((scale.batch, seen), image), tokens], dim=1)
    mask = torch.ones_like(tokens)
    prefill = seconds_of(scale, lambda: llm.prefill_rows(tokens, mask, pictures))
    _, state = llm.prefill_rows(tokens, mask, pictures)
    rows = torch.arange(scale.batch, device=scale.device).repeat_interleave(scale.beams)
    beams = BranchState.root(state).select(rows.cpu())
    following = torch.full_like(rows, 5)
    step = seconds_of(scale, lambda: branches.step(llm, following, beams))
    return {
        "prefill_ms": 1000 * prefill,
        "step_ms": 1000 * step,
        "queries_per_second": scale.batch / (prefill + scale.tokens * step),
    }
