"""The evaluations and trainings that benchmarks/results_manifest.yaml lists. Reads no figures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from glob import glob
from pathlib import Path

import yaml

from gemkr.errors import ConfigError, DataError


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
    """Entries whose folder holds a `*` become one for each folder there is, but for folders that others name.

    What the star stands for takes the place of the star in name and command. Raises DataError for an entry with other than
    one star in its folder and one in its name.
    """
    entries = list(entries)
    taken = {Path(entry.folder) for entry in entries}
    expanded: list[Entry] = []
    for entry in entries:
        if "*" not in entry.folder:
            expanded.append(entry)
            continue
        if (entry.folder.count("*"), entry.name.count("*")) != (1, 1):
            raise DataError(
                f"{entry.name}: {entry.folder} needs one star, and its name one to tell the folders apart"
            )
        pattern = re.compile(re.escape(entry.folder).replace(r"\*", "([^/]*)"))
        for folder in sorted(glob(entry.folder)):
            if Path(folder).is_dir() and Path(folder) not in taken:
                middle = pattern.fullmatch(folder)[1]
                command = entry.command and entry.command.replace("*", middle)
                name = entry.name.replace("*", middle)
                expanded.append(replace(entry, name=name, folder=folder, command=command))
    return expanded


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
