"""The loop on a model of a few hundred numbers: resumption to the last digit, schedules, orders, what is learned."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gemkr.config.ranges import Natural, Positive
from gemkr.errors import CheckpointError, ConfigError, ModelError
from gemkr.models.weights import trained_parameters
from gemkr.training.checkpoints.checkpoint import read_checkpoint
from gemkr.training.checkpoints.folder import newest_checkpoint, step_checkpoints
from gemkr.training.checkpoints.origin import Origin
from gemkr.training.loop.config import LoopConfig, OptimizerConfig
from gemkr.training.loop.feed import TrainingData
from gemkr.training.loop.log import read_rows
from gemkr.training.loop.optimizer import build_optimizer
from gemkr.training.loop.schedule import WarmupCosine
from gemkr.training.loop.trainer import train

ORIGIN = Origin("toy", "tokens", "data", {})
QUICK = OptimizerConfig(lr=1e-2, warmup_steps=3)


@dataclasses.dataclass(frozen=True)
class Settings(LoopConfig):
    output: str
    optimizer: OptimizerConfig = QUICK
    batch_size: Positive = 4
    epochs: Positive = 3
    save_every: Positive = 5
    log_every: Positive = 1
    workers: Natural = 0


class Toy(nn.Module):
    """A bigram model with dropout and a frozen part; the loss is the mean over labels that count."""

    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
        self.embed = nn.Embedding(11, 8)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 11)
        self.dropout = nn.Dropout(dropout)

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        logits = self.head(self.dropout(self.norm(self.embed(batch["tokens"]))))
        return nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten(), ignore_index=-100
        )


def collate(rows: list[np.ndarray]) -> dict[str, torch.Tensor]:
    width = max(map(len, rows))
    tokens = torch.zeros(len(rows), width, dtype=torch.int64)
    labels = torch.full((len(rows), width), -100)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = torch.from_numpy(row)
        labels[i, 2 : len(row)] = torch.from_numpy(row[2:])
    return {"tokens": tokens, "labels": labels}


def toy_data(n: int = 22, development: int = 0) -> TrainingData:
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 11, rng.integers(4, 12)) for _ in range(n + development)]
    return TrainingData(rows[:n], collate, [len(r) for r in rows[:n]], development=rows[n:])


def losses(folder: Path) -> list[float]:
    return [row["loss"] for row in read_rows(folder) if "loss" in row]


def test_a_resumed_run_repeats_the_losses_to_the_last_digit(tmp_path: Path) -> None:
    whole = Settings(str(tmp_path / "whole"))
    model = Toy()
    outcome = train(model, toy_data(), whole, ORIGIN)
    assert (outcome.step, outcome.total_steps) == (18, 18)

    halved = dataclasses.replace(whole, output=str(tmp_path / "halved"), keep_checkpoints=9)
    train(Toy(), toy_data(), halved, ORIGIN)
    for path in step_checkpoints(halved.output):
        if path.name != "step-000010":
            for file in path.iterdir():
                file.unlink()
            path.rmdir()
    again = Toy()
    with torch.no_grad():
        again.head.weight.add_(1.0)
    train(again, toy_data(), halved, ORIGIN, resume=read_checkpoint(tmp_path / "halved/step-000010"))
    assert losses(tmp_path / "whole") == losses(tmp_path / "halved")
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, again.get_parameter(name)), name


def test_a_log_window_and_an_epoch_that_straddle_a_checkpoint_resume_exactly(tmp_path: Path) -> None:
    settings = Settings(str(tmp_path / "a"), gradient_accumulation=2, log_every=4, keep_checkpoints=9)
    train(Toy(), toy_data(), settings, ORIGIN)
    expected = losses(tmp_path / "a")
    train(Toy(), toy_data(), settings, ORIGIN, resume=read_checkpoint(tmp_path / "a/step-000005"))
    assert losses(tmp_path / "a") == expected
    assert len(expected) == 3


def test_accumulation_weighs_targets_like_one_large_batch(tmp_path: Path) -> None:
    large = Settings(str(tmp_path / "large"), batch_size=8, epochs=1, max_steps=1)
    small = Settings(str(tmp_path / "small"), batch_size=4, gradient_accumulation=2, epochs=1, max_steps=1)
    data, seen = toy_data(8), []
    for settings in (large, small):
        model = Toy(dropout=0.0)
        train(model, data, settings, ORIGIN)
        seen.append((losses(Path(settings.output))[0], model.head.weight.detach().clone()))
    assert seen[0][0] == pytest.approx(seen[1][0], rel=1e-6)
    assert torch.allclose(seen[0][1], seen[1][1], atol=1e-6)


def test_the_loss_falls_and_the_frozen_stays(tmp_path: Path) -> None:
    row = np.array([1, 2, 3, 4, 5, 6, 7])
    data = TrainingData([row] * 8, collate, [7] * 8)
    model = Toy()
    train(model, data, Settings(str(tmp_path), epochs=40), ORIGIN)
    assert losses(tmp_path)[-1] < 0.5 * losses(tmp_path)[0]
    assert torch.equal(model.frozen, torch.ones(3))
    assert "frozen" not in read_checkpoint(tmp_path / "final").weights


def test_development_loss_is_measured_at_each_checkpoint(tmp_path: Path) -> None:
    train(Toy(), toy_data(22, development=6), Settings(str(tmp_path)), ORIGIN)
    rows = [row for row in read_rows(tmp_path) if "development_loss" in row]
    assert [row["step"] for row in rows] == [5, 10, 15, 18]
    assert all(0 < row["development_loss"] < 4 for row in rows)


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    train(Toy(), toy_data(), Settings(str(tmp_path)), ORIGIN)
    assert [path.name for path in step_checkpoints(tmp_path)] == ["step-000015", "step-000018"]
    assert (tmp_path / "final" / "trained.safetensors").is_file()


def test_going_back_forgets_what_came_later(tmp_path: Path) -> None:
    settings = Settings(str(tmp_path), keep_checkpoints=9)
    train(Toy(), toy_data(), settings, ORIGIN)
    expected, steps = losses(tmp_path), step_checkpoints(tmp_path)
    assert len(steps) > 2
    model = Toy()
    resume = read_checkpoint(steps[0])
    with torch.no_grad():
        resume.weights["head.bias"].fill_(float("nan"))
    with pytest.raises(ModelError):
        train(model, toy_data(), settings, ORIGIN, resume=resume)
    assert step_checkpoints(tmp_path) == steps[:1]
    train(Toy(), toy_data(), settings, ORIGIN, resume=read_checkpoint(steps[0]))
    assert (step_checkpoints(tmp_path), losses(tmp_path)) == (steps, expected)


def test_bf16_trains_and_fp16_needs_a_gpu(tmp_path: Path) -> None:
    train(Toy(), toy_data(), Settings(str(tmp_path), max_steps=2), ORIGIN, precision="bf16")
    assert all(math.isfinite(x) for x in losses(tmp_path))
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="needs a GPU"):
            train(Toy(), toy_data(), Settings(str(tmp_path)), ORIGIN, precision="fp16")
    with pytest.raises(ConfigError, match="precision 'fp8' is unknown"):
        train(Toy(), toy_data(), Settings(str(tmp_path)), ORIGIN, precision="fp8")


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path) -> None:
    model = Toy()
    with torch.no_grad():
        model.head.bias.fill_(float("nan"))
    with pytest.raises(ModelError, match="the loss is nan after step 1"):
        train(model, toy_data(), Settings(str(tmp_path)), ORIGIN)


@pytest.mark.parametrize("broken", [3, 5, 17])
def test_weights_that_a_gradient_broke_are_not_saved(tmp_path: Path, broken: int) -> None:
    """The loss of the broken step is finite; it stands between two reports, before a save, or at the end."""
    model, taken = Toy(), []
    model.head.bias.register_hook(lambda gradient: gradient * _after(taken, broken))
    settings = Settings(str(tmp_path), log_every=18, keep_checkpoints=9)
    with pytest.raises(ModelError, match="gradient was not finite in step"):
        train(model, toy_data(), settings, ORIGIN)
    assert not (tmp_path / "final").exists()
    for path in step_checkpoints(tmp_path):
        assert all(tensor.isfinite().all() for tensor in read_checkpoint(path).weights.values())
    assert len(step_checkpoints(tmp_path)) == broken // 5


def _after(taken: list[int], broken: int) -> float:
    taken.append(len(taken))
    return math.inf if len(taken) == broken + 1 else 1.0


def test_gradients_are_cut_only_where_a_length_is_given(tmp_path: Path) -> None:
    free = dataclasses.replace(QUICK, max_grad_norm=None)
    wide = dataclasses.replace(QUICK, max_grad_norm=1e9)
    short = dataclasses.replace(QUICK, max_grad_norm=1e-3)
    for name, optimizer in (("free", free), ("wide", wide), ("short", short)):
        train(Toy(), toy_data(), Settings(str(tmp_path / name), optimizer), ORIGIN)
    assert losses(tmp_path / "free") == losses(tmp_path / "wide") != losses(tmp_path / "short")


def test_another_schedule_cannot_be_resumed(tmp_path: Path) -> None:
    train(Toy(), toy_data(), Settings(str(tmp_path)), ORIGIN)
    longer = Settings(str(tmp_path), epochs=9)
    with pytest.raises(CheckpointError, match="total_steps 18, here it is 54"):
        train(Toy(), toy_data(), longer, ORIGIN, resume=read_checkpoint(tmp_path / "step-000018"))


def test_an_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be made"):
        train(Toy(), toy_data(), Settings(str(tmp_path / "file" / "run")), ORIGIN)


SCRIPT = """
import dataclasses, sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_training_loop import *
class Slow(Toy):
    def forward(self, batch):
        time.sleep(0.02)
        return super().forward(batch)
torch.set_num_threads(1)
settings = Settings({output!r}, epochs=14, save_every=2)
newest = newest_checkpoint(settings.output)
resume = read_checkpoint(newest) if newest else None
outcome = train(Slow(), toy_data(), settings, ORIGIN, resume=resume)
sys.exit(10 if outcome.stopped_by else 0)
"""


def run_script(output: Path) -> subprocess.Popen:
    code = SCRIPT.format(tests=str(Path(__file__).parent), output=str(output))
    return subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


def wait_for_checkpoint(output: Path, process: subprocess.Popen, after: int = 0) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        if any(int(p.name[5:]) > after for p in step_checkpoints(output)):
            return
        time.sleep(0.02)
    raise AssertionError(f"no checkpoint appeared; exit status {process.poll()}")


@pytest.mark.slow
def test_kill_9_and_sigterm_lose_nothing(tmp_path: Path) -> None:
    killed = run_script(tmp_path / "run")
    wait_for_checkpoint(tmp_path / "run", killed)
    time.sleep(0.037)
    killed.kill()
    killed.wait()
    survivor = newest_checkpoint(tmp_path / "run")
    assert survivor is not None
    step = read_checkpoint(survivor).state["step"]

    stopped = run_script(tmp_path / "run")
    wait_for_checkpoint(tmp_path / "run", stopped, after=step)
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(60) == 10
    assert read_checkpoint(newest_checkpoint(tmp_path / "run")).state["step"] > step

    assert run_script(tmp_path / "run").wait(120) == 0
    train(Toy(), toy_data(), Settings(str(tmp_path / "whole"), epochs=14), ORIGIN)
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


def test_a_warm_up_takes_at_most_a_quarter_of_a_run() -> None:
    config = OptimizerConfig(warmup_steps=100)
    assert [WarmupCosine.of(config, total).warmup_steps for total in (15, 399, 400, 9000)] == [
        3,
        99,
        100,
        100,
    ]
    short = WarmupCosine.of(dataclasses.replace(config, lr=5e-4), 15)
    assert short.at(3) == 5e-4


def test_a_run_that_learns_nothing_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    still = dataclasses.replace(QUICK, lr=1e-9)
    train(Toy(), toy_data(), Settings(str(tmp_path / "still"), optimizer=still), ORIGIN)
    first, end = losses(tmp_path / "still")[0], losses(tmp_path / "still")[-3:]
    train(Toy(), toy_data(), Settings(str(tmp_path / "once"), optimizer=still, log_every=99), ORIGIN)
    said, once = caplog.messages
    assert once.startswith("the loss hardly fell, from 2.5")
    assert next(row for row in read_rows(tmp_path / "once") if "loss" in row)["first_loss"] == first
    assert said.startswith(
        f"the loss hardly fell, from {first:.3f} to {sum(end) / 3:.3f} in 18 steps, so that little was"
    )
    caplog.clear()
    train(Toy(), toy_data(), Settings(str(tmp_path / "tuned"), optimizer=still), ORIGIN, tuned=True)
    train(Toy(), toy_data(), Settings(str(tmp_path / "one"), optimizer=still, max_steps=1), ORIGIN)
    train(Toy(), toy_data(4), Settings(str(tmp_path / "well"), epochs=30), ORIGIN)
    assert not caplog.messages


def test_parameter_groups(tmp_path: Path) -> None:
    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.llm = nn.ModuleDict({"head": nn.Linear(2, 2), "embed_tokens": nn.Embedding(3, 2)})
            self.projector = nn.Linear(2, 2)
            self.gates = nn.Parameter(torch.zeros(2, 1))
            self.ln_vision = nn.LayerNorm(2)

    parameters = trained_parameters(Parts())
    optimizer = build_optimizer(
        parameters, OptimizerConfig(lr=1.0, projector_lr=2.0, embedding_lr=0.3, weight_decay=0.5)
    )
    names = {id(p): name for name, p in parameters.items()}
    seen = {names[id(p)]: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert seen == {
        "llm.head.weight": (1.0, 0.5),
        "llm.head.bias": (1.0, 0.0),
        "llm.embed_tokens.weight": (0.3, 0.5),
        "projector.weight": (2.0, 0.5),
        "projector.bias": (2.0, 0.0),
        "gates": (2.0, 0.0),
        "ln_vision.weight": (2.0, 0.0),
        "ln_vision.bias": (2.0, 0.0),
    }


def test_eps_is_added_to_the_root_of_the_second_moment() -> None:
    """The first step of AdamW by its formula: both moments, corrected, are those of the gradient alone."""
    weight = nn.Parameter(torch.tensor([2.0, -3.0]))
    optimizer = build_optimizer({"weight": weight}, OptimizerConfig(lr=0.1, eps=0.5, weight_decay=0.0))
    weight.grad = torch.tensor([1.5, -0.25])
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.tensor([2 - 0.1 * 1.5 / 2, -3 + 0.1 * 0.25 / 0.75]))


PROCESS = """
import atexit, os, sys
sys.path.insert(0, {tests!r})
from test_training_loop import *
torch.set_num_threads(1)
atexit.register(lambda: torch.distributed.is_initialized() and os._exit(3))  # runs last
settings = Settings({output!r}, batch_size=2, epochs=2, save_every=4, gradient_accumulation=2)
newest = newest_checkpoint(settings.output)
train(Toy(dropout=0.0), toy_data(20), settings, ORIGIN, resume=read_checkpoint(newest) if newest else None)
"""


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    alone = Settings(str(tmp_path / "alone"), batch_size=4, epochs=2, save_every=4, gradient_accumulation=2)
    train(Toy(dropout=0.0), toy_data(20), alone, ORIGIN)
    code = PROCESS.format(tests=str(Path(__file__).parent), output=str(tmp_path / "both"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "ACCELERATE_USE_CPU": "1",
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": "2",
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            },
        )
        for rank in range(2)
    ]
    assert [process.wait(120) for process in processes] == [0, 0]
    assert losses(tmp_path / "both") == pytest.approx(losses(tmp_path / "alone"), rel=1e-5)
    assert len(losses(tmp_path / "both")) == 6
