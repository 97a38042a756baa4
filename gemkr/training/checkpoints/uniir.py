"""Where the tensors of our clip_sf, clip_ff, blip_sf and blip_ff are in the checkpoints that UniIR's authors publish.

From FACTS and their code: the state dict lies under `model`, beside the states of the optimizer, the scheduler and the scaler and
settings of OmegaConf; `clip_model` is OpenAI's CLIP; CLIP-FF has no text projection and calls T5's layers `t5_layers`; BLIP's
towers are `visual_encoder` and `text_encoder`, with momentum copies (`_m`), queues and a temperature, which only training needs.
Unverified, since no published file was at hand: that the files follow that code to the letter; whether `t5_layers` holds a table of
embeddings, which older transformers made and nothing reads (both are accepted).
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

UNUSED = {
    "clip_sf": re.compile(r"clip_model\.logit_scale"),
    "clip_ff": re.compile(r"clip_model\.logit_scale|t5_layers\.embed_tokens\.weight"),
}
"""What of theirs only training needs, or nothing."""


def sources_of(kind: str) -> Callable[[Iterable[str]], dict[str, Source]]:
    """What finds, for tensors of an encoder of this kind by our names, those of theirs; CheckpointError for a kind that is none of theirs."""
    if kind not in UNUSED:
        raise CheckpointError(
            f"published checkpoints are read into encoders of the kinds {', '.join(UNUSED)} and vlm, the configuration has {kind!r}; "
            "set encoder.kind"
        )
    return lambda names: {name: _of_clip(name) for name in names}


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


def _replaced(name: str, rules: dict[str, str]) -> str:
    for pattern, theirs in rules.items():
        if found := re.fullmatch(pattern, name):
            return found.expand(theirs)
    raise ValueError(f"no rule for {name!r}")
