"""Where the tensors of our clip_sf, clip_ff, blip_sf and blip_ff are in the checkpoints that UniIR's authors publish.

From FACTS and their code: the state dict lies under `model`, beside the states of the optimizer, the scheduler and the scaler and
settings of OmegaConf; `clip_model` is OpenAI's CLIP; CLIP-FF has no text projection and calls T5's layers `t5_layers`; BLIP's
towers are `visual_encoder` and `text_encoder`, with momentum copies (`_m`), queues and a temperature, which only training needs.
Unverified, since no published file was at hand: that the files follow that code to the letter; whether `t5_layers` holds a table of
embeddings, which older transformers made and nothing reads (both are accepted). UniIR's BLIP reads pictures of 224, the public
folders of BLIP ones of 384, so that its encoders are given `image_size: 224`; BLIP_SF's space has 768 numbers, theirs 256: `space: 768`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from gemkr.errors import CheckpointError
from gemkr.training.checkpoints.renaming import Source

_CLIP = {
    r"text_model\.embeddings\.token_embedding\.weight": "clip_model.token_embedding.weight",
    r"text_model\.embeddings\.position_embedding\.weight": "clip_model.positional_embedding",
    r"text_model\.final_layer_norm\.(\w+)": r"clip_model.ln_final.\1",
    r"vision_model\.embeddings\.class_embedding": "clip_model.visual.class_embedding",
    r"vision_model\.embeddings\.patch_embedding\.weight": "clip_model.visual.conv1.weight",
    r"vision_model\.embeddings\.position_embedding\.weight": "clip_model.visual.positional_embedding",
    r"vision_model\.pre_layrnorm\.(\w+)": r"clip_model.visual.ln_pre.\1",
    r"vision_model\.post_layernorm\.(\w+)": r"clip_model.visual.ln_post.\1",
    r"fusion\.stack\.(.+)": r"t5_layers.\1",
}
_CLIP_TURNED = {
    "text_projection.weight": "clip_model.text_projection",
    "visual_projection.weight": "clip_model.visual.proj",
}
_CLIP_LAYER = re.compile(r"(text|vision)_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")
_CLIP_PARTS = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_CLIP_JOINED = [f"self_attn.{letter}_proj" for letter in "qkv"]
"""In this order in OpenAI's `in_proj_weight` and `in_proj_bias`."""

_BLIP = {
    r"vision_model\.embeddings\.class_embedding": "visual_encoder.cls_token",
    r"vision_model\.embeddings\.position_embedding": "visual_encoder.pos_embed",
    r"vision_model\.embeddings\.patch_embedding\.(\w+)": r"visual_encoder.patch_embed.proj.\1",
    r"vision_model\.encoder\.layers\.(\d+)\.self_attn\.qkv\.(\w+)": r"visual_encoder.blocks.\1.attn.qkv.\2",
    r"vision_model\.encoder\.layers\.(\d+)\.self_attn\.projection\.(\w+)": r"visual_encoder.blocks.\1.attn.proj.\2",
    r"vision_model\.encoder\.layers\.(\d+)\.layer_norm([12])\.(\w+)": r"visual_encoder.blocks.\1.norm\2.\3",
    r"vision_model\.encoder\.layers\.(\d+)\.(mlp\..+)": r"visual_encoder.blocks.\1.\2",
    r"vision_model\.post_layernorm\.(\w+)": r"visual_encoder.norm.\1",
    r"pooler\.(\w+)": r"text_encoder.pooler.dense.\1",
    r"text_projection\.(\w+)": r"text_proj.\1",
    r"visual_projection\.(\w+)": r"vision_proj.\1",
    r"(text_encoder\..+)": r"\1",
}
_BLIP_UNUSED = (
    r"(visual_encoder|text_encoder|vision_proj|text_proj)_m\..+|(query|cand|idx|new_ptr)_queue|temp|"
    r"text_encoder\.embeddings\.position_ids"
)

UNUSED = {
    "clip_sf": re.compile(r"clip_model\.logit_scale"),
    "clip_ff": re.compile(r"clip_model\.logit_scale|t5_layers\.embed_tokens\.weight"),
    "blip_sf": re.compile(_BLIP_UNUSED + r"|text_encoder\..+\.crossattention\..+"),
    "blip_ff": re.compile(_BLIP_UNUSED),
}
"""What of theirs only training needs, or nothing."""


def sources_of(kind: str) -> Callable[[Iterable[str]], dict[str, Source]]:
    """What finds, for tensors of an encoder of this kind by our names, those of theirs; CheckpointError for a kind that is none of theirs."""
    if kind not in UNUSED:
        raise CheckpointError(
            f"published checkpoints are read into encoders of the kinds {', '.join(UNUSED)}, vlm and preflmr, the configuration has {kind!r}; "
            "set encoder.kind"
        )
    find = _of_clip if kind.startswith("clip") else _of_blip
    return lambda names: {name: find(name) for name in names}


def _of_clip(name: str) -> Source:
    if name in _CLIP_TURNED:
        return Source((_CLIP_TURNED[name],), transposed=True)
    if layer := _CLIP_LAYER.fullmatch(name):
        tower, number, part, kind = layer.groups()
        block = f"clip_model.{'visual.' if tower == 'vision' else ''}transformer.resblocks.{number}"
        if part in _CLIP_JOINED:
            return Source((f"{block}.attn.in_proj_{kind}",), part=_CLIP_JOINED.index(part), parts=3)
        return Source((f"{block}.{_CLIP_PARTS[part]}.{kind}",))
    return Source((_replaced(name, _CLIP),))


def _of_blip(name: str) -> Source:
    return Source((_replaced(name, _BLIP),))


def _replaced(name: str, rules: dict[str, str]) -> str:
    for pattern, theirs in rules.items():
        if found := re.fullmatch(pattern, name):
            return found.expand(theirs)
    raise ValueError(f"no rule for {name!r}")
