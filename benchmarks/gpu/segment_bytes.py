"""What a step reads and writes of an index on the device, by the number of its segments: counted on torch's meta device, not timed.

python -m benchmarks.gpu.segment_bytes --rows 17_000_000 --vocabulary 32_000 --beams 80
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gemkr.decoding.device import DeviceIndex
from gemkr.decoding.live_rows import LiveRows

INDEX = {"aten::index", "aten::searchsorted"}
"""Operations that read the index's tensors."""


class Traffic(TorchDispatchMode):
    """Bytes that operations read and write, and of these the ones read from the index; views move none, an expanded tensor counts
    once, a gather what it takes, a binary search eight bytes for each of its looks."""

    def __init__(self) -> None:
        super().__init__()
        self.index = self.whole = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if func.is_view:
            return found
        name, written = func._schema.name, sum(map(_bytes, _tensors(found)))
        given = sum(map(_bytes, _tensors(args)))
        if name == "aten::index":
            taken, given = written, given - _bytes(args[0])
        elif name == "aten::searchsorted":
            taken, given = args[1].numel() * 8 * math.ceil(math.log2(len(args[0]) + 1)), _bytes(args[1])
        else:
            taken = 0
        self.index += taken
        self.whole += taken + given + written
        return found


def step(index: DeviceIndex, beams: int) -> Traffic:
    """What allowed tokens, ends and longer clues take of one step of so many beams."""
    segments = index.shift.shape[1]
    lo, hi = torch.zeros(2, beams, segments, dtype=torch.int64, device="meta")
    tokens = torch.zeros(beams, dtype=torch.int64, device="meta")
    with Traffic() as traffic:
        index.mask(lo, hi)
        index.at_end(lo, hi)
        index.extend(lo, hi, tokens)
    return traffic


def shapes(rows: int, documents: int, vocabulary: int, segments: int, block: int) -> DeviceIndex:
    """An index without values."""

    def of(kind: torch.dtype, *shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=kind, device="meta")

    none = np.zeros(0, np.int64)
    blocks = max(1, rows // block)
    return DeviceIndex(
        vocabulary, block, LiveRows(None, True, none, none, none, none), of(torch.int64, segments + 1),
        of(torch.int32, rows + 1), of(torch.int64, documents),
        of(torch.uint8, blocks.bit_length(), blocks, (vocabulary + 7) // 8), of(torch.int64, rows),
        of(torch.int64, vocabulary, segments), of(torch.bool, 256, 8),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("rows", 17_000_000), ("documents", 112_000), ("vocabulary", 32_000), ("beams", 80)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--block", type=int, default=2048)
    parser.add_argument("--segments", type=int, nargs="*", default=[1, 2, 4, 8])
    args = parser.parse_args()
    for segments in args.segments:
        traffic = step(shapes(args.rows, args.documents, args.vocabulary, segments, args.block), args.beams)
        print(
            f"{segments} segments: {traffic.index / 1e6:.1f} MB of the index, {traffic.whole / 1e6:.1f} MB in all"
        )


def _bytes(tensor: torch.Tensor) -> int:
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def _tensors(values: Any) -> list[torch.Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(values) if isinstance(leaf, torch.Tensor)]


if __name__ == "__main__":
    main()
