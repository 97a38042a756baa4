"""Runs of named retrievers: each into the folder of its name, gone on with only under the same settings and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gemkr.evaluation.config import EvalConfig
from gemkr.evaluation.harness import RunResult, file_stamp, retrieve_into
from gemkr.retrievers.compose import reads_pictures, run_files, run_settings
from gemkr.sources import Sources


def run_retriever(config: EvalConfig, sources: Sources, name: str, *, restart: bool = False) -> RunResult:
    """Rank documents for the queries of the configuration, those that an earlier call has not come to."""
    config.require("queries")
    return retrieve_into(
        sources.run_folder(name),
        lambda: sources.retriever(name),
        sources.queries,
        config.k,
        settings=settings_of(config, sources, name),
        restart=restart,
        label=name,
    )


def settings_of(config: EvalConfig, sources: Sources, name: str) -> dict[str, Any]:
    """What decides a run's results: settings, and size and time of the files that are read for it."""
    files: dict[str, str | Path | None] = {"queries": config.queries, "corpus": config.corpus}
    if reads_pictures(name, sources.sections):
        files |= {"images": config.images, "regions": config.regions}
    files |= run_files(name, sources.sections)
    return {
        "retriever": run_settings(name, sources.sections),
        "k": config.k,
        "queries": config.queries,
        "corpus": config.corpus,
        "files": {what: file_stamp(path) for what, path in files.items()},
    }
