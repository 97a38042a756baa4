"""What FLMR's authors publish, in miniature: a module that computes as theirs does, and its folder of tensors and settings."""

from __future__ import annotations

import json
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoModel, BertConfig, CLIPVisionModel
from transformers.models.bert.modeling_bert import BertEncoder

from gemkr.types import Document, Query


class Wrapped(nn.Module):
    """A model under the name that their wrapper gives it."""

    def __init__(self, name: str, model: nn.Module) -> None:
        super().__init__()
        setattr(self, name, model)


class Theirs(nn.Module):
    """Names, shapes and sums of `FLMRModelForRetrieval`, with PreFLMR's mapping network or, as FLMR is, without."""

    def __init__(self, text: Any, vision: Any, separate: bool, mapping: bool = True) -> None:
        super().__init__()
        self.padding, self.mapping = text.pad_token_id, mapping
        self.context_text_encoder = Wrapped("bert_model", AutoModel.from_config(text))
        self.context_text_encoder_linear = nn.Linear(24, 8, bias=False)
        self.context_vision_encoder = Wrapped("vision_model", CLIPVisionModel(vision))
        self.context_vision_projection = Wrapped(
            "model", nn.Sequential(nn.Linear(20, 16), nn.Tanh(), nn.Linear(16, 32))
        )
        if mapping:
            self._add_mapping(text)
        self.query_text_encoder, self.query_text_encoder_linear = (
            self.context_text_encoder,
            self.context_text_encoder_linear,
        )
        if separate:
            self.query_text_encoder = Wrapped("bert_model", AutoModel.from_config(text))
            self.query_text_encoder_linear = nn.Linear(24, 8, bias=False)
        self.query_vision_encoder, self.query_vision_projection = (
            self.context_vision_encoder,
            self.context_vision_projection,
        )
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.3)

    def _add_mapping(self, text: Any) -> None:
        self.transformer_mapping_input_linear = nn.Linear(20, 24)
        mapping = BertConfig(
            hidden_size=24, num_attention_heads=2, intermediate_size=32, num_hidden_layers=1, is_decoder=True,
            add_cross_attention=True, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
            layer_norm_eps=text.layer_norm_eps,
        )  # fmt: skip
        mapping._attn_implementation = "eager"
        self.transformer_mapping_network = BertEncoder(mapping)
        self.transformer_mapping_output_linear = nn.Linear(24, 8)

    def state(self) -> dict[str, Tensor]:
        """As their save leaves it: with CLIP's name of the tower inside, and copies of what is shared."""
        state = {}
        for name, value in self.state_dict().items():
            state[
                name.replace("_vision_encoder.vision_model.", "_vision_encoder.vision_model.vision_model.")
            ] = value.clone()
        return state

    @torch.no_grad()
    def query(self, tokens: Tensor, attended: Tensor, pixels: Tensor, end: int) -> Tensor:
        states = self.query_text_encoder.bert_model(tokens, attention_mask=attended).last_hidden_state
        ends = (tokens == end).int().argmax(1)
        places = torch.arange(tokens.shape[1])
        counts = (tokens != self.padding) & ((places > ends[:, None]) | (places < 2))
        text = self.query_text_encoder_linear(states) * counts[:, :, None]
        seen = self.query_vision_encoder.vision_model(pixels, output_hidden_states=True)
        whole = self.query_vision_projection.model(seen.last_hidden_state[:, 0]).view(len(tokens), -1, 8)
        every = [text, whole]
        if self.mapping:
            patches = self.transformer_mapping_network(
                self.transformer_mapping_input_linear(seen.hidden_states[-2][:, 1:]),
                encoder_hidden_states=states[:, :7],
            ).last_hidden_state
            every.append(self.transformer_mapping_output_linear(patches))
        return F.normalize(torch.cat(every, dim=1), dim=-1)

    @torch.no_grad()
    def document(self, tokens: Tensor, attended: Tensor, skipped: set[int]) -> Tensor:
        states = self.context_text_encoder.bert_model(tokens, attention_mask=attended).last_hidden_state
        counts = torch.tensor(
            [[x not in skipped and x != self.padding for x in row] for row in tokens.tolist()]
        )
        return F.normalize(self.context_text_encoder_linear(states) * counts[:, :, None], dim=-1)


def publish(module: Theirs, folder: Path, separate: bool, **settings: Any) -> Path:
    """Two files of tensors and their settings."""
    folder.mkdir(exist_ok=True)
    state = module.state()
    names = sorted(state)
    for number, part in enumerate((names[::2], names[1::2])):
        save_file({name: state[name] for name in part}, folder / f"model-0000{number}-of-00002.safetensors")
    config = {"dim": 8, "mapping_network_prefix_length": 4, "transformer_mapping_cross_attention_length": 7}
    config |= {"use_transformer_mapping_network": module.mapping, "transformer_mapping_num_hidden_layers": 1}
    config |= {"separate_query_and_context_text_encoder": separate, "mask_instruction_token": ":"} | settings
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def require_their_vectors(
    encoder: Any, module: Theirs, queries: Sequence[Query], documents: Sequence[Document], end: str
) -> None:
    """Assert that an encoder gives a published module's vectors; an instruction ends with the token `end`."""
    tokenizer, read = encoder.reader.tokenizer, encoder.reader.queries(queries)
    asked = module.query(
        read["query_tokens"], read["attended"], read["pixels"], tokenizer.convert_tokens_to_ids(end)
    )
    skipped = {tokenizer.encode(mark, add_special_tokens=False)[0] for mark in string.punctuation} - {
        tokenizer.unk_token_id
    }
    read = encoder.reader.documents(documents)
    held = module.document(read["document_tokens"], read["attended"], skipped)
    for own, theirs in (
        (encoder.encode_queries(queries), asked),
        (encoder.encode_documents(documents), held),
    ):
        kept = [row[row.any(dim=1)].numpy() for row in theirs]
        assert np.diff(own.offsets).tolist() == [len(row) for row in kept]
        np.testing.assert_allclose(own.values, np.concatenate(kept), atol=1e-5)
