"""Token vectors of two processes are gathered to one length, and gradients go back to their owners."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gemkr.training.contrastive.gather import gathered
from gemkr.training.contrastive.model import similarities

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys, torch, torch.distributed as dist
sys.path.insert(0, "tests/training")
from test_gather_tokens import tokens
from gemkr.training.contrastive.gather import gathered
from gemkr.training.contrastive.model import similarities
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
rows = slice(0, 2) if rank == 0 else slice(2, 5)
own = tokens()[rows]
own = own[:, : int(own.any(-1).sum(1).max())].clone().requires_grad_()
start, every, numbers = gathered(own, torch.arange(5)[rows])
weights = torch.arange(25.0).reshape(5, 5)
total = (similarities(every, every) * weights).sum()
total.backward()
torch.save([start, numbers, total.detach(), own.grad], f"{sys.argv[2]}.{rank}")
dist.destroy_process_group()
"""


def tokens() -> torch.Tensor:
    """Five items of 2, 1, 4, 3 and 4 tokens."""
    vectors = torch.randn(5, 4, 6, generator=torch.Generator().manual_seed(2))
    for row, length in enumerate((2, 1, 4, 3, 4)):
        vectors[row, length:] = 0
    return vectors


def test_two_processes_see_what_one_sees(tmp_path: Path) -> None:
    whole = tokens().requires_grad_()
    start, every = gathered(whole)
    assert start == 0
    expected = (similarities(every, every) * torch.arange(25.0).reshape(5, 5)).sum()
    expected.backward()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(rank), str(tmp_path / "meet")], env=environment, cwd=ROOT
        )
        for rank in range(2)
    ]
    assert [process.wait(120) for process in running] == [0, 0]
    for rank, rows in enumerate((slice(0, 2), slice(2, 5))):
        start, numbers, total, gradient = torch.load(tmp_path / f"meet.{rank}", weights_only=True)
        assert (start, numbers.tolist()) == (2 * rank, [0, 1, 2, 3, 4])
        assert float(total) == pytest.approx(float(expected.detach()), rel=1e-5)
        wanted = 2 * whole.grad[rows, : gradient.shape[1]]  # of the totals of both
        torch.testing.assert_close(gradient, wanted, atol=1e-4, rtol=1e-4)
