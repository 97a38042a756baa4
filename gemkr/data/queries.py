"""Readers of queries: our jsonl, BEIR's, M-BEIR's and M2KR's, MS MARCO's tsv, GeMKR's json, and OK-VQA's.

Knows nothing of pictures: `Query.image` is an id that is never looked up here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice, product
from pathlib import Path, PurePosixPath
from typing import Any

from gemkr.data.okvqa import COCO_2014_NAMES, okvqa_queries
from gemkr.data.tables import is_table, table_rows
from gemkr.data.text_files import id_fault, open_text, separator_hint
from gemkr.data.values import clean_text, first_key, load_json, text_value, text_values
from gemkr.errors import DataError
from gemkr.types import Query

ID_NAMES = ("query_id", "qid", "_id", "id", "question_id")
QUESTION_NAMES = ("question", "query", "text", "query_txt")
IMAGE_NAMES = ("image", "query_img_path", "img_path")
POSITIVE_NAMES = ("positives", "gold", "pos_cand_list", "pos_item_ids")
PICTURE_SUFFIXES = {
    ".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".jfif", ".jpe", ".avif",
}  # fmt: skip


def read_queries(path: str | Path) -> Iterator[Query]:
    """Yield the queries of a file in its order; ids are strings and distinct.

    `.jsonl` (plain or .gz): `query_id, question, image, instruction, caption, detections, answers, positives, pool`, all
    but the id optional; `qid` and `gold` are understood for `query_id` and `positives`, BEIR's `text` for `question`, and the
    keys of M-BEIR (`query_txt, query_img_path, pos_cand_list`) and M2KR (`question_id, img_path, pos_item_ids`). `.parquet`
    (with pyarrow): the same keys. `.tsv`
    (plain or .gz): MS MARCO's pairs of id and question, in which quotes are text, with or without a header. `.json` (plain or .gz):
    GeMKR's list of `{"input": question, "output": answer or answers, "image": id}`, numbered from 0 where no id is given;
    or OK-VQA's question file, without answers (see `read_okvqa`).
    Raises DataError naming file and line (jsonl, tsv) or entry (json) for a broken row, a string that is not UTF-8, an
    id with white space, a duplicate id, a query with neither question nor picture; and for a file without queries.
    """
    return _queries_of(placed_queries(path))


def placed_queries(path: str | Path) -> Iterator[tuple[str, Query]]:
    """(file and line or entry, query), as `read_queries` yields them."""
    path = Path(path)
    plain = path.name.removesuffix(".gz")
    if is_table(path):
        rows = ((f"{path}:{line}", row) for line, row in table_rows(path))
        return _checked(path, ((where, _from_jsonl(row, where)) for where, row in rows))
    if plain.endswith(".tsv"):
        return _checked(path, _from_tsv(path))
    if plain.endswith(".json"):
        data = load_json(path)
        if isinstance(data, dict) and "questions" in data:
            return _checked(path, okvqa_queries(path, data, None, COCO_2014_NAMES))
        return _checked(path, _from_gemkr(path, data))
    if not path.exists():
        raise DataError(f"the query file {path} does not exist")
    raise DataError(
        f"the query file {path} has an unknown extension; known are .jsonl, .tsv and .json, plain or .gz, and .parquet"
    )


def read_okvqa(
    questions: str | Path, annotations: str | Path | None = None, *, names: str = COCO_2014_NAMES
) -> Iterator[Query]:
    """Yield the queries of OK-VQA's question file; with its annotation file they carry answers.

    `names` makes the image id of `split` (the file's `data_subtype`, or the one in its name: train2014, val2014) and
    `image` (COCO's number). Answers: as typed (`raw_answer`) and in OK-VQA's normal form (`answer`), distinct, those
    that most annotators gave first. Raises DataError when a question has no annotation, or one of another picture.
    """
    questions = Path(questions)
    notes = None if annotations is None else Path(annotations)
    return _queries_of(_checked(questions, okvqa_queries(questions, load_json(questions), notes, names)))


def _queries_of(placed: Iterable[tuple[str, Query]]) -> Iterator[Query]:
    return (query for _, query in placed)


def _checked(path: Path, queries: Iterable[tuple[str, Query]]) -> Iterator[tuple[str, Query]]:
    places: dict[str, str] = {}
    for where, query in queries:
        for name, what in ((query.query_id, "query"), *((name, "document") for name in query.positives)):
            if (fault := id_fault(name, what)) is not None:
                raise DataError(f"{where}: {fault}; correct it")
        if not query.question.strip() and query.image is None:
            raise DataError(
                f"{where}: the query {query.query_id!r} has neither a question nor a picture; give it one"
            )
        if query.query_id in places:
            raise DataError(
                f"{where}: the query id {query.query_id!r} already stands at {places[query.query_id]}"
            )
        places[query.query_id] = where
        yield where, query
    if not places:
        raise DataError(f"the query file {path} holds no query")


def _from_jsonl(row: dict[str, Any] | str, where: str) -> Query:
    if isinstance(row, str):
        raise DataError(f"{where}: {row}")
    query_id = next((row[name] for name in ID_NAMES if row.get(name) is not None), None)
    if query_id is None or isinstance(query_id, (dict, list, bool)) or not str(query_id).strip():
        raise DataError(f"{where}: the query has no id; the key 'query_id' must hold it")
    return Query(
        query_id=str(query_id),
        question=text_value(row, first_key(row, QUESTION_NAMES), where) or "",
        image=text_value(row, first_key(row, IMAGE_NAMES), where) or None,
        instruction=text_value(row, "instruction", where) or None,
        caption=text_value(row, "caption", where) or None,
        detections=text_values(row, "detections", where),
        answers=text_values(row, "answers", where),
        positives=text_values(row, first_key(row, POSITIVE_NAMES), where),
        pool=text_value(row, "pool", where) or None,
    )


def _from_tsv(path: Path) -> Iterator[tuple[str, Query]]:
    with open_text(path) as stream:
        for line, text in enumerate(stream, 1):
            if text.isspace():
                continue
            where, row = f"{path}:{line}", text.rstrip("\r\n").split("\t")
            if len(row) != 2:
                hint = separator_hint(text, "\t")
                raise DataError(
                    f"{where}: the row has {len(row)} columns, queries have 2 (id, question){hint}"
                )
            if line > 1 or (row[0].lower(), row[1].lower()) not in product(ID_NAMES, QUESTION_NAMES):
                yield where, Query(row[0], clean_text(row[1], "the question", where))


def _from_gemkr(path: Path, data: Any) -> Iterator[tuple[str, Query]]:
    if not isinstance(data, list):
        raise DataError(
            f"{path} is no GeMKR file: a list of objects with 'input', 'output' and 'image' is needed"
        )
    for number, row in enumerate(data):
        where = f"{path}: entry {number}"
        if not isinstance(row, dict) or not ("input" in row or "image" in row):
            raise DataError(f"{where} is no object with 'input' and 'image'")
        output = row.get("output")
        row = {**row, "output": [output] if isinstance(output, str) else output}
        image = text_value(row, "image", where)
        query_id = next((row[name] for name in ID_NAMES if row.get(name) is not None), number)
        yield (
            where,
            Query(
                query_id=str(query_id),
                question=text_value(row, "input", where) or "",
                image=_image_id(image) if image else None,
                answers=text_values(row, "output", where),
            ),
        )


def _image_id(image: str) -> str:
    name = PurePosixPath(image)
    return name.stem if name.suffix.lower() in PICTURE_SUFFIXES else image


def batches(queries: Iterable[Query], size: int) -> Iterator[list[Query]]:
    """The queries in lists of `size`, the last one shorter."""
    rest = iter(queries)
    while batch := list(islice(rest, size)):
        yield batch
