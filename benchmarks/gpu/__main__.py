"""`python -m benchmarks.gpu --output OUT`: see README.md."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from benchmarks.gpu.parts import PARTS
from benchmarks.gpu.runner import run
from benchmarks.gpu.scale import DRY, REAL


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--output", required=True, type=Path, help="the folder of figures.json")
    parser.add_argument("--done", type=Path, help="figures of an earlier run, which are not measured again")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--commit", help="what the figures belong to; default: asked of git")
    parser.add_argument("--dry", action="store_true", help="the smallest shapes, on a CPU")
    args = parser.parse_args(arguments)
    if not args.dry and not torch.cuda.is_available():
        print(
            "gpu: there is no CUDA device here; give --dry for the smallest shapes on a CPU", file=sys.stderr
        )
        return 1
    chosen = {name: PARTS[name] for name in PARTS if name in args.parts}
    scale = DRY if args.dry else REAL
    held = run(chosen, scale, args.output, minutes=args.minutes, done=args.done, commit=args.commit)
    return int(any("failed" in held["parts"].get(name, {}) for name in chosen))


if __name__ == "__main__":
    sys.exit(main())
