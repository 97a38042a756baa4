"""Where the tensors of our preflmr are in the folders that FLMR's authors publish (FLMR, PreFLMR_ViT-B/L/G, PreFLMR_ViT-L_ENCN).

From their public model code: `FLMRModelForRetrieval` with a `BertModel` (ENCN: bge-m3's XLM-R) and a `CLIPVisionModel` in wrappers, a
projection of the CLS state, and PreFLMR's mapping network. Where query and document share a tower, its tensors stand under both names, or
under `context_` alone; BERT's pooler is saved and never read. Unverified, since no published file was at hand: that the files follow that
code to the letter, and what ENCN does: in that code its texts begin with ▁. in place of a marker, which documents mask as punctuation,
and [MASK] padding is left out (query_marker and document_marker ▁., mask_padding false). Its masks look for BERT's [PAD], id 0, which is
XLM-R's <s>, and its tower is a `BertModel` whose positions begin at 0; XLM-R's begin behind its padding, as here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from gemkr.errors import CheckpointError
from gemkr.training.checkpoints.renaming import Source

CONFIG = "config.json"
UNUSED = re.compile(
    r"(query|context)_text_encoder\.bert_model\.(pooler\..+|embeddings\.position_ids)|"
    r"(query|context)_vision_encoder\.vision_model\.vision_model\.(post_layernorm\..+|embeddings\.position_ids)"
)
"""What of theirs nothing reads."""
_SHARED = re.compile(r"query_(vision_encoder|vision_projection|text_encoder|text_encoder_linear)\.(.+)")
_PARTS = {
    "image_mapping": "context_vision_projection.model",
    "patch_input": "transformer_mapping_input_linear",
    "patch_layers": "transformer_mapping_network",
    "patch_output": "transformer_mapping_output_linear",
    "vision": "context_vision_encoder.vision_model.vision_model",
    "document_text": "context_text_encoder.bert_model",
    "document_linear": "context_text_encoder_linear",
}
_SAME = {
    "dim": "width",
    "mapping_network_prefix_length": "image_tokens",
    "transformer_mapping_cross_attention_length": "seen_tokens",
    "separate_query_and_context_text_encoder": "separate",
}
"""Their settings -> ours."""
USES_MAPPING, MAPPING_LAYERS = "use_transformer_mapping_network", "transformer_mapping_num_hidden_layers"


def read_flmr(place: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a published folder (all its safetensors files) or of one file, and the settings of its config.json, {} without
    one. CheckpointError where that fails."""
    place = Path(place)
    files = sorted(place.glob("*.safetensors")) if place.is_dir() else [place]
    if not files:
        raise CheckpointError(f"{place} holds no safetensors file; give the folder of a published PreFLMR")
    tensors: dict[str, Tensor] = {}
    try:
        for file in files:
            tensors |= load_file(file)
        config = (place if place.is_dir() else place.parent) / CONFIG
        settings = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    except OSError as error:
        raise CheckpointError(f"{place} cannot be read: {error.strerror or error}") from error
    except (ValueError, SafetensorError) as error:
        raise CheckpointError(f"{place} cannot be read ({error}); download it again") from error
    return tensors, settings


def require_settings(settings: Any, theirs: Mapping[str, Any], where: str | Path) -> None:
    """CheckpointError unless an encoder's settings let all weights be imported and are those that a published config.json names."""
    if settings.learns != "all" or (settings.vision is not None and not settings.train_vision):
        raise CheckpointError(
            f"the checkpoint {where} holds a whole model, towers too; set encoder.learns: all and encoder.train_vision: true"
        )
    if USES_MAPPING in theirs:
        layers = theirs.get(MAPPING_LAYERS) or settings.mapping_layers if theirs[USES_MAPPING] else 0
        if layers != settings.mapping_layers:
            raise CheckpointError(
                f"the checkpoint {where} has {layers} mapping layers ({USES_MAPPING}: {theirs[USES_MAPPING]}), the encoder "
                f"mapping_layers: {settings.mapping_layers}; set encoder.mapping_layers: {layers}"
            )
    for name, own in _SAME.items():
        if name in theirs and theirs[name] != getattr(settings, own):
            raise CheckpointError(
                f"the checkpoint {where} has {name}: {theirs[name]}, the encoder {own}: {getattr(settings, own)}; set encoder.{own}"
            )


def without_copies(state: Mapping[str, Tensor], *, separate: bool, where: str | Path) -> dict[str, Tensor]:
    """The tensors without the second names of what query and document share; CheckpointError where two such differ."""
    kept = {}
    for name, value in state.items():
        found = _SHARED.fullmatch(name)
        if found is None or (separate and found[1].startswith("text")):
            kept[name] = value
            continue
        other = f"context_{found[1]}.{found[2]}"
        if other not in state:
            kept[other] = value
        elif not torch.equal(state[other], value):
            way_out = "set encoder.separate: true" if found[1].startswith("text") else "take another"
            raise CheckpointError(
                f"the checkpoint {where} has {name} and {other}, which differ, and the encoder has one for both; {way_out}"
            )
    return kept


def sources(names: Iterable[str], *, separate: bool) -> dict[str, Source]:
    """Theirs for tensors of a preflmr by our names."""
    query = "query" if separate else "context"
    parts = _PARTS | {
        "query_text": f"{query}_text_encoder.bert_model",
        "query_linear": f"{query}_text_encoder_linear",
    }
    found = {}
    for name in names:
        part, _, rest = name.partition(".")
        found[name] = Source((f"{parts[part]}.{rest}",))
    return found
