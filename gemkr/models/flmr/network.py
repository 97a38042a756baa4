"""FLMR's and PreFLMR's network: vectors of text tokens, of a picture, of its patches as the question sees them, and of regions.

After Lin et al., "PreFLMR: Scaling Up Fine-Grained Late-Interaction Multi-modal Retrievers" (2024) and its published model code.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gemkr.models.embedder import Inputs


class PreFLMR(nn.Module):
    """Inputs of n items -> float[n, T, width], each vector of length 1 or, where there is none, zeros.

    Vectors are in the order: text tokens, the picture's (of its CLS state), its patches, those of each region. A query's text is
    read by `query_text`, a document's by `document_text` (or the same). Patches are a query's only, and know its text.
    """

    def __init__(
        self,
        query_text: nn.Module,
        document_text: nn.Module | None,
        vision: nn.Module | None,
        *,
        width: int,
        image_tokens: int,
        mapping_layers: int,
        seen_tokens: int,
    ) -> None:
        """`image_tokens` vectors are made of a picture's CLS state; patches pass `mapping_layers` transformer layers (none: FLMR),
        which see the first `seen_tokens` states of the question."""
        super().__init__()
        self.width, self.image_tokens, self.seen_tokens = width, image_tokens, seen_tokens
        states = query_text.config.hidden_size
        self.query_text, self.query_linear = query_text, nn.Linear(states, width, bias=False)
        self.document_text = document_text
        self.document_linear = None if document_text is None else nn.Linear(states, width, bias=False)
        self.vision = vision
        self.patch_layers: nn.Module | None = None
        if vision is None:
            return
        seen = vision.config.hidden_size
        self.image_mapping = nn.Sequential(
            nn.Linear(seen, width * image_tokens // 2),
            nn.Tanh(),
            nn.Linear(width * image_tokens // 2, width * image_tokens),
        )
        if mapping_layers:
            self.patch_input = nn.Linear(seen, states)
            self.patch_layers = _cross_attending(query_text.config, mapping_layers)
            self.patch_output = nn.Linear(states, width)

    @property
    def patches(self) -> int:
        """Vectors of the patches of a query's picture."""
        if self.patch_layers is None:
            return 0
        return (self.vision.config.image_size // self.vision.config.patch_size) ** 2

    def forward(self, inputs: Inputs) -> Tensor:
        if "query_tokens" in inputs:
            states = _states(self.query_text, inputs["query_tokens"], inputs["attended"])
            return self._query(states, inputs)
        text = self.query_text if self.document_text is None else self.document_text
        linear = self.query_linear if self.document_linear is None else self.document_linear
        states = _states(text, inputs["document_tokens"], inputs["attended"])
        parts = [linear(states) * inputs["scored"][:, :, None]]
        if len(inputs["pixels"]):
            pictures = self._mapped(self._seen(inputs["pixels"])[0])
            parts.append(_placed(pictures, inputs["has_image"].nonzero()[:, 0], len(states)))
        return F.normalize(torch.cat(parts, dim=1), dim=-1)

    def _query(self, states: Tensor, inputs: Inputs) -> Tensor:
        parts = [self.query_linear(states) * inputs["scored"][:, :, None]]
        if len(inputs["pixels"]):
            rows = inputs["has_image"].nonzero()[:, 0]
            whole, patches = self._seen(inputs["pixels"])
            parts.append(_placed(self._mapped(whole), rows, len(states)))
            if self.patch_layers is not None:
                found = self.patch_layers(
                    self.patch_input(patches), encoder_hidden_states=states[rows, : self.seen_tokens]
                ).last_hidden_state
                parts.append(_placed(self.patch_output(found), rows, len(states)))
        if len(inputs["crops"]):
            mapped, owners = self._mapped(self._seen(inputs["crops"])[0]), inputs["crop_owners"]
            places = (owners[:, None] == owners).tril(-1).sum(dim=1)  # how many of the same query came before
            for place in range(int(places.max()) + 1):
                own = places == place
                parts.append(_placed(mapped[own], owners[own], len(states)))
        return F.normalize(torch.cat(parts, dim=1), dim=-1)

    def _seen(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """A picture's CLS state [n, states] of the last layer, without its LayerNorm, and the patches [n, patches, states] of the layer
        before."""
        found = self.vision(pixel_values=pixels, output_hidden_states=True)
        return found.last_hidden_state[:, 0], found.hidden_states[-2][:, 1:]

    def _mapped(self, whole: Tensor) -> Tensor:
        return self.image_mapping(whole).view(len(whole), self.image_tokens, self.width)


def _states(text: nn.Module, tokens: Tensor, attended: Tensor) -> Tensor:
    return text(input_ids=tokens, attention_mask=attended).last_hidden_state


def _placed(vectors: Tensor, rows: Tensor, n: int) -> Tensor:
    """[n, T, width]: `vectors` [m, T, width] in these rows, zeros in the others."""
    return vectors.new_zeros(n, *vectors.shape[1:]).index_copy(0, rows, vectors)


def _cross_attending(config: object, layers: int) -> nn.Module:
    """BERT layers of the text tower's sizes, in which every patch sees every patch and the text."""
    from transformers import BertConfig
    from transformers.models.bert.modeling_bert import BertEncoder

    names = (
        "hidden_size", "num_attention_heads", "intermediate_size", "hidden_act", "layer_norm_eps", "hidden_dropout_prob",
        "attention_probs_dropout_prob",
    )  # fmt: skip
    sizes = {name: getattr(config, name) for name in names}
    own = BertConfig(**sizes, num_hidden_layers=layers, is_decoder=True, add_cross_attention=True)
    own._attn_implementation = "eager"  # sdpa takes a decoder without a mask for a causal one
    encoder = BertEncoder(own)
    for module in encoder.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
    return encoder
