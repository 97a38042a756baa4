"""The record of a run: one json line per reported step, TensorBoard when it is installed, a bar on stderr.

`loss.jsonl` is written line by line as the run goes; a resumed run first cuts the lines after its checkpoint, so that
the file always holds one run. Knows nothing of models.
"""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from gemkr.errors import CheckpointError
from gemkr.progress import progress_bar

LOSS_LOG = "loss.jsonl"
FIRST_LOSS = "first_loss"
"""In the first row: the loss of the first step alone."""
MIN_RELATIVE_DECREASE = 0.05
"""The share of its first loss that a run that learns something loses."""


class RunLog:
    """Writes `OUTPUT/loss.jsonl`, `OUTPUT/tensorboard/` and the progress bar; silent when `active` is false.

    `start` is the number of steps already taken: rows of later steps are dropped from an older log.
    """

    def __init__(self, folder: Path, *, start: int, total: int, title: str, active: bool = True) -> None:
        self._folder = folder
        self._stream = self._board = self._bar = None
        if not active:
            return
        path = folder / LOSS_LOG
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _keep_rows_until(path, start)
            self._stream = path.open("a", encoding="utf-8")
        except OSError as error:
            raise _failure(path, error) from error
        if _has_tensorboard():
            from torch.utils.tensorboard import SummaryWriter

            board = folder / "tensorboard"
            try:
                self._board = SummaryWriter(str(board), purge_step=start + 1)
            except OSError as error:
                raise _failure(board, error) from error
        self._bar = progress_bar(total=total, initial=start, desc=title, unit="step")

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for part in (self._stream, self._board, self._bar):
            try:
                if part is not None:
                    part.close()
            except OSError as failure:
                if kind is None:
                    raise _failure(self._folder, failure) from failure

    def step(self) -> None:
        """Advance the bar by one step."""
        if self._bar is not None:
            self._bar.update()

    def row(self, step: int, **values: Any) -> None:
        """Record the figures of a step (python numbers); the line is handed to the system when this returns.

        CheckpointError when the disk is full.
        """
        try:
            if self._stream is not None:
                self._stream.write(json.dumps({"step": step, **values}) + "\n")
                self._stream.flush()
            if self._board is not None:
                for name, value in values.items():
                    if isinstance(value, (int, float)):
                        self._board.add_scalar(name, value, step)
        except OSError as failure:
            raise _failure(self._folder / LOSS_LOG, failure) from failure
        if self._bar is not None:
            shown = {n: f"{v:.4g}" for n, v in values.items() if n in ("loss", "development_loss", "lr")}
            self._bar.set_postfix(shown, refresh=False)


def _has_tensorboard() -> bool:
    return importlib.util.find_spec("tensorboard") is not None


def _failure(path: Path, error: OSError) -> CheckpointError:
    return CheckpointError(
        f"the training log {path} cannot be written ({error.strerror}); make room and go on with --resume auto, or choose "
        "another output folder"
    )


def read_rows(folder: str | Path) -> list[dict[str, Any]]:
    """The rows of a run's loss log, in order; a last line cut short by a crash is left out."""
    rows = []
    for line in (Path(folder) / LOSS_LOG).read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def flat_loss_message(folder: str | Path) -> str | None:
    """The warning for a run whose loss over the last fifth of its rows is hardly below that of its first step; None for
    one that learned something, or took one step only."""
    rows = [row for row in read_rows(folder) if "loss" in row]
    first = rows[0].get(FIRST_LOSS, rows[0]["loss"])
    end = [row["loss"] for row in rows[-max(1, len(rows) // 5) :]]
    last = sum(end) / len(end)
    if rows[-1]["step"] == 1 or last < (1 - MIN_RELATIVE_DECREASE) * first:
        return None
    return (
        f"the loss hardly fell, from {first:.3f} to {last:.3f} in {rows[-1]['step']} steps, so that little was learned; train "
        "longer (epochs, or a smaller batch_size) or with a higher optimizer.lr"
    )


def _keep_rows_until(path: Path, step: int) -> None:
    if not path.exists():
        return
    kept = [row for row in read_rows(path.parent) if row["step"] <= step]
    part = path.with_suffix(".part")
    part.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    os.replace(part, path)
