"""Runs of named retrievers: each in the folder of its name, continued only under the same settings and files."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gemkr.data.run_folders import RETRIEVE, holds_run, require_own
from gemkr.errors import ConfigError
from gemkr.evaluation.config import EvalConfig
from gemkr.evaluation.harness import RunResult, file_stamp, retrieve_into
from gemkr.evaluation.pools import Pools, pool_names, read_pools, require_pools
from gemkr.files import require_writable_folder
from gemkr.retrievers.compose import answers_new_questions, reads_pictures, run_files, run_settings
from gemkr.sources import Sources

logger = logging.getLogger(__name__)


def run_retriever(config: EvalConfig, sources: Sources, name: str, *, restart: bool = False) -> RunResult:
    """Rank documents for those queries of the configuration that an earlier call did not finish. The clues of this run are written
    once: the seconds of a later one over it do not count them again."""
    config.require("queries")
    require_output(config)
    require_own(sources.run_folder(name), RETRIEVE)
    pools = sources.once("pools", lambda: _pools(config, sources))
    sources.know(name, None)
    found = retrieve_into(
        sources.run_folder(name),
        lambda: sources.retriever(name),
        sources.queries,
        config.k,
        pools=pools,
        settings=settings_of(config, sources, name),
        restart=restart,
        label=name,
        paths=_paths(config, sources, name),
    )
    if hasattr(sources.section(name).cls, "knowing"):
        sources.know(name, {query_id: ranking.clues for query_id, ranking in found.rankings.items()})
    return found


def require_output(config: EvalConfig) -> Path:
    """The output folder of a configuration, made if need be; DataError when it cannot be written or holds what another command
    than `gemkr eval` and `gemkr retrieve` made, ConfigError when there is none."""
    output = config.require("output")
    require_own(output, RETRIEVE)
    return require_writable_folder(output)


def require_inputs(config: EvalConfig, sources: Sources, names: Iterable[str]) -> None:
    """Raise, before any retriever has worked, where a file that one of those called `names` reads is not there: what the retriever
    itself says of that, or ConfigError for one that needs the run of another first. A run that has begun read them once, and may be
    finished."""
    output = Path(config.require("output"))
    for name in names:
        absent = {
            what: path
            for what, path in _paths(config, sources, name).items()
            if path is not None and not Path(path).exists()
        }
        if not absent or holds_run(output / name):
            continue
        if answers_new_questions(name, sources.sections):
            sources.retriever(name)
            continue
        what, path = next(iter(absent.items()))
        raise ConfigError(
            f"the retriever {name!r} reads {what} from {path}, which is not there; make it first, or leave {name!r} out of evaluate"
        )


def _pools(config: EvalConfig, sources: Sources) -> Pools:
    """The pools of the configuration; ConfigError for a query of another one. Where none are configured, none are used, and a line says
    so of queries that name some."""
    if not config.pools:
        if placed := [query for query in sources.queries if query.pool is not None]:
            logger.warning(
                "%d of %d queries name a pool, such as %r of the query %r; pools is not set, so the whole corpus is searched for them",
                len(placed), len(sources.queries), placed[0].pool, placed[0].query_id,
            )  # fmt: skip
        return {}
    require_pools(sources.queries, pool_names(config.pools))
    return read_pools(config.pools, sources.documents.doc_ids)


def settings_of(config: EvalConfig, sources: Sources, name: str) -> dict[str, Any]:
    """What decides a run's results: settings, and size and time of the files that are read for it."""
    files = _paths(config, sources, name)
    return {
        "retriever": run_settings(name, sources.sections),
        "k": config.k,
        "queries": config.queries,
        "corpus": config.corpus,
        **({"pools": config.pools} if config.pools else {}),
        "files": {what: file_stamp(path) for what, path in files.items()},
    }


def _paths(config: EvalConfig, sources: Sources, name: str) -> dict[str, str | Path | None]:
    """The files and folders that are read for a run, by what they are to it."""
    files: dict[str, str | Path | None] = {"queries": config.queries, "corpus": config.corpus}
    if reads_pictures(name, sources.sections):
        files |= {"images": config.images, "regions": config.regions}
    files |= {f"pools.{pool}": path for pool, path in config.pools.items()}
    return files | run_files(name, sources.sections)
