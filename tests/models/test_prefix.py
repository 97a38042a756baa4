"""The object-aware prefix against its formula, on open_clip's blocks and on timm's EVA blocks."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn
from torchvision.transforms import ToTensor

from gemkr.errors import VisionError
from gemkr.models.gemkr.config import PrefixConfig
from gemkr.models.gemkr.prefix import PrefixedAttention, PrefixedTower, adapter_for, keep_rows
from gemkr.vision.config import TowerConfig
from gemkr.vision.encode import Tower, load_tower

WIDTH, HEADS, ROWS = 24, 3, 4


class TimmVisual(nn.Module):
    """What open_clip makes of a timm trunk, in miniature."""

    def __init__(self, **settings) -> None:
        super().__init__()
        self.image_size = (32, 32)
        self.trunk = timm.models.eva.Eva(
            img_size=32, patch_size=16, embed_dim=WIDTH, depth=3, num_heads=HEADS, num_classes=0,
            global_pool="token", **settings,
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.trunk(x)


def eva_tower(**settings) -> Tower:
    torch.manual_seed(0)
    visual = TimmVisual(**settings)
    for parameter in visual.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return Tower(visual, ToTensor(), "eva")


def clip_tower(tmp_path) -> Tower:
    torch.manual_seed(0)
    path = tmp_path / "vit.json"
    path.write_text(
        '{"embed_dim": 8, "vision_cfg": {"image_size": 32, "layers": 3, "width": 24, "head_width": 8, "patch_size": 16}}'
    )
    return load_tower(TowerConfig(config=str(path)))


@pytest.fixture(params=["open_clip", "eva", "eva_unfused"])
def tower(request: pytest.FixtureRequest, tmp_path) -> Tower:
    if request.param == "open_clip":
        return clip_tower(tmp_path)
    return eva_tower(qkv_fused=request.param == "eva")


def softmax_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return torch.softmax(query @ key.T / query.shape[-1] ** 0.5, dim=-1) @ value


def projections(attention: nn.Module) -> tuple[list[torch.Tensor], list[torch.Tensor], nn.Linear]:
    """Weights and biases of q, k, v, and the output projection."""
    if isinstance(attention, nn.MultiheadAttention):
        return (
            list(attention.in_proj_weight.chunk(3)),
            list(attention.in_proj_bias.chunk(3)),
            attention.out_proj,
        )
    if attention.qkv is not None:
        return (
            list(attention.qkv.weight.chunk(3)),
            [attention.q_bias, attention.k_bias, attention.v_bias],
            attention.proj,
        )
    parts = (attention.q_proj, attention.k_proj, attention.v_proj)
    biases = [torch.zeros(WIDTH) if part.bias is None else part.bias for part in parts]
    return [part.weight for part in parts], biases, attention.proj


def test_output_is_the_papers_formula(tower: Tower) -> None:
    attention = tower.blocks[-1].attn
    wrapped = PrefixedAttention(attention, ROWS, WIDTH)
    wrapped.gate.data = torch.tensor([0.5, -1.0, 2.0])
    x, features = torch.randn(1, 5, WIDTH), torch.randn(1, ROWS, WIDTH)
    wrapped.rows = wrapped.prefix + features
    weights, biases, output = projections(attention)
    q, k, v = (x[0] @ w.T + b for w, b in zip(weights, biases, strict=True))
    k2, v2 = (wrapped.rows[0] @ w.T + b for w, b in zip(weights[1:], biases[1:], strict=True))
    heads = []
    for h in range(HEADS):
        part = slice(h * WIDTH // HEADS, (h + 1) * WIDTH // HEADS)
        own = softmax_attention(q[:, part], k[:, part], v[:, part])
        seen = softmax_attention(q[:, part], k2[:, part], v2[:, part])
        heads.append(own + wrapped.gate[h] * seen)
    expected = torch.cat(heads, dim=1) @ output.weight.T + output.bias
    given = (
        wrapped(x, x, x, need_weights=False)[0]
        if isinstance(attention, nn.MultiheadAttention)
        else wrapped(x)
    )
    torch.testing.assert_close(given[0], expected, rtol=1e-4, atol=1e-5)


def test_zero_gates_give_exactly_the_frozen_tower(tower: Tower) -> None:
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        frozen = tower(pixels)
        cls, rows = PrefixedTower(tower, PrefixConfig(blocks=2, rows=ROWS))(
            pixels, torch.randn(2, ROWS, WIDTH)
        )
    assert frozen.shape == (2, WIDTH)
    assert torch.equal(cls, frozen)
    assert rows.shape == (2, ROWS, WIDTH)


def test_gates_and_prefixes_alone_learn_and_regions_are_seen(tower: Tower) -> None:
    model = PrefixedTower(tower, PrefixConfig(blocks=2, rows=ROWS)).train()
    for attention in model.attentions:
        attention.gate.data.fill_(0.7)
    pixels, features = torch.randn(2, 3, 32, 32), torch.randn(2, ROWS, WIDTH)
    counts = torch.tensor([2, 0])
    cls, rows = model(pixels, keep_rows(features, counts))
    (cls.sum() + rows.sum()).backward()
    learned = {name for name, p in model.named_parameters() if p.grad is not None}
    assert len(learned) == 4
    assert all(name.endswith((".prefix", ".gate")) for name in learned)
    assert torch.equal(rows[1], model.attentions[-1].prefix)
    other = features.clone()
    other[0, 2:], other[1] = float("nan"), float("inf")
    assert torch.equal(model(pixels, keep_rows(other, counts))[0], cls)
    other[0, 1] = 0.0
    assert not torch.allclose(model(pixels, keep_rows(other, counts))[0][0], cls[0], atol=1e-5)
    assert all(attention.rows is None for attention in model.attentions)


def test_unsupported_attention_is_named() -> None:
    with pytest.raises(VisionError, match="Linear"):
        adapter_for(nn.Linear(2, 2))
    with pytest.raises(VisionError, match="EVA01"):
        PrefixedTower(eva_tower(scale_attn_inner=True), PrefixConfig(blocks=1, rows=2))
    with pytest.raises(VisionError, match="has 3 blocks"):
        PrefixedTower(eva_tower(), PrefixConfig(blocks=4, rows=2))
    with pytest.raises(VisionError, match="at least 1 row"):
        PrefixedTower(eva_tower(), PrefixConfig(blocks=1, rows=0))
