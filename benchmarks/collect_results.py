"""Collect evaluation folders into docs/results.yaml and a page of plots: each figure with command, commit and data hash.

    python benchmarks/collect_results.py [NAME=FOLDER ...]

Reads the folders that benchmarks/results_manifest.yaml lists (and those named on the command line); folders that have no
figures yet are named and passed over, and entries of results.yaml that are not collected anew stay as they are. Runs no
evaluation. Of the data it publishes hashes and counts only; examples of errors go onto the page, which is not committed.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import math
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml
from result_errors import ErrorAnalysis, analyse
from result_page import Curve, write_page
from result_pairs import compare

from gemkr.config import EvalConfig, load_config, to_mapping
from gemkr.errors import ConfigError, DataError, GemkrError
from gemkr.evaluation.files import write_atomically
from gemkr.training.log import LOSS_LOG, read_rows

ROOT = Path(__file__).resolve().parents[1]
HEADER = """\
# Written by `python benchmarks/collect_results.py` from evaluation folders; do not edit. Means with 95 % bootstrap intervals.
# commit.newest: the newest commit when the evaluation ended (changes not committed by then are not known);
# commit.collected: HEAD when its figures were collected. seconds: as the machine was, with other work on it.
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One evaluation of the manifest; `command` is reconstructed from `config` when it is not given."""

    name: str
    folder: str
    command: str | None = None
    config: str | None = None
    note: str | None = None
    group: str | None = None
    seed: int | None = None
    x: float | None = None
    errors: bool = False
    train: str | None = None
    against: str | None = None


def read_manifest(path: Path) -> tuple[list[Entry], list[tuple[str, Path]]]:
    """The evaluations and the trainings (name, folder) of a manifest; DataError in one sentence when it is none."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        entries = [Entry(**row) for row in values.get("evaluations", ())]
        trainings = [(row["name"], Path(row["folder"])) for row in values.get("trainings", ())]
    except (OSError, yaml.YAMLError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{path} is no manifest of results ({error}); see the one in benchmarks/") from error
    names = [entry.name for entry in entries]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path} names {twice[0]!r} twice; give each evaluation a name of its own")
    return entries, trainings


def expand(entries: Iterable[Entry]) -> list[Entry]:
    """Entries whose folder holds a `*` become one for each folder there is, but for folders that others name."""
    entries = list(entries)
    taken = {Path(entry.folder) for entry in entries}
    expanded: list[Entry] = []
    for entry in entries:
        if "*" not in entry.folder:
            expanded.append(entry)
            continue
        before, _, after = entry.folder.partition("*")
        for middle in sorted(Path(before).glob("*")):
            folder = middle / after.lstrip("/") if after else middle
            if folder.is_dir() and folder not in taken:
                command = entry.command and entry.command.replace("*", middle.name)
                name = entry.name.replace("*", middle.name)
                expanded.append(replace(entry, name=name, folder=str(folder), command=command))
    return expanded


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
    return " ".join(["gemkr eval", config, *words])


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


def git(*words: str) -> str:
    """The answer of a git command in the project's folder, empty when there is none."""
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def commit_of(path: Path, head: str, changed: int) -> dict[str, str]:
    """The newest commit when a file was written, and HEAD now with what is not committed."""
    newest = git("rev-list", "-1", f"--before={int(path.stat().st_mtime)}", "HEAD")
    tree = f"{head} with {changed} changed files" if changed else head
    return {"newest": newest or "unknown", "collected": tree or "unknown"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Collect, write both files, and say what was passed over; 1 when nothing could be collected."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "more", nargs="*", metavar="NAME=FOLDER", help="further folders, or others for names of the manifest"
    )
    parser.add_argument("--command", help="the command that made the one folder given")
    parser.add_argument("--manifest", type=Path, default=ROOT / "benchmarks" / "results_manifest.yaml")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "results.yaml")
    parser.add_argument("--page", type=Path, default=ROOT / "runs" / "results.html")
    args = parser.parse_args(arguments)
    try:
        return run(args.manifest, args.output, args.page, args.more, args.command)
    except GemkrError as error:
        print(f"collect_results: {error}", file=sys.stderr)
        return 1


def run(
    manifest: Path, output: Path, page: Path, more: Sequence[str] = (), command: str | None = None
) -> int:
    """See `main`."""
    entries, trainings = read_manifest(manifest)
    entries = with_more(entries, more, command)
    hashes, head = Hashes(), git("rev-parse", "HEAD")
    changed = len(git("status", "--porcelain", "--untracked-files=no").splitlines())
    old = read_results(output)
    collected: dict[str, dict] = {}
    analyses: dict[str, ErrorAnalysis] = {}
    evaluated: list[Entry] = []
    for entry in expand(entries):
        path = Path(entry.folder) / "metrics.json"
        if not path.is_file():
            print(f"passed over: {entry.name}, {path} is not there yet", file=sys.stderr)
            continue
        try:
            metrics = json.loads(path.read_text(encoding="utf-8"))
            result = collect(entry, metrics, hashes, commit_of(path, head, changed))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            print(
                f"passed over: {entry.name}, {path} is not what gemkr eval writes ({error!r})",
                file=sys.stderr,
            )
            continue
        before = old.get(entry.name, {})
        if before.get("metrics_sha256") == result["metrics_sha256"] and "commit" in before:
            result["commit"] = before["commit"]
        if entry.errors:
            found = errors_of(entry, metrics["config"])
            if found is not None:
                analyses[entry.name] = found
                result["errors"] = found.published()
        collected[entry.name] = result
        evaluated.append(entry)
    if not collected:
        raise DataError(f"none of the folders of {manifest} holds figures; run the evaluations first")
    results = collected | {name: result for name, result in old.items() if name not in collected}
    for entry in evaluated:
        if entry.against is not None:
            base = next((other for other in evaluated if other.name == entry.against), None)
            add_comparison(entry, base, results)
    groups = spreads(results)
    write_atomically(output, HEADER + yaml.safe_dump({"groups": groups, "evaluations": results}, **_YAML))
    page.parent.mkdir(parents=True, exist_ok=True)
    write_page(page, results, groups, analyses, learning_curves(trainings), head[:10])
    print(f"{len(collected)} evaluations collected: {output}, {page}")
    return 0


_YAML: dict[str, Any] = {"sort_keys": False, "width": 140, "allow_unicode": True}


def with_more(entries: Sequence[Entry], more: Sequence[str], command: str | None) -> list[Entry]:
    """The manifest's entries with the folders of the command line put in; ConfigError for what is not NAME=FOLDER."""
    if command is not None and len(more) != 1:
        raise ConfigError(f"--command tells of one folder and {len(more)} are given; give one NAME=FOLDER")
    named = {entry.name: entry for entry in entries}
    for word in more:
        name, equals, folder = word.partition("=")
        if not (name and equals and folder):
            raise ConfigError(f"{word!r} is not NAME=FOLDER; write for example seed0=runs/mine/eval")
        entry = named.get(name, Entry(name, folder))
        named[name] = replace(entry, folder=folder, command=command or entry.command)
    return list(named.values())


def read_results(path: Path) -> dict[str, dict]:
    """The evaluations of an earlier results.yaml, none when there is no such file."""
    if not path.exists():
        return {}
    try:
        return dict((yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("evaluations", {}))
    except (yaml.YAMLError, AttributeError) as error:
        raise DataError(f"{path} cannot be read ({error}); delete it and collect anew") from error


def add_comparison(entry: Entry, base: Entry | None, results: Mapping[str, dict]) -> None:
    """Put the paired comparison with the entry's base into its result; a sentence on stderr when there is none."""
    if base is None:
        print(f"{entry.name} not compared: {entry.against} has no figures yet", file=sys.stderr)
        return
    try:
        names = results[entry.name]["retriever"], results[base.name]["retriever"]
        found = compare(Path(entry.folder), names[0], Path(base.folder), names[1])
    except DataError as error:
        print(f"{entry.name} not compared: {error}", file=sys.stderr)
        return
    results[entry.name]["against"] = {"of": entry.against, **found}


def errors_of(entry: Entry, config: Mapping[str, Any]) -> ErrorAnalysis | None:
    """The analysis of a folder's errors, or None with a sentence on stderr why there is none."""
    train = entry.train or (config.get("opponents") or {}).get("train")
    if train is None:
        print(f"errors of {entry.name} not sorted: no training questions are told", file=sys.stderr)
        return None
    try:
        return analyse(Path(entry.folder), config, Path(train))
    except (GemkrError, OSError) as error:
        print(f"errors of {entry.name} not sorted: {error}", file=sys.stderr)
        return None


def learning_curves(trainings: Iterable[tuple[str, Path]]) -> list[Curve]:
    """Loss and, where it is there, held-out loss over steps of the training folders that exist."""
    curves = []
    for entry in expand(Entry(name, str(folder)) for name, folder in trainings):
        if (Path(entry.folder) / LOSS_LOG).is_file():
            rows = read_rows(entry.folder)
            for key, title in (("loss", "training loss"), ("development_loss", "held-out loss")):
                points = tuple(
                    (row["step"], row[key]) for row in rows if isinstance(row.get(key), (int, float))
                )
                if points:
                    curves.append(Curve(entry.name, title, points))
    return curves


if __name__ == "__main__":
    sys.exit(main())
