"""Runs a reader over the passages of a retriever into a folder: answers written as they come, resumed where they stopped."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gemkr.answering.confidence import Calibration, read_calibration, with_confidence
from gemkr.answering.config import CLOSED_BOOK, AnswerConfig
from gemkr.config.files import to_mapping
from gemkr.config.section import section_files
from gemkr.data.answers import AnswerLog, read_answers, write_answers
from gemkr.evaluation.config import EvalConfig
from gemkr.evaluation.harness import SECONDS_FILE, RunResult, file_stamp, keep_settings, read_seconds
from gemkr.evaluation.runs import run_retriever, settings_of
from gemkr.files import require_writable_folder, write_atomically
from gemkr.interfaces import Reader
from gemkr.progress import progress_bar
from gemkr.sources import Sources
from gemkr.types import Answer, Hit, Query

logger = logging.getLogger(__name__)

FOLDER = "answers"
"""In the output of an evaluation: one folder for each retriever whose passages are read."""


@dataclass(frozen=True)
class AnswerRun:
    """All answers in the order of the queries; `resumed` of them were there before this call, `seconds` without loading."""

    answers: dict[str, Answer]
    resumed: int
    seconds: float


def answer_from(
    config: EvalConfig,
    sources: Sources,
    name: str,
    calibrations: Mapping[str, Calibration],
    *,
    found: RunResult | None = None,
    restart: bool = False,
) -> AnswerRun:
    """The answers from the passages of the retriever `name`, which is run first unless its run is `found`, or closed book.

    Answers that an earlier call has come to are not read again; with a calibration of `name`, all have a confidence.
    """
    answer = config.answer
    require_mode(answer, name)
    hits: Mapping[str, Sequence[Hit]] = {}
    paths = {"queries": config.queries, **section_files(answer.reader)}
    settings: dict[str, Any] = {
        "reader": {"kind": answer.reader.kind, **to_mapping(answer.reader.config)},
        "of": name,
        "queries": config.queries,
        "files": {what: file_stamp(path) for what, path in paths.items()},
    }
    if name != CLOSED_BOOK:
        hits = (found or run_retriever(config, sources, name, restart=restart)).run
        settings |= {"depth": answer.depth, "passages": settings_of(config, sources, name)}
        without = [query.query_id for query in sources.queries if not hits.get(query.query_id)]
        if without:
            logger.warning(
                "%d of the %d queries have no passages from %s, such as %r; they are answered without any",
                len(without),
                len(sources.queries),
                name,
                without[0],
            )

    def reading(query: Query) -> tuple[Query, list[Hit]]:
        first = hits.get(query.query_id, ())[: answer.depth]
        return query, [replace(hit, document=sources.documents.by_id(hit.doc_id)) for hit in first]

    return answer_into(
        Path(config.require("output")) / FOLDER / name,
        lambda: sources.part(answer.reader),
        sources.queries,
        reading,
        settings=settings,
        paths=paths,
        calibration=calibrations.get(name),
        restart=restart,
        label=f"answering from {name}",
    )


def answer_into(
    folder: Path,
    build: Callable[[], Reader],
    queries: Sequence[Query],
    reading: Callable[[Query], tuple[Query, Sequence[Hit]]],
    *,
    settings: Mapping[str, Any],
    paths: Mapping[str, str | Path | None] | None = None,
    calibration: Calibration | None = None,
    restart: bool = False,
    label: str = "answering",
) -> AnswerRun:
    """Answer the queries that the folder's `answers.jsonl` does not hold yet; `reading` gives one its passages.

    As `retrieve_into`: `build` is called only when something is left to do, and a run is continued only under equal
    `settings`. The calibration is none of them: it is applied anew to all answers.
    """
    folder = require_writable_folder(folder)
    with AnswerLog(folder, restart=restart) as log:
        keep_settings(folder, json.loads(json.dumps(settings)), paths or {}, begun=bool(log.done))
        spent = read_seconds(folder) if log.done else 0.0
        left = [query for query in queries if query.query_id not in log.done]
        resumed = len(queries) - len(left)
        if left:
            reader = build()
            began = time.perf_counter()
            answers = progress_bar(
                reader.answer(map(reading, left)), label, total=len(queries), initial=resumed, unit=" queries"
            )
            try:
                for answer in answers:
                    log.append(answer)
            finally:
                spent += time.perf_counter() - began
                write_atomically(folder / SECONDS_FILE, json.dumps({"seconds": round(spent, 3)}) + "\n")
    written = {answer.query_id: answer for answer in read_answers(log.path)}
    rated = {query_id: _rated(answer, calibration) for query_id, answer in written.items()}
    if rated != written:
        write_answers(log.path, rated.values())
    ordered = {query.query_id: rated[query.query_id] for query in queries if query.query_id in rated}
    return AnswerRun(ordered, resumed, spent)


def _rated(answer: Answer, calibration: Calibration | None) -> Answer:
    if calibration is None:
        return replace(answer, confidence=None, abstains=None)
    return with_confidence(answer, calibration)


def calibrations_of(answer: AnswerConfig) -> dict[str, Calibration]:
    """The calibrations that the settings name, by retriever; none where they name no file."""
    if answer.calibration is None:
        return {}
    return read_calibration(answer.calibration, reader_fingerprint(answer), answer.depth)


def reader_fingerprint(answer: AnswerConfig) -> str:
    """What distinguishes a reader from others: its own `fingerprint`, or a hash of its settings."""
    own = getattr(answer.reader.cls, "fingerprint", None)
    if own is not None:
        return own(answer.reader.config)
    settings = {"kind": answer.reader.kind, **to_mapping(answer.reader.config)}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def require_mode(answer: AnswerConfig, name: str) -> None:
    """ConfigError where the reader cannot do with the passages, or without any."""
    own = getattr(answer.reader.cls, "require_mode", None)
    if own is not None:
        own(answer.reader.config, name != CLOSED_BOOK)
