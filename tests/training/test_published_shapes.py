"""The importers' mappings at the published sizes: every name and every shape accounted for, on tensors without memory."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial

import pytest
import torch
from published_shapes import (
    QWEN2_VL,
    Shapes,
    blip_large,
    clip_large,
    on_meta,
    preflmr_large,
    qwen2_vl_adapters,
)
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    BlipConfig,
    BlipForImageTextRetrieval,
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    Qwen2VLConfig,
    Qwen2VLModel,
)

from gemkr.config.files import load_part
from gemkr.config.packaged import find_config
from gemkr.config.section import Section
from gemkr.errors import CheckpointError
from gemkr.models.flmr.encoder import let_learn
from gemkr.models.flmr.network import PreFLMR
from gemkr.models.hf.adapters import AdapterConfig, prepare
from gemkr.models.hf.vlm import VlmNetwork
from gemkr.models.uniir.blip_ff import BlipFeatureFusion
from gemkr.models.uniir.blip_sf import BlipScoreFusion, new_space, resize_positions
from gemkr.models.uniir.clip_ff import ClipFeatureFusion
from gemkr.models.uniir.clip_sf import ClipScoreFusion
from gemkr.models.uniir.fusion import FusionLayers
from gemkr.models.weights import trained_parameters
from gemkr.training.checkpoints import flmr, peft_folder, uniir
from gemkr.training.checkpoints.renaming import Source, matched
from gemkr.training.contrastive.published import EncoderChoice

LARGE = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
BASE = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
VLM2VEC = ["q_proj", "k_proj", "v_proj", "o_proj", "down_proj"]
"""Of the modules that VLM2Vec's training names, those that Qwen2-VL has (gate_up_proj is Phi's)."""
LAMRA = [*VLM2VEC, "gate_proj", "up_proj"]


def packaged(name: str) -> Section:
    """The encoder of a packaged configuration of training."""
    return load_part(find_config(name, "train"), "encoder", EncoderChoice).encoder


def clip(*, fused: bool) -> nn.Module:
    vision = {**LARGE, "image_size": 224, "patch_size": 14}
    config = CLIPConfig(
        text_config={**BASE, "vocab_size": 49408, "max_position_embeddings": 77}, vision_config=vision, projection_dim=768
    )  # fmt: skip
    if not fused:
        return ClipScoreFusion(CLIPModel(config))
    layers = FusionLayers(768, layers=2, heads=12, head_width=64, feed_forward=2048, dropout=0.1)
    return ClipFeatureFusion(CLIPModel(config), layers, attend_padding=True)


def blip(*, fused: bool) -> nn.Module:
    """Over the public folder, whose pictures have 384 pixels a side and whose space 256 numbers, with UniIR's settings."""
    config = BlipConfig(
        text_config={**BASE, "vocab_size": 30524, "max_position_embeddings": 512, "encoder_hidden_size": 1024, "is_decoder": True},
        vision_config={**LARGE, "image_size": 384, "patch_size": 16}, image_text_hidden_size=256,
    )  # fmt: skip
    model = BlipForImageTextRetrieval(config)
    resize_positions(model.vision_model, packaged("blip_ff").config.image_size)
    if fused:
        return BlipFeatureFusion(model, attend_padding=True)
    assert new_space(model, 768)
    network = BlipScoreFusion(model)
    for name, parameter in network.text_encoder.named_parameters():
        parameter.requires_grad_("crossattention" not in name)
    return network


def qwen(size: str, adapters: AdapterConfig) -> nn.Module:
    width, between, heads, key_heads = QWEN2_VL[size]
    text = {
        "hidden_size": width, "intermediate_size": between, "num_hidden_layers": 28, "num_attention_heads": heads,
        "num_key_value_heads": key_heads, "vocab_size": 152064,
    }  # fmt: skip
    network = VlmNetwork(
        Qwen2VLModel(Qwen2VLConfig(text_config=text, vision_config={"hidden_size": width, "depth": 2}))
    )
    prepare(network, adapters, fresh=())
    return network


def preflmr() -> nn.Module:
    texts = [BertModel(BertConfig(**BASE, vocab_size=30522), add_pooling_layer=False) for _ in range(2)]
    vision = CLIPVisionModel(CLIPVisionConfig(**LARGE, image_size=224, patch_size=14))
    network = PreFLMR(*texts, vision, width=128, image_tokens=32, mapping_layers=1, seen_tokens=32)
    let_learn(network, "all", vision=True)
    return network


Find = Callable[..., dict[str, Source]]
CASES: dict[str, tuple[Callable[[], nn.Module], Shapes, Find, re.Pattern[str], int]] = {
    "clip_sf": (partial(clip, fused=False), clip_large(fused=False), uniir.sources_of("clip_sf"), uniir.UNUSED["clip_sf"], 1),
    "clip_ff": (partial(clip, fused=True), clip_large(fused=True), uniir.sources_of("clip_ff"), uniir.UNUSED["clip_ff"], 2),
    "blip_sf": (partial(blip, fused=False), blip_large(fused=False), uniir.sources_of("blip_sf"), uniir.UNUSED["blip_sf"], 0),
    "blip_ff": (partial(blip, fused=True), blip_large(fused=True), uniir.sources_of("blip_ff"), uniir.UNUSED["blip_ff"], 0),
    "vlm2vec": (
        partial(qwen, "2B", AdapterConfig(r=16, alpha=64, dora=True, targets=r".*\.(q|k|v|o|down)_proj")),
        qwen2_vl_adapters("2B", 16, VLM2VEC, dora=True), peft_folder.sources, peft_folder.NOTHING, 0,
    ),
    "lamra": (
        partial(qwen, "7B", AdapterConfig(r=128, alpha=256)), qwen2_vl_adapters("7B", 128, LAMRA, dora=False),
        peft_folder.sources, peft_folder.NOTHING, 0,
    ),
    "preflmr": (preflmr, preflmr_large(), partial(flmr.sources, separate=True), flmr.UNUSED, 2 * 3 + 3),
}  # fmt: skip
"""The network, what is published for it, how its tensors are found there, and how many of theirs are not needed."""


@pytest.fixture(scope="module")
def networks() -> dict[str, dict[str, Tensor]]:
    """What learns in each, built on the meta device."""
    with torch.device("meta"):
        found = {name: trained_parameters(case[0]()) for name, case in CASES.items()}
    assert {p.device.type for parameters in found.values() for p in parameters.values()} == {"meta"}
    return found


def match(name: str, networks: dict, state: dict[str, Tensor]) -> tuple[dict[str, str], list[str]]:
    _, _, find, unused, _ = CASES[name]
    shapes = {own: parameter.shape for own, parameter in networks[name].items()}
    return matched(state, find(shapes), shapes, unused, "published")


@pytest.mark.parametrize("name", CASES)
def test_every_name_and_shape_is_accounted_for(networks: dict, name: str) -> None:
    """Each of ours is taken from theirs in its shape, and what is left of theirs is known to be unneeded."""
    state = on_meta(CASES[name][1])
    names, ignored = match(name, networks, state)
    sources = CASES[name][2](networks[name])
    assert names.keys() == networks[name].keys()
    for own, theirs in names.items():
        assert sources[own].take(state[theirs]).shape == networks[name][own].shape
    assert {*names.values(), *ignored} == state.keys()
    if name.startswith("blip"):
        assert not [
            theirs
            for theirs in ignored
            if not re.search(r"_m\.|queue|^temp$|position_ids", theirs)
            and not (name == "blip_sf" and "crossattention" in theirs)
        ]
    else:
        assert len(ignored) == CASES[name][4]
    taken = sum(math.prod(state[theirs].shape) for theirs in {*names.values()})
    assert taken == sum(p.numel() for p in networks[name].values())


@pytest.mark.parametrize("name", CASES)
def test_what_does_not_fit_is_named(networks: dict, name: str) -> None:
    """A tensor that is missing, one that is unknown, one turned round, in one sentence."""
    state = on_meta(CASES[name][1])
    names, _ = match(name, networks, state)
    own, gone = next(iter(names.items()))
    turned = next(n for n in reversed(names.values()) if len({*state[n].shape}) == 2)
    changed = {n: value for n, value in state.items() if n != gone} | {"module.extra.weight": torch.empty(1)}
    changed[turned] = state[turned].T
    with pytest.raises(CheckpointError) as error:
        match(name, networks, changed)
    message = str(error.value)
    assert f"lacks {CASES[name][2]([own])[own].names[0]}; " in message
    assert "has the unknown module.extra.weight" in message
    shape = list(state[turned].shape)
    assert f"{turned} has shape {shape[::-1]} instead of {shape}" in message
    assert "\n" not in message


def test_sizes_are_the_published_ones() -> None:
    """Parameters of OpenAI's ViT-L/14, and the 543 M of PreFLMR_ViT-L's model card."""

    def parameters(shapes: Shapes) -> int:
        return sum(math.prod(shape) for name, shape in shapes.items() if "position_ids" not in name)

    assert parameters(clip_large(fused=False)) == 427_616_513
    assert round(parameters(preflmr_large()) / 1e6) == 543


def test_vlm2vec_adapts_neither_gate_nor_up(networks: dict) -> None:
    """Adapters of other modules than the encoder's are named in full."""
    state = on_meta(qwen2_vl_adapters("2B", 16, LAMRA, dora=True))
    with pytest.raises(
        CheckpointError, match=r"has the unknown base_model\.model\.model\.layers\.\{0-27\}\.mlp\.gate_proj"
    ):
        match("vlm2vec", networks, state)
