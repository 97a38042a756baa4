"""UniIR's encoders as its authors' code computes them, with their names, in miniature: OpenAI's CLIP, T5, and BLIP's BERT."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from tiny_pictures import SIZE
from torch import Tensor, nn
from transformers import BertConfig, BertModel
from transformers.models.t5 import T5Config
from transformers.models.t5.modeling_t5 import T5Stack

from gemkr.models.embedder import Inputs

SPACE, POSITIONS = 24, 20


class Block(nn.Module):
    """A layer of OpenAI's CLIP, by its paper: attention of all heads at once, a sigmoid's GELU, LayerNorm before each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, 2, batch_first=True)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 32), "c_proj": nn.Linear(32, width)})

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        y = self.mlp["c_fc"](self.ln_2(x))
        return x + self.mlp["c_proj"](y * torch.sigmoid(1.702 * y))


class Layers(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList([Block(width) for _ in range(2)])

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self.resblocks:
            x = block(x, mask)
        return x


class Visual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 8, 8, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.positional_embedding = nn.Parameter(torch.zeros((SIZE // 8) ** 2 + 1, width))
        self.ln_pre, self.transformer, self.ln_post = nn.LayerNorm(width), Layers(width), nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.zeros(width, SPACE))

    def forward(self, pixels: Tensor) -> Tensor:
        """All states, projected."""
        patches = self.conv1(pixels).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(pixels), 1, -1)
        x = self.ln_pre(torch.cat([first, patches], dim=1) + self.positional_embedding)
        return self.ln_post(self.transformer(x)) @ self.proj


class OpenAIClip(nn.Module):
    """Names, shapes and sums of OpenAI's CLIP."""

    def __init__(self, vocabulary: int, projected: bool) -> None:
        super().__init__()
        self.visual, self.transformer = Visual(20), Layers(SPACE)
        self.token_embedding = nn.Embedding(vocabulary, SPACE)
        self.positional_embedding = nn.Parameter(torch.zeros(POSITIONS, SPACE))
        self.ln_final = nn.LayerNorm(SPACE)
        if projected:
            self.text_projection = nn.Parameter(torch.zeros(SPACE, SPACE))
        self.logit_scale = nn.Parameter(torch.zeros(()))

    def states(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        mask = torch.full((length, length), -torch.inf).triu(1)
        x = self.token_embedding(tokens) + self.positional_embedding[:length]
        return self.ln_final(self.transformer(x, mask))


class Theirs(nn.Module):
    """UniIR's CLIP_SF, and with `fused` CLIP_FF."""

    def __init__(self, vocabulary: int, fused: bool) -> None:
        super().__init__()
        self.clip_model = OpenAIClip(vocabulary, projected=not fused)
        if fused:
            config = T5Config(
                vocab_size=7, d_model=SPACE, d_kv=8, d_ff=16, num_layers=2, num_heads=2, use_cache=False, is_decoder=False
            )  # fmt: skip
            self.t5_layers = T5Stack(config)
            self.t5_layers.set_input_embeddings(nn.Embedding(7, SPACE))
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.3)

    @torch.no_grad()
    def forward(self, inputs: Inputs) -> Tensor:
        clip, has_text, has_image = self.clip_model, inputs["has_text"], inputs["has_image"]
        pixels = torch.zeros(len(has_text), 3, SIZE, SIZE)
        pixels[has_image] = inputs["pixels"]
        text, image = clip.states(inputs["tokens"]), clip.visual(pixels)
        if hasattr(self, "t5_layers"):
            both = torch.cat([text, image], dim=1)
            return F.normalize(self.t5_layers(inputs_embeds=both).last_hidden_state.mean(1), dim=-1)
        ends = inputs["token_mask"].sum(1) - 1
        text = text[torch.arange(len(ends)), ends] @ clip.text_projection
        return F.normalize(text * has_text[:, None] + image[:, 0] * has_image[:, None], dim=-1)


class TheirBlip(nn.Module):
    """UniIR's BLIP_SF, and with `fused` BLIP_FF: timm's vision transformer, and BERT without token types and without a causal mask."""

    def __init__(self, vocabulary: int, fused: bool, size: int = SIZE, space: int = 28) -> None:
        super().__init__()
        self.size = size
        self.visual_encoder = VisionTransformer(
            img_size=size, patch_size=8, embed_dim=20, depth=2, num_heads=2, mlp_ratio=1.6, num_classes=0, global_pool=""
        )  # fmt: skip
        config = BertConfig(
            vocab_size=vocabulary, hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=24, encoder_hidden_size=20, is_decoder=True, add_cross_attention=True, use_cache=False,
        )  # fmt: skip
        self.text_encoder = BertModel(config, add_pooling_layer=fused)
        for layer in self.text_encoder.encoder.layer:
            for part in ("key", "value"):
                setattr(layer.crossattention.self, part, nn.Linear(20, 24))
        config.is_decoder = False
        self.fused = fused
        if not fused:
            self.vision_proj, self.text_proj = nn.Linear(20, space), nn.Linear(24, space)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.3)
        self.text_encoder.embeddings.token_type_embeddings.weight.data.zero_()

    def state(self) -> dict[str, Tensor]:
        """With what momentum, queue and temperature leave in a checkpoint."""
        state = {name: value for name, value in self.state_dict().items() if "token_type" not in name}
        for name in list(state):
            part, rest = name.split(".", 1)
            state[f"{part}_m.{rest}"] = state[name] * 0.5
        state["text_encoder.embeddings.position_ids"] = torch.arange(24)[None]
        extra = {
            "query_queue": (28, 4),
            "cand_queue": (28, 4),
            "idx_queue": (1, 4),
            "new_ptr_queue": (1,),
            "temp": (),
        }
        return state | {name: torch.ones(shape) for name, shape in extra.items()}

    @torch.no_grad()
    def forward(self, inputs: Inputs) -> Tensor:
        has_text, has_image = inputs["has_text"], inputs["has_image"]
        pixels = torch.zeros(len(has_text), 3, self.size, self.size)
        pixels[has_image] = inputs["pixels"]
        image = self.visual_encoder(pixels)
        tokens, mask = inputs["tokens"], inputs["token_mask"]
        if self.fused:
            seen = torch.ones(image.shape[:2])
            text = self.text_encoder(tokens, mask, encoder_hidden_states=image, encoder_attention_mask=seen)
            return F.normalize(text.pooler_output, dim=-1)
        text = self.text_proj(self.text_encoder(tokens, mask).last_hidden_state[:, 0])
        return F.normalize(
            text * has_text[:, None] + self.vision_proj(image[:, 0]) * has_image[:, None], dim=-1
        )
