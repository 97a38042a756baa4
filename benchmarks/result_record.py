"""What results.yaml tells of an evaluation folder, and of several that differ by their seed alone. Writes nothing."""

from __future__ import annotations

import datetime
import hashlib
import json
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from result_manifest import Entry

from gemkr.config import EvalConfig, load_config, to_mapping

ROOT = Path(__file__).resolve().parents[1]
_SPECIAL = re.compile(r"[^\w@%+=:,./\[\]-]")
"""What a shell would not leave as it is; brackets it does."""


class Hashes:
    """sha256 of files, each read once."""

    def __init__(self) -> None:
        self._known: dict[Path, str] = {}

    def of(self, path: Path) -> str | None:
        """The hash of a file's bytes in hexadecimal, or None when it is not here."""
        path = path.resolve()
        if path not in self._known:
            if not path.is_file():
                return None
            with open(path, "rb") as stream:
                self._known[path] = hashlib.file_digest(stream, "sha256").hexdigest()
        return self._known[path]


def collect(entry: Entry, metrics: Mapping[str, Any], hashes: Hashes, commit: Mapping[str, str]) -> dict:
    """What results.yaml tells of one evaluation folder."""
    path, config = Path(entry.folder) / "metrics.json", metrics["config"]
    rows = {
        name: {metric: {key: round(value, 4) for key, value in cell.items()} for metric, cell in row.items()}
        for name, row in metrics["intervals"].items()
    }
    result: dict[str, Any] = {key: getattr(entry, key) for key in ("note", "group", "seed", "x")}
    result |= {
        "folder": _public(entry.folder),
        "command": entry.command or reconstructed(entry.config, config),
        "date": datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC).strftime(
            "%Y-%m-%d %H:%M UTC"
        ),
        "commit": dict(commit),
        "metrics_sha256": hashes.of(path),
        "queries": _data(config["queries"], hashes) | {"count": _count(metrics["rows"], config["retriever"])},
        "corpus": _data(config["corpus"], hashes),
        "limit": config.get("limit"),
        "relevance": metrics["relevance"],
        "retriever": config["retriever"],
        "rows": rows,
        "clues": metrics["clues"] and {key: round(value, 4) for key, value in metrics["clues"].items()},
        "tests": {
            name: {metric: _test(test) for metric, test in tests.items()}
            for name, tests in metrics["tests"].items()
        },
        "seconds": {name: round(value, 1) for name, value in metrics["seconds"].items()},
    }
    return {key: value for key, value in result.items() if value not in (None, {})}


def _test(test: Mapping[str, Any]) -> dict[str, Any]:
    return {key: round(test[key], 5) for key in ("difference", "low", "high", "p_value")}


def _count(rows: Mapping[str, Mapping[str, Any]], retriever: str) -> int:
    return int(rows[retriever]["queries"])


def _data(path: str, hashes: Hashes) -> dict[str, Any]:
    return {"file": _public(path), "sha256": hashes.of(Path(path)) or "not here"}


def _public(value: str) -> str:
    """A path as anyone may read it: relative to the project, no folder of this machine in it."""
    text = str(value).replace(f"{ROOT}/", "").replace(f"{ROOT.parent}/", "../")
    return Path(text).name if text.startswith("/") else text


def reconstructed(config: str | None, told: Mapping[str, Any]) -> str:
    """`gemkr eval CONFIG overrides`, the overrides being what differs from the configuration file as it is now.

    A section that is younger than the evaluation, which tells nothing of it, was not there: it is `null` or empty.
    """
    if config is None:
        return "not told"
    now = json.loads(json.dumps(to_mapping(load_config(config, EvalConfig, []))))
    younger = {
        f.name: None if f.default is None else []
        for f in fields(EvalConfig)
        if f.default in (None, ()) and f.name not in told
    }
    words = [f"{key}={_public(value)}" for key, value in _differences(now, {**told, **younger})]
    return " ".join(["gemkr eval", config, *(shlex.quote(w) if _SPECIAL.search(w) else w for w in words)])


def _differences(now: Mapping[str, Any], told: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found = []
    for key, value in told.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and isinstance(now.get(key), Mapping):
            found += _differences(now[key], value, f"{path}.")
        elif path == "cards" or (value == now[key] if key in now else value in (None, [])):
            continue
        else:
            found.append((path, value if isinstance(value, str) else _flow(value)))
    return found


def _flow(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return f"[{','.join(value)}]"
    return json.dumps(value, separators=(",", ":"))


def spreads(results: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Mean and standard deviation (n - 1) over the seeds of each group, for each retriever that all of them have."""
    groups: dict[str, list[str]] = {}
    for name, result in results.items():
        if result.get("group") and result.get("seed") is not None:
            groups.setdefault(result["group"], []).append(name)
    spread: dict[str, dict[str, Any]] = {}
    for group, members in groups.items():
        runs = [results[name]["rows"] for name in members]
        rows = {}
        for retriever in [name for name in runs[0] if all(name in run for run in runs)]:
            common = [m for m in runs[0][retriever] if all(m in run[retriever] for run in runs)]
            rows[retriever] = {m: _spread([run[retriever][m]["mean"] for run in runs]) for m in common}
        spread[group] = {"members": members, "rows": rows}
    return spread


def _spread(values: Sequence[float]) -> dict[str, Any]:
    mean = math.fsum(values) / len(values)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / max(1, len(values) - 1))
    return {"mean": round(mean, 4), "deviation": round(deviation, 4), "values": list(values)}
