"""An encoder's network under a contrastive loss: what the training loop trains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gemkr.models.embedder import Inputs
from gemkr.training.contrastive.config import LossConfig
from gemkr.training.contrastive.data import ContrastiveBatch
from gemkr.training.contrastive.gather import NONE, distinct, gathered
from gemkr.training.contrastive.queue import MomentumQueue, soft_loss


def info_nce(
    queries: Tensor,
    documents: Tensor,
    targets: Tensor,
    relevant: Tensor,
    scale: Tensor | float,
    *,
    symmetric: bool,
) -> Tensor:
    """float32[B]: each query's -log softmax of scale * similarities at its target.

    `queries` [B, width], `documents` [D, width], or of one vector a token, as `similarities` takes them; `targets` int64[B], `relevant` bool[B, D]. Another document that answers a query is
    no negative of it: it is left out, as is one without a token; a query whose target has none has the loss 0. With `symmetric`, the mean of that and the loss of the target among the queries, where those
    that it answers too are left out.
    """
    found = similarities(queries.float(), documents.float())
    own, empty = F.one_hot(targets, found.shape[1]).bool(), found.detach() == -math.inf
    logits = (found.masked_fill(empty, 0) * scale).masked_fill(empty & ~own, -math.inf)
    nothing = (own & empty).any(dim=1)
    loss = F.cross_entropy(logits.masked_fill(relevant & ~own, -math.inf), targets, reduction="none")
    loss = loss.masked_fill(nothing, 0)
    if not symmetric:
        return loss
    rows = torch.arange(len(targets), device=targets.device)
    back = logits[:, targets].T  # row b: the document of query b against all queries
    others = relevant[:, targets].T & (rows[:, None] != rows)
    turned = F.cross_entropy(back.masked_fill(others, -math.inf), rows, reduction="none")
    return (loss + turned.masked_fill(nothing, 0)) / 2


def similarities(queries: Tensor, documents: Tensor) -> Tensor:
    """float[B, D]: inner products of [B, width] and [D, width]; MaxSim of tokens [B, S, width] and [D, T, width], where vectors of
    zeros are none (-inf for a document without a token). Memory: B * S * D * T numbers."""
    if queries.ndim == 2:
        return queries @ documents.T
    present = documents.detach().any(dim=-1)
    products = torch.einsum("bsw,dtw->bsdt", queries, documents)
    return products.masked_fill(~present, -math.inf).amax(dim=-1).sum(dim=1)


def joined(chunks: Sequence[Tensor]) -> Tensor:
    """Chunks one after another; those of tokens are filled up with zeros to the longest."""
    if chunks[0].ndim == 2:
        return torch.cat(list(chunks))
    length = max(chunk.shape[1] for chunk in chunks)
    return torch.cat([F.pad(chunk, (0, 0, 0, length - chunk.shape[1])) for chunk in chunks])


def answers(positives: Tensor, numbers: Tensor) -> Tensor:
    """bool[B, D]: which documents int64[D] are among the `positives` int64[B, P] of each query."""
    return (positives[:, :, None] == numbers).any(dim=1)


class ContrastiveModel(nn.Module):
    """`model(batch) -> loss`. Gradients are those of the whole batch, whatever chunks it comes in.

    A batch of several chunks is encoded twice: once for the vectors, keeping nothing else, and chunk by chunk again in the backward
    pass, with the random generator as it was, so that memory is that of one chunk (GradCache). On several devices, the documents of
    all are each query's negatives, as if the batch were on one: a document that several have counts once.
    """

    def __init__(self, network: nn.Module, config: LossConfig) -> None:
        super().__init__()
        self.network, self.config = network, config
        start = torch.tensor(-math.log(config.temperature))
        self.log_scale = nn.Parameter(start) if config.learnable and not config.direct else None
        start = torch.tensor(config.temperature)
        self.temperature = nn.Parameter(start) if config.learnable and config.direct else None
        self.queue = None if config.queue is None else MomentumQueue(network, config.queue)

    def forward(self, batch: ContrastiveBatch) -> Tensor:
        queries, documents = self._encode(batch.queries), self._encode(batch.documents)
        first, documents, numbers = gathered(documents, batch.numbers)
        start, queries, targets, positives = gathered(queries, batch.targets + first, batch.positives)
        kept, place = distinct(numbers)
        documents, numbers, targets = documents[kept], numbers[kept], place[targets]
        scale = self._scale()
        if self.queue is None:
            relevant = answers(positives, numbers)
            losses = info_nce(queries, documents, targets, relevant, scale, symmetric=self.config.symmetric)
        else:
            losses = self._queued(
                self.queue, batch, queries, documents, kept, targets, numbers, positives, scale
            )
        return losses[start : start + len(batch.targets)].mean()

    def _scale(self) -> Tensor | float:
        """1 / temperature. One that a step took below the least is put back there, as CLIP and BLIP do: further down it would have no
        gradient, and never rise again."""
        with torch.no_grad():
            if self.log_scale is not None:
                self.log_scale.clamp_(max=-math.log(self.config.least))
            if self.temperature is not None:
                self.temperature.clamp_(min=self.config.least)
        if self.log_scale is not None:
            return self.log_scale.exp()
        if self.temperature is not None:
            return 1 / self.temperature
        return 1 / self.config.temperature

    def carried(self) -> dict[str, Tensor]:
        """What a resumed run needs beside parameters and optimizer: the queue."""
        return {} if self.queue is None else self.queue.carried()

    def recall(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `carried`."""
        if self.queue is not None:
            self.queue.recall(tensors)

    def _encode(self, chunks: tuple[Inputs, ...]) -> Tensor:
        if len(chunks) == 1 or not torch.is_grad_enabled():
            return joined([self.network(chunk) for chunk in chunks])
        return joined([checkpoint(self.network, chunk, use_reentrant=False) for chunk in chunks])

    def _queued(
        self,
        queue: MomentumQueue,
        batch: ContrastiveBatch,
        queries: Tensor,
        documents: Tensor,
        kept: Tensor,
        targets: Tensor,
        numbers: Tensor,
        positives: Tensor,
        scale: Tensor | float,
    ) -> Tensor:
        """float32[B] of all processes: `soft_loss` against the copy's vectors of this batch and of the queue, which takes them in."""
        with torch.no_grad():
            follower = queue.follow(self.network) if self.training else queue.follower.eval()
            own = [
                torch.cat([follower(chunk) for chunk in side]) for side in (batch.queries, batch.documents)
            ]
            copied_queries, copied_documents = (gathered(vectors)[1] for vectors in own)
            copied_documents = copied_documents[kept]
        wanted, alpha = numbers[targets], queue.alpha()
        others = torch.cat([copied_documents, queue.documents])
        known = torch.cat([numbers, queue.documents_wanted])
        right = wanted[:, None] == known
        left_out = (answers(positives, known) & ~right) | (known == NONE)
        losses = soft_loss(queries, copied_queries, others, right, left_out, scale, alpha)
        if self.config.symmetric:
            others = torch.cat([copied_queries, queue.queries])
            known = torch.cat([wanted, queue.queries_wanted])
            right = wanted[:, None] == known
            of_batch = answers(positives, wanted).T & ~right[:, : len(wanted)]
            left_out = torch.cat([of_batch, (queue.queries_wanted == NONE).expand(len(wanted), -1)], dim=1)
            copies = copied_documents[targets]
            losses = losses + soft_loss(documents[targets], copies, others, right, left_out, scale, alpha)
            losses = losses / 2
        if self.training:
            queue.put("documents", copied_documents, numbers)
            queue.put("queries", copied_queries, wanted)
            queue.steps += 1
        return losses
