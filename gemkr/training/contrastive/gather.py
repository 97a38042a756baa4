"""The vectors of all processes of a run, with gradients: queries of one device are compared with the documents of all."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

NONE = -1
"""In place of a document number, where there is no document."""


def gathered(vectors: Tensor, *labels: Tensor) -> tuple[int, Tensor, *tuple[Tensor, ...]]:
    """(place of the first own row, rows [n, width] or [n, T, width] of every process in the order of the processes, the `labels` int64[n,
    ...] of these rows). n and T may differ between processes; tokens are filled up with zeros, a label's columns with NONE. Gradients flow back to the owner of a row.

    What is given where there is one process.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return 0, vectors, *labels
    if vectors.ndim == 3:
        length = torch.tensor(vectors.shape[1], device=vectors.device)
        dist.all_reduce(length, op=dist.ReduceOp.MAX)
        vectors = F.pad(vectors, (0, 0, 0, int(length) - vectors.shape[1]))
        start, rows, *found = gathered(vectors.flatten(1), *labels)
        return start, rows.unflatten(1, vectors.shape[1:]), *found
    counts = [torch.zeros(1, dtype=torch.int64, device=vectors.device) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, torch.tensor([len(vectors)], device=vectors.device))
    sizes = torch.cat(counts).tolist()
    empty = vectors.new_zeros(max(sizes) - len(vectors), vectors.shape[1])
    parts = _Gather.apply(torch.cat([vectors, empty]))
    found = [torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])]
    for label in labels:
        columns = torch.tensor(label.shape[1:], dtype=torch.int64, device=label.device)
        dist.all_reduce(columns, op=dist.ReduceOp.MAX)
        filled = label.new_full((max(sizes), *columns.tolist()), NONE)
        filled[tuple(slice(size) for size in label.shape)] = label
        others = [torch.empty_like(filled) for _ in sizes]
        dist.all_gather(others, filled)
        found.append(torch.cat([other[:size] for other, size in zip(others, sizes, strict=True)]))
    return sum(sizes[: dist.get_rank()]), *found


def distinct(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """(int64[K] rows at which each number of int64[n] first stands, in order; int64[n] the place among them of each row's number).

    Cost: O(n log n).
    """
    values, inverse = numbers.unique(return_inverse=True)
    rows = torch.arange(len(numbers), device=numbers.device)
    first = torch.full_like(values, len(numbers)).scatter_reduce_(0, inverse, rows, "amin")
    kept = first.sort().values
    return kept, torch.searchsorted(kept, first[inverse])


class _Gather(torch.autograd.Function):
    """all_gather whose backward pass gives every row's owner the sum of what the processes want of it."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor) -> tuple[Tensor, ...]:
        parts = [torch.empty_like(vectors) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, vectors)
        return tuple(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        every = torch.stack(gradients)
        dist.all_reduce(every)
        return every[dist.get_rank()]
