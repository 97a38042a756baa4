"""Chunks of a token encoder's batch give the gradients of the whole batch: preflmr with dropout, texts, pictures and regions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_flmr import save_regions, save_tiny_text
from tiny_pictures import WORDS, save_pictures, save_tiny_clip
from torch import Tensor

from gemkr.data.documents import DocumentStore
from gemkr.models.flmr.encoder import LEARNS, PreFLMREncoder
from gemkr.training.contrastive.config import LossConfig
from gemkr.training.contrastive.data import Collate, ContrastiveBatch, PairDataset, make_pairs
from gemkr.training.contrastive.model import ContrastiveModel, answers, info_nce, joined
from gemkr.training.contrastive.run import Material
from gemkr.types import Document, Query
from gemkr.vision.pictures import PictureFolder

SIZES = {"width": 16, "query_tokens": 10, "document_tokens": 20, "image_tokens": 2, "seen_tokens": 8}
PAIRS = 7
LOSS = LossConfig(temperature=0.3, symmetric=True, learnable=True)
Batches = Callable[[int | None], ContrastiveBatch]


def made(folder: Path, dropout: float) -> tuple[ContrastiveModel, Batches]:
    """A model whose every layer may drop, and one batch in chunks of a size. Lengths are unlike; two queries share a document."""
    save_tiny_text(folder / "bert", dropout=dropout)
    save_tiny_clip(folder / "clip", dropout=dropout)
    names = [f"{side}{number}" for number in range(PAIRS) for side in "qd"]
    pictures = save_pictures(folder / "images", names)
    boxes = {name: [[2, 2, 12, 20], [8, 4, 22, 30]][: number % 3] for number, name in enumerate(names)}
    regions = save_regions(folder / "regions", pictures, boxes)
    queries, documents = [], []
    for number in range(PAIRS):
        words = " ".join(WORDS[(number * step + 3) % len(WORDS)] for step in range(1, 3 + 2 * number))
        image = None if number % 3 == 0 else f"q{number}"
        queries.append(Query(f"q{number}", words, image=image, positives=(f"d{number % (PAIRS - 1)}",)))
        documents.append(Document(f"d{number}", words, image=f"d{number}" if number % 2 else None))
    towers = {"text": str(folder / "bert"), "vision": str(folder / "clip")}
    config = PreFLMREncoder.Config(**towers, **SIZES, regions=2, train_vision=True)
    encoder = PreFLMREncoder.from_config(config, Material(PictureFolder(folder / "images"), regions))
    with torch.no_grad():
        for parameter in encoder.network.patch_layers.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    store = DocumentStore(documents)
    dataset = PairDataset(make_pairs(queries, store, None, None, "here"), store)
    samples = [dataset[number] for number in range(len(dataset))]
    model = ContrastiveModel(encoder.network, LOSS).train()
    return model, lambda size: Collate(encoder.reader, size)(samples)


def gradients(model: ContrastiveModel, loss: Callable[[], Tensor]) -> tuple[float, dict[str, Tensor]]:
    """A loss after seeding, and its gradients."""
    torch.manual_seed(7)
    model.zero_grad()
    found = loss()
    found.backward()
    named = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return float(found.detach()), named


def at_once(model: ContrastiveModel, batch: ContrastiveBatch) -> Tensor:
    """The loss with the graph of every chunk held."""
    sides = [
        joined([model.network(chunk) for chunk in chunks]) for chunks in (batch.queries, batch.documents)
    ]
    relevant = answers(batch.positives, batch.numbers)
    return info_nce(*sides, batch.targets, relevant, model.log_scale.exp(), symmetric=True).mean()


def require_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert {name.split(".")[1] for name in found if "." in name} == {
        *LEARNS["text"][:2],
        *LEARNS["mapping"],
        "vision",
    }
    for name, gradient in found.items():
        unused = name.endswith((".key.bias", ".k_proj.bias"))  # attention is blind to it
        assert unused or gradient.abs().max() > 1e-3, name
        torch.testing.assert_close(
            gradient, expected[name], atol=1e-5, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("size", [1, 2, 5])
def test_chunks_give_the_gradients_of_the_whole_batch_with_dropout(tmp_path: Path, size: int) -> None:
    """The second pass draws what the first drew, in every layer."""
    model, batches = made(tmp_path, dropout=0.3)
    batch = batches(size)
    assert len(batch.queries) == -(-PAIRS // size)
    loss, found = gradients(model, lambda: model(batch))
    expected_loss, expected = gradients(model, lambda: at_once(model, batch))
    assert loss == pytest.approx(expected_loss, abs=1e-6)
    require_equal(found, expected)
    torch.manual_seed(8)
    assert float(model(batch).detach()) != pytest.approx(loss, abs=1e-3)


def test_without_dropout_chunks_give_what_one_chunk_gives(tmp_path: Path) -> None:
    model, batches = made(tmp_path, dropout=0.0)
    whole, chunks = batches(None), batches(2)
    assert len({part["document_tokens"].shape[1] for part in chunks.documents}) > 1
    assert not all(len(part["pixels"]) for part in batches(1).queries)
    loss, found = gradients(model, lambda: model(chunks))
    expected_loss, expected = gradients(model, lambda: model(whole))
    assert loss == pytest.approx(expected_loss, abs=1e-6)
    require_equal(found, expected)
