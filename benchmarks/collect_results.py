"""Collect evaluation folders into docs/results.yaml and a page of plots: each figure with command, commit and data hash.

    python benchmarks/collect_results.py [NAME=FOLDER ...]

Reads the folders that benchmarks/results_manifest.yaml lists (and those named on the command line); folders that have no
figures yet are named and passed over, and entries of results.yaml that are not collected anew stay as they are. Runs no
evaluation. Of the data it publishes hashes and counts only; examples of errors go onto the page, which is not committed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from result_errors import ErrorAnalysis, analyse
from result_manifest import Entry, expand, read_manifest, with_more
from result_page import Curve, write_page
from result_pairs import compare
from result_record import ROOT, Hashes, collect, spreads

from gemkr.errors import ConfigError, DataError, GemkrError
from gemkr.evaluation.files import write_atomically
from gemkr.training.log import LOSS_LOG, read_rows

HEADER = """\
# Written by `python benchmarks/collect_results.py` from evaluation folders; do not edit. Means with 95 % bootstrap intervals.
# commit.newest: the newest commit when the evaluation ended (changes not committed by then are not known);
# commit.collected: HEAD when its figures were collected. seconds: as the machine was, with other work on it.
"""


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
        except ConfigError as error:
            print(f"passed over: {entry.name}, {error}", file=sys.stderr)
            continue
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            print(
                f"passed over: {entry.name}, {path} is not what gemkr eval writes ({error!r})",
                file=sys.stderr,
            )
            continue
        before = old.get(entry.name, {})
        if before.get("metrics_sha256") == result["metrics_sha256"]:
            kept = {"commit": True, "against": entry.against is not None, "errors": entry.errors}
            result |= {key: before[key] for key, wanted in kept.items() if wanted and key in before}
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
