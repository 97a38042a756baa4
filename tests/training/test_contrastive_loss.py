"""The contrastive loss agrees with a loop, its masks with document ids, and its chunks with the whole batch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gemkr.data.documents import DocumentStore
from gemkr.errors import DataError
from gemkr.training.contrastive.config import LossConfig, NegativesConfig
from gemkr.training.contrastive.data import Collate, PairDataset, make_pairs
from gemkr.training.contrastive.model import ContrastiveModel, answers, info_nce
from gemkr.types import Document, Hit, Query


def slowly(
    q: np.ndarray, d: np.ndarray, targets: list[int], relevant: np.ndarray, scale: float, symmetric: bool
) -> float:
    """The twin: one query, and one document, at a time."""
    losses, back = [], []
    for i, target in enumerate(targets):
        own = scale * float(q[i] @ d[target])
        others = [scale * float(q[i] @ d[j]) for j in range(len(d)) if j != target and not relevant[i, j]]
        losses.append(math.log(sum(map(math.exp, [own, *others]))) - own)
        others = [
            scale * float(q[j] @ d[target]) for j in range(len(q)) if j != i and not relevant[j, target]
        ]
        back.append(math.log(sum(map(math.exp, [own, *others]))) - own)
    mean = sum(losses) / len(losses)
    return (mean + sum(back) / len(back)) / 2 if symmetric else mean


@given(st.integers(0, 10_000), st.booleans())
def test_the_loss_agrees_with_a_loop(seed: int, symmetric: bool) -> None:
    random = np.random.default_rng(seed)
    b, extra, width = (int(random.integers(*bounds)) for bounds in ((1, 6), (0, 4), (1, 5)))
    q, d = random.standard_normal((b, width)), random.standard_normal((b + extra, width))
    targets = random.integers(0, b + extra, b)
    relevant = random.random((b, b + extra)) < 0.3
    relevant[np.arange(b), targets] = True
    found = info_nce(
        torch.tensor(q),
        torch.tensor(d),
        torch.tensor(targets),
        torch.tensor(relevant),
        3.0,
        symmetric=symmetric,
    )
    expected = slowly(q, d, targets.tolist(), relevant, 3.0, symmetric)
    assert float(found.mean()) == pytest.approx(expected, rel=1e-4, abs=1e-5)


class Numbers:
    """A reader of texts that are numbers."""

    def queries(self, queries: list[Query]) -> dict[str, torch.Tensor]:
        return {"x": torch.tensor([[float(query.question)] for query in queries])}

    def documents(self, documents: list[Document]) -> dict[str, torch.Tensor]:
        return {"x": torch.tensor([[float(document.text)] for document in documents])}


class Network(nn.Module):
    """With dropout, and a record of how many items it was given at a time."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 4))
        self.sizes: list[int] = []

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        self.sizes.append(len(inputs["x"]))
        return nn.functional.normalize(self.layers(inputs["x"]), dim=-1)


DOCUMENTS = DocumentStore([Document(f"d{i}", str(i / 7)) for i in range(12)])
QUERIES = [Query(f"q{i}", str(i / 5), positives=(f"d{i}",)) for i in range(6)]


def batch(chunk_size: int | None, queries: list[Query] = QUERIES):
    dataset = PairDataset(make_pairs(queries, DOCUMENTS, None, None, "here"), DOCUMENTS)
    return Collate(Numbers(), chunk_size)([dataset[i] for i in range(len(dataset))])


def gradients(model: ContrastiveModel, data: object, whole: bool) -> tuple[float, list[torch.Tensor]]:
    """The loss and its gradients after seeding; `whole` holds the graph of every chunk at once."""
    torch.manual_seed(11)
    model.zero_grad()
    if whole:
        vectors = [torch.cat([model.network(c) for c in chunks]) for chunks in (data.queries, data.documents)]
        scale = 1 / model.config.temperature if model.log_scale is None else model.log_scale.exp()
        relevant = answers(data.positives, data.numbers)
        loss = info_nce(*vectors, data.targets, relevant, scale, symmetric=model.config.symmetric).mean()
    else:
        loss = model(data)
    loss.backward()
    return float(loss.detach()), [p.grad.clone() for p in model.parameters()]


@settings(max_examples=25)
@given(st.integers(1, 7), st.booleans(), st.booleans(), st.integers(0, 1000))
def test_chunks_give_the_gradients_of_the_whole_batch(
    size: int, symmetric: bool, learnable: bool, seed: int
) -> None:
    """With dropout: the second pass draws what the first drew."""
    torch.manual_seed(seed)
    config = LossConfig(temperature=0.2, symmetric=symmetric, learnable=learnable)
    model = ContrastiveModel(Network(dropout=0.4), config).train()
    data = batch(size)
    loss, found = gradients(model, data, whole=False)
    expected_loss, expected = gradients(model, data, whole=True)
    assert loss == pytest.approx(expected_loss, abs=1e-6)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    plain = ContrastiveModel(Network(dropout=0.0), config).train()
    plain.load_state_dict(model.state_dict())
    _, chunked = gradients(plain, data, whole=False)
    _, at_once = gradients(plain, batch(None), whole=False)
    for one, other in zip(chunked, at_once, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("direct", [False, True])
def test_a_temperature_is_learned_by_its_logarithm_or_itself(direct: bool) -> None:
    """From the same loss; down to the least that the settings allow."""
    torch.manual_seed(2)
    network = Network(dropout=0.0)
    fixed = ContrastiveModel(network, LossConfig(temperature=0.2))(batch(None))
    config = LossConfig(temperature=0.2, learnable=True, direct=direct, least=0.15)
    model = ContrastiveModel(network, config)
    loss = model(batch(None))
    assert float(loss.detach()) == pytest.approx(float(fixed.detach()), rel=1e-5)
    loss.backward()
    (name,) = (name for name, _ in model.named_parameters() if not name.startswith("network."))
    learned = model.get_parameter(name)
    assert name == ("temperature" if direct else "log_scale")
    slope = -float(learned.grad) / 0.2 if not direct else float(learned.grad)
    losses = [
        float(ContrastiveModel(network, LossConfig(temperature=0.2 + step))(batch(None)).detach())
        for step in (-1e-2, 1e-2)
    ]
    assert slope == pytest.approx((losses[1] - losses[0]) / 2e-2, rel=0.05)
    learned.data.fill_(0.01 if direct else -math.log(0.01))
    least = ContrastiveModel(network, LossConfig(temperature=0.15))(batch(None))
    learned.grad = None
    loss = model(batch(None))
    assert float(loss.detach()) == pytest.approx(float(least.detach()), rel=1e-5)
    loss.backward()
    assert (float(learned.detach()) if direct else math.exp(-float(learned.detach()))) == pytest.approx(0.15)
    assert learned.grad  # so that it can rise again


def test_chunks_are_encoded_again_one_after_the_other() -> None:
    network = Network(dropout=0.1)
    model = ContrastiveModel(network, LossConfig()).train()
    model(batch(2)).backward()
    assert network.sizes == [2] * 12  # three chunks of queries and three of documents, twice
    network.sizes.clear()
    model(batch(None)).backward()
    assert network.sizes == [6, 6]
    network.sizes.clear()
    with torch.no_grad():
        model(batch(2))
    assert network.sizes == [2] * 6


def test_a_document_that_answers_several_queries_is_nobodys_negative() -> None:
    shared = [
        Query("a", "1", positives=("d1", "d2")),
        Query("b", "2", positives=("d2",)),
        Query("c", "3", positives=("d3",)),
    ]
    data = batch(None, shared)
    assert len(data.documents[0]["x"]) == 3  # d2, the target of two pairs, once
    assert data.targets.tolist() == [0, 1, 1, 2]
    relevant = answers(data.positives, data.numbers)
    assert relevant.tolist() == [[True, True, False]] * 2 + [[False, True, False], [False, False, True]]
    assert data.target_count() == 4
    vectors = torch.eye(4)[[0, 0, 0, 1]], torch.eye(4)[[0, 0, 1]]
    loss = info_nce(*vectors, data.targets, relevant, 100.0, symmetric=True).mean()
    # d1 is a rival of b's own d2, and b one of a as d1's query; the rest is sure: a quarter of log 2 in both directions
    assert float(loss) == pytest.approx(math.log(2) / 4, abs=1e-4)


HITS = [Hit(f"d{i}", 10.0 - i) for i in range(10)]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0]),
        ({"per_query": 3}, [0, 1, 3]),
        ({"per_query": 9, "skip": 2, "depth": 6}, [3, 4, 5]),
        ({"per_query": 2, "below": 0.9}, [3, 4]),
    ],
)
def test_hard_negatives_of_a_run(settings: dict, expected: list[int]) -> None:
    """Neither positives nor what scores nearly as high as the best of them."""
    query = Query("q", "1", positives=("d2",))
    config = NegativesConfig(run="run.trec", **settings)
    (pair,) = make_pairs([query, Query("none", "2")], DOCUMENTS, {"q": HITS}, config, "here")
    assert (pair.target, list(pair.negatives)) == (2, expected)
    dataset = PairDataset([pair], DOCUMENTS)
    assert [document.doc_id for document in dataset[0][1]] == ["d2", *(f"d{i}" for i in expected)]


@pytest.mark.parametrize("shift", [9.5, 11.0])
def test_a_share_of_a_score_below_0(shift: float) -> None:
    """Logits, and runs whose scores are -rank, have such scores: a limit would lie above all of them."""
    query = Query("q", "1", positives=("d2",))
    hits = [Hit(hit.doc_id, hit.score - shift) for hit in HITS]
    config = NegativesConfig(run="run.trec", below=0.9)
    sentence = (
        f"below 0.9 is a share of the score of the document 'd2', which is {8 - shift:g}, below 0; leave"
    )
    with pytest.raises(DataError, match=sentence):
        make_pairs([query], DOCUMENTS, {"q": hits}, config, "here")
    (pair,) = make_pairs([query], DOCUMENTS, {"q": hits}, NegativesConfig(run="run.trec"), "here")
    assert pair.negatives == (0,)


def test_pairs_that_cannot_be_made() -> None:
    with pytest.raises(
        DataError, match="here: the query 'q' has the positive 'd99', which the corpus does not hold"
    ):
        make_pairs([Query("q", "1", positives=("d99",))], DOCUMENTS, None, None, "here")
    with pytest.raises(DataError, match="here: no query has positives"):
        make_pairs([Query("q", "1")], DOCUMENTS, None, None, "here")
    config = NegativesConfig(run="run.trec", skip=20)
    with pytest.raises(
        DataError, match=r"run.trec: no query has a hard negative left under negatives.skip 20"
    ):
        make_pairs([Query("q", "1", positives=("d2",))], DOCUMENTS, {"q": HITS}, config, "here")
