"""Measures part after part within some minutes, and writes down each as it ends."""

from __future__ import annotations

import json
import platform
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.scale import Scale
from gemkr.errors import first_line
from gemkr.files import write_atomically

FIGURES = "figures.json"
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Part:
    """What is measured, and about how many seconds it takes on a card."""

    measure: Callable[[Scale], dict[str, Any]]
    seconds: int


def run(
    parts: Mapping[str, Part],
    scale: Scale,
    output: Path,
    *,
    minutes: float,
    done: Path | None = None,
    commit: str | None = None,
    clock: Callable[[], float] = time.monotonic,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Measure the parts that neither `output` nor the file `done` holds; what `FIGURES` in `output` holds then.

    A part that would not end in time is left out. One that fails is written down with its reason, and measured again next time.
    """
    began, file = clock(), output / FIGURES
    output.mkdir(parents=True, exist_ok=True)
    held = _read(file) or (_read(done) if done is not None else None) or {}
    held = {"machine": machine(scale, commit), "parts": held.get("parts", {})}
    for name, part in parts.items():
        if "figures" in held["parts"].get(name, {}):
            say(f"{name}: measured before")
            continue
        left = 60 * minutes - (clock() - began)
        if part.seconds > left:
            say(f"{name}: left out, it takes {part.seconds} s and {left:.0f} are left")
            continue
        started = clock()
        try:
            found = {"figures": part.measure(scale)}
        except Exception as error:
            found = {"failed": f"{type(error).__name__}: {first_line(error)}"}
        found["seconds"] = round(clock() - started, 1)
        held["parts"][name] = found
        write_atomically(file, json.dumps(held, indent=2) + "\n")
        say(f"{name}: {found['seconds']} s {found.get('failed', '')}".rstrip())
        if scale.device == "cuda":
            torch.cuda.empty_cache()
    return held


def machine(scale: Scale, commit: str | None = None) -> dict[str, Any]:
    """The card, the date and the commit that figures belong to."""
    card = torch.cuda.get_device_name() if scale.device == "cuda" else f"no card ({platform.machine()})"
    return {
        "card": card,
        "date": date.today().isoformat(),
        "commit": commit or _commit() or "unknown",
        "torch": torch.__version__,
        "dry": scale.dry,
    }


def _commit() -> str:
    try:
        command = ["git", "rev-parse", "--short", "HEAD"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        return ""


def _read(file: Path) -> dict[str, Any] | None:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
