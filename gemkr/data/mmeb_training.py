"""MMEB's training sets: rows of a query, its gold candidate and, in some sets, a hard negative; as corpus, queries and a run of negatives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gemkr.data.mmeb import candidate_id, mmeb_rows, without_image_tokens
from gemkr.data.tables import is_table, table_rows
from gemkr.data.training_pairs import TrainingPairs
from gemkr.data.values import text_value
from gemkr.errors import DataError
from gemkr.types import Document, Query


def is_mmeb_training(path: str | Path) -> bool:
    """Whether the first row of a jsonl or parquet file is one of a training set."""
    path = Path(path)
    if not is_table(path):
        return False
    row = next(table_rows(path), (0, ""))[1]
    return isinstance(row, dict) and "qry" in row and ("pos_text" in row or "pos_image_path" in row)


def read_mmeb_training(path: str | Path, name: str | None = None) -> TrainingPairs:
    """Read one training set: `qry, qry_image_path, pos_text, pos_image_path, neg_text, neg_image_path`, in which `qry` holds the
    instruction too.

    Queries are numbered from 0 behind the set's `name` and ":" (default: the file's, up to its first dot), which tells data sets apart
    in training; documents have the ids of `candidate_id`. Raises
    DataError naming file and line for a query or a gold candidate without text and picture. Memory: the whole set.
    """
    path = Path(path)
    found, name = TrainingPairs(), path.name.partition(".")[0] if name is None else name
    for where, row in mmeb_rows(path):
        query_id = f"{name}:{len(found.queries)}"
        question, image = _pair(row, "qry", "qry_image_path", where)
        if not question and image is None:
            raise DataError(f"{where}: the query has neither a text nor a picture; give it one in 'qry'")
        positive = _document(found, row, "pos", where)
        if positive is None:
            raise DataError(
                f"{where}: the gold candidate has neither a text nor a picture; give it 'pos_text' or 'pos_image_path'"
            )
        negative = _document(found, row, "neg", where)
        if negative is not None and negative != positive:
            found.negatives[query_id] = negative
        found.queries.append(Query(query_id, question, image=image, positives=(positive,)))
    if not found.queries:
        raise DataError(f"the training set {path} holds no query")
    return found


def _document(found: TrainingPairs, row: dict[str, Any], kind: str, where: str) -> str | None:
    """The id of a row's candidate, which is kept among the documents; None where the row has none."""
    text, image = _pair(row, f"{kind}_text", f"{kind}_image_path", where)
    if not text and image is None:
        return None
    doc_id = candidate_id(text, image)
    found.documents.setdefault(doc_id, Document(doc_id, text, image=image))
    return doc_id


def _pair(row: dict[str, Any], text: str, image: str, where: str) -> tuple[str, str | None]:
    shown = without_image_tokens(text_value(row, text, where) or "")
    return shown, (text_value(row, image, where) or "").strip() or None
