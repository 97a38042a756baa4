"""One line of JSON per query: hits with their evidence and all clues; what `gemkr retrieve` appends to.

The file is the record of an interrupted run: `RunLog` cuts off a half-written last line, reports which queries are
done, and keeps the TREC file beside it in step, for one process at a time. Knows nothing of retrievers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

from gemkr.data.text_files import json_lines
from gemkr.data.trec import TAG, trec_lines, write_run
from gemkr.errors import DataError
from gemkr.files import lock
from gemkr.fm_index import Span
from gemkr.types import Clue, Evidence, Hit, Ranking

Parsed = TypeVar("Parsed")


def to_record(ranking: Ranking) -> dict[str, Any]:
    """A ranking as plain JSON values; log-probabilities are natural, `rows` is the clue's span in the index,
    `count` how many of them end where a clue may."""
    return {
        "query_id": ranking.query_id,
        "hits": [
            {
                "doc_id": hit.doc_id,
                "score": float(hit.score),
                "evidence": [
                    {
                        "text": e.text,
                        "log_prob": float(e.log_prob),
                        "start": int(e.start),
                        "stop": int(e.stop),
                    }
                    for e in hit.evidence
                ],
            }
            for hit in ranking.hits
        ],
        "clues": [
            {
                "text": clue.text,
                "tokens": [int(token) for token in clue.tokens],
                "log_prob": float(clue.log_prob),
                "score": float(clue.score),
                "rows": [int(clue.span.lo), int(clue.span.hi)],
                **({} if clue.count is None else {"count": int(clue.count)}),
            }
            for clue in ranking.clues
        ],
        **({} if ranking.searched == 1 else {"searched": float(ranking.searched)}),
    }


def from_record(record: dict[str, Any]) -> Ranking:
    """The inverse of `to_record`; KeyError or TypeError when the record is not one."""
    hits = tuple(
        Hit(
            hit["doc_id"],
            hit["score"],
            tuple(Evidence(e["text"], e["log_prob"], e["start"], e["stop"]) for e in hit["evidence"]),
        )
        for hit in record["hits"]
    )
    clues = tuple(
        Clue(
            tuple(c["tokens"]),
            c["text"],
            c["log_prob"],
            c["score"],
            Span(*c["rows"], len(c["tokens"])),
            c.get("count"),
        )
        for c in record["clues"]
    )
    return Ranking(record["query_id"], hits, clues, record.get("searched", 1.0))


def read_records(path: str | Path) -> Iterator[Ranking]:
    """The rankings of a run.jsonl file, in its order; DataError naming file and line for a broken line."""
    return parsed_lines(path, from_record, "a retrieval run")


def parsed_lines(path: str | Path, parse: Callable[[dict[str, Any]], Parsed], what: str) -> Iterator[Parsed]:
    """What `parse` makes of each line of a log, in its order; DataError naming file and line for one that is no record of
    `what`."""
    for line, record in json_lines(Path(path)):
        if isinstance(record, str):
            raise DataError(f"{path}:{line}: {record}; go on with the run, which mends a line cut short")
        try:
            yield parse(record)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}:{line}: this is no record of {what} ({error!r})") from error


class RunLog:
    """`run.jsonl` and `run.trec` in a folder, appended to query by query and safe to interrupt at any moment.

    While it is open, `run.lock` beside them keeps other processes out.

    >>> with RunLog(folder) as log:
    ...     for ranking in retriever.retrieve([q for q in queries if q.query_id not in log.done], k=10):
    ...         log.append(ranking)
    """

    def __init__(self, folder: str | Path, *, tag: str = TAG, restart: bool = False) -> None:
        """Open both files; drops a half-written last line and writes the TREC file again from the records.

        Of several records of a query the last one counts. `restart` drops them all. Raises DataError when another
        process is writing into the folder; nothing is touched then.
        """
        self._lock = lock(Path(folder) / "run.lock")
        try:
            self._open(Path(folder), tag, restart)
        except BaseException:
            self._lock.close()
            raise

    def _open(self, folder: Path, tag: str, restart: bool) -> None:
        self.records_path = folder / "run.jsonl"
        self.trec_path = folder / "run.trec"
        self._tag = tag
        if restart:
            self.records_path.unlink(missing_ok=True)
        cut_half_line(self.records_path)
        earlier = read_records(self.records_path) if self.records_path.exists() else ()
        last = {ranking.query_id: ranking for ranking in earlier}
        self.done: set[str] = set(last)
        write_run(self.trec_path, last.values(), tag)
        self._records: IO[str] = open(self.records_path, "a", encoding="utf-8")  # noqa: SIM115 - closed by __exit__
        self._trec: IO[str] = open(self.trec_path, "a", encoding="utf-8")  # noqa: SIM115 - closed by __exit__

    def append(self, ranking: Ranking) -> None:
        """Write one query's results and hand them to the operating system; DataError when the disk is full."""
        trec = trec_lines(ranking, self._tag)
        try:
            for stream, text in ((self._records, json.dumps(to_record(ranking)) + "\n"), (self._trec, trec)):
                stream.write(text)
                stream.flush()
        except OSError as error:
            raise self._failure(error) from error
        self.done.add(ranking.query_id)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close all files; a failure to do so never hides an error that is already on its way."""
        with self._lock:
            self._close(kind)

    def _close(self, kind: type[BaseException] | None) -> None:
        for stream in (self._records, self._trec):
            try:
                try:
                    stream.flush()
                    os.fsync(stream.fileno())
                finally:
                    stream.close()
            except OSError as error:
                if kind is None:
                    raise self._failure(error) from error

    def _failure(self, error: OSError) -> DataError:
        return DataError(
            f"{self.records_path} cannot be written ({error.strerror}); free space and start again, "
            f"the {len(self.done)} queries done are kept"
        )


def cut_half_line(path: Path) -> None:
    """Shorten a file to its last whole line, what an append that was killed leaves behind."""
    if not path.exists():
        return
    with open(path, "rb+") as stream:
        content = stream.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            stream.truncate(whole)
