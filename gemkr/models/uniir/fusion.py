"""Two ways of making one vector of a text and a picture, as UniIR names them: by score (a sum) and by feature (a transformer)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gemkr.models.embedder import Inputs


def summed(
    inputs: Inputs, text: Callable[[Tensor, Tensor], Tensor], image: Callable[[Tensor], Tensor], width: int
) -> Tensor:
    """float[n, width] of length 1: the sum of what `text(tokens, mask)` and `image(pixels)` give for what each item has.

    Only texts and pictures that are there are encoded.
    """
    has_text, has_image = inputs["has_text"], inputs["has_image"]
    parts = []
    if has_text.any():
        parts.append((has_text, text(inputs["tokens"][has_text], inputs["token_mask"][has_text])))
    if has_image.any():
        parts.append((has_image, image(inputs["pixels"])))
    total = torch.zeros(len(has_text), width, dtype=parts[0][1].dtype, device=has_text.device)
    for rows, vectors in parts:
        total = total.index_add(0, rows.nonzero()[:, 0], vectors)
    return F.normalize(total, dim=-1)


class FusionLayers(nn.Module):
    """A T5 encoder over the states of both towers, and the mean of what comes out. Its weights are new: they are learned.

    With `attend_padding` all states count, those of padded text and of a missing picture too, as in the published models.
    """

    def __init__(
        self, width: int, *, layers: int, heads: int, head_width: int, feed_forward: int, dropout: float
    ) -> None:
        from transformers.models.t5 import T5Config
        from transformers.models.t5.modeling_t5 import T5Stack

        super().__init__()
        size = T5Config(
            vocab_size=1, eos_token_id=0, d_model=width, d_kv=head_width, d_ff=feed_forward, num_layers=layers, num_heads=heads,
            dropout_rate=dropout, use_cache=False, is_decoder=False,
        )  # fmt: skip
        self.stack = T5Stack(size)
        self.stack.set_input_embeddings(nn.Identity())  # it is given states, never tokens

    def forward(self, states: Tensor, mask: Tensor | None) -> Tensor:
        """[n, S, width] and int64[n, S] (None: all states count) -> [n, width] of length 1."""
        found = self.stack(inputs_embeds=states, attention_mask=mask).last_hidden_state
        if mask is None:
            return F.normalize(found.mean(dim=1), dim=-1)
        weights = mask[:, :, None].to(found.dtype)
        return F.normalize((found * weights).sum(dim=1) / weights.sum(dim=1), dim=-1)


def all_pictures(inputs: Inputs) -> Tensor:
    """float32[n, 3, H, W]: zeros for an item without a picture, as in the published models (after normalisation, so that it is
    a picture of the mean colour)."""
    pixels, has_image = inputs["pixels"], inputs["has_image"]
    every = pixels.new_zeros(len(has_image), *pixels.shape[1:])
    return every.index_copy(0, has_image.nonzero()[:, 0], pixels)
