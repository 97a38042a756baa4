"""Runs a retriever over queries into a folder: results written as they come, resumed where they stopped.

Sees retrievers through their protocol only.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemkr.data.records import RunLog, read_records
from gemkr.errors import ConfigError
from gemkr.evaluation.pools import Pools, retrieve_in_pools
from gemkr.files import require_writable_folder, write_atomically
from gemkr.interfaces import Retriever
from gemkr.progress import progress_bar
from gemkr.types import Query, Ranking

logger = logging.getLogger(__name__)

SETTINGS_FILE = "settings.json"
SECONDS_FILE = "seconds.json"


@dataclass(frozen=True)
class RunResult:
    """All rankings in the order of the queries; `resumed` of them were there before this call.

    `seconds` is the time that retrieval took in all calls together, without loading; `answered` the number of queries
    that it was spent on.
    """

    rankings: dict[str, Ranking]
    resumed: int
    seconds: float
    answered: int

    @property
    def run(self) -> dict[str, tuple]:
        """query_id -> hits, best first."""
        return {query_id: ranking.hits for query_id, ranking in self.rankings.items()}


def retrieve_into(
    folder: str | Path,
    build: Callable[[], Retriever],
    queries: Sequence[Query],
    k: int,
    *,
    settings: Mapping[str, Any],
    pools: Pools | None = None,
    restart: bool = False,
    label: str = "retrieving",
    progress: bool = True,
    paths: Mapping[str, str | Path | None] | None = None,
) -> RunResult:
    """Rank documents for the queries that the folder's `run.jsonl` does not hold yet.

    `build` is called only when there is something left to do. `settings` (plain json values) are kept in the folder:
    a run is continued only under equal ones, else ConfigError names the first difference; `restart` starts
    over. `paths` are those of the files whose stamps the settings hold as `files`, for that message. With `pools`, a query that names one is answered from it alone. One process at a time may run into a folder: DataError for the second. The order of `rankings` is that of `queries`.
    """
    folder = require_writable_folder(folder)
    wanted = {query.query_id for query in queries}
    with RunLog(folder, restart=restart) as log:
        keep_settings(folder, json.loads(json.dumps(settings)), paths or {}, begun=bool(log.done))
        seconds = read_seconds(folder) if log.done else 0.0
        left = [query for query in queries if query.query_id not in log.done]
        resumed = len(queries) - len(left)
        if left:
            retriever = build()
            began = time.perf_counter()
            bar = progress_bar(
                retrieve_in_pools(retriever, left, k, pools or {}),
                label,
                total=len(queries),
                initial=resumed,
                unit=" queries",
                disable=not progress,
            )
            try:
                for ranking in bar:
                    log.append(ranking)
            finally:
                seconds += time.perf_counter() - began
                write_atomically(folder / SECONDS_FILE, json.dumps({"seconds": round(seconds, 3)}) + "\n")
        path, answered = log.records_path, len(log.done)
    rankings = {ranking.query_id: ranking for ranking in read_records(path) if ranking.query_id in wanted}
    parts = [ranking.searched for ranking in rankings.values() if ranking.searched < 1]
    if parts:
        logger.warning(
            "%s: %d of %d answers come from a part of the corpus (at least %.0f %%), because shards were lost",
            *(label, len(parts), len(rankings), 100 * min(parts)),
        )
    ordered = {query.query_id: rankings[query.query_id] for query in queries if query.query_id in rankings}
    return RunResult(ordered, resumed, seconds, answered)


def read_seconds(folder: Path) -> float:
    """Seconds of earlier calls."""
    path = folder / SECONDS_FILE
    if not path.exists():
        return 0.0
    return float(json.loads(path.read_text(encoding="utf-8"))["seconds"])


def file_stamp(path: str | Path | None) -> str | None:
    """What detects a changed file without reading it: size and time; of a folder, of all its files."""
    if path is None or not Path(path).exists():
        return None
    path = Path(path)
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    stats = [file.stat() for file in files]
    return f"{sum(s.st_size for s in stats)} bytes, {max((s.st_mtime_ns for s in stats), default=0)}"


def keep_settings(
    folder: Path, settings: dict[str, Any], paths: Mapping[str, str | Path | None], begun: bool
) -> None:
    """Keep the settings beside the run; refuse to continue a run of others, or of unknown ones."""
    path = folder / SETTINGS_FILE
    if begun and not path.exists():
        raise ConfigError(
            f"{folder} holds a run without {SETTINGS_FILE}, so its settings are unknown; "
            "give another output, or --restart to replace it"
        )
    if begun:
        earlier = _flatten(json.loads(path.read_text(encoding="utf-8")))
        now = _flatten(settings)
        for key in [*now, *earlier]:
            if now.get(key) != earlier.get(key):
                raise ConfigError(
                    f"{folder} holds a run {_difference(key, earlier, now, paths)}; give another output, or --restart to replace it"
                )
    write_atomically(path, json.dumps(settings, indent=1) + "\n")


def _difference(
    key: str, earlier: Mapping[str, Any], now: Mapping[str, Any], paths: Mapping[str, str | Path | None]
) -> str:
    """What is another in two runs: the value of a setting, or what became of a file; behind `holds a run`."""
    what = key.removeprefix("files.")
    if what == key or not (key in earlier and key in now):
        return f"with {key} = {earlier.get(key)!r}, this one has {now.get(key)!r}"
    path = f"{what} {paths[what]}" if paths.get(what) else f"file of {what}"
    if now[key] is None:
        return f"whose {path} is no longer there"
    if earlier[key] is None:
        return f"that was begun before its {path} was there"
    return f"whose {path} has changed since the run was begun"


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat
