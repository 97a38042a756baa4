"""One line of JSON per query: the answer, the passage that it rests on, and what its confidence comes from.

`AnswerLog` appends them as they come, for one process at a time. Also reads OK-VQA's annotators. Knows no readers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from gemkr.data.records import cut_half_line, parsed_lines
from gemkr.data.text_files import open_text
from gemkr.errors import DataError
from gemkr.files import lock, write_atomically
from gemkr.types import Answer, ReadPassage

ANSWERS_FILE = "answers.jsonl"


def to_record(answer: Answer) -> dict[str, Any]:
    """An answer as plain JSON values."""
    return {
        "query_id": answer.query_id,
        "answer": answer.text,
        "doc_id": answer.doc_id,
        "log_prob": float(answer.log_prob),
        "confidence": None if answer.confidence is None else float(answer.confidence),
        "abstains": answer.abstains,
        "passages": [
            {"doc_id": p.doc_id, "weight": float(p.weight), "share": float(p.share)} for p in answer.passages
        ],
        "others": [{"answer": text, "log_prob": float(log_prob)} for text, log_prob in answer.others],
        "features": {name: float(value) for name, value in answer.features.items()},
    }


def from_record(record: dict[str, Any]) -> Answer:
    """The inverse of `to_record`; KeyError or TypeError when the record is not one."""
    return Answer(
        record["query_id"],
        record["answer"],
        record["doc_id"],
        record["log_prob"],
        tuple(ReadPassage(p["doc_id"], p["weight"], p["share"]) for p in record["passages"]),
        tuple((other["answer"], other["log_prob"]) for other in record["others"]),
        dict(record["features"]),
        record["confidence"],
        record["abstains"],
    )


def read_answers(path: str | Path) -> Iterator[Answer]:
    """The answers of a file, in its order; DataError naming file and line for a broken line."""
    return parsed_lines(path, from_record, "an answer")


def write_answers(path: str | Path, answers: Iterable[Answer]) -> None:
    """Replace a file of answers in one step."""
    write_atomically(path, "".join(_line(answer) for answer in answers))


def _line(answer: Answer) -> str:
    return json.dumps(to_record(answer), ensure_ascii=False) + "\n"


class AnswerLog:
    """`answers.jsonl` in a folder, appended to query by query and safe to interrupt at any moment.

    While it is open, `answers.lock` beside it keeps other processes out.
    """

    def __init__(self, folder: str | Path, *, restart: bool = False) -> None:
        """Open the file; drops a half-written last line, with `restart` all. DataError when another process writes there."""
        self.path = Path(folder) / ANSWERS_FILE
        self._lock = lock(Path(folder) / "answers.lock")
        try:
            if restart:
                self.path.unlink(missing_ok=True)
            cut_half_line(self.path)
            earlier = read_answers(self.path) if self.path.exists() else ()
            self.done: set[str] = {answer.query_id for answer in earlier}
            self._stream: IO[str] = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 - closed by __exit__
        except BaseException:
            self._lock.close()
            raise

    def append(self, answer: Answer) -> None:
        """Write one answer and hand it to the operating system; DataError when the disk is full."""
        try:
            self._stream.write(_line(answer))
            self._stream.flush()
        except OSError as error:
            raise DataError(
                f"{self.path} cannot be written ({error.strerror}); free space and start again, the {len(self.done)} answers "
                "done are kept"
            ) from error
        self.done.add(answer.query_id)

    def __enter__(self) -> AnswerLog:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._stream.close()


def read_annotations(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Query id -> what each annotator answered, out of an annotation file of VQA or OK-VQA (json, plain or `.gz`).

    Raises DataError for a file of another form, naming the first annotation that lacks something.
    """
    try:
        with open_text(Path(path)) as stream:
            data = json.load(stream)
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON ({error})") from error
    if not isinstance(data, dict) or not isinstance(data.get("annotations"), list):
        raise DataError(f"{path} is no VQA annotation file: it holds no list 'annotations'")
    votes = {}
    for number, row in enumerate(data["annotations"]):
        try:
            votes[str(row["question_id"])] = tuple(str(vote["answer"]) for vote in row["answers"])
        except (KeyError, TypeError) as error:
            raise DataError(
                f"{path}: annotation {number} lacks 'question_id' or 'answers' ({error!r})"
            ) from error
    return votes
