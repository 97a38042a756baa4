"""MMEB's evaluation sets: rows of a query and its own list of candidates, the first of them gold; as corpus, queries and pools.

Candidates are the same document where text and picture are the same, never by one of the two: equal captions of different
pictures stay apart.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gemkr.data.tables import is_table, table_rows
from gemkr.data.values import text_value, text_values
from gemkr.errors import DataError
from gemkr.types import Document, Query

IMAGE_TOKENS = re.compile(r"<\|image(_\d+)?\|>|<\|image_pad\|>")
"""How texts say where a picture stands, for one model or another; encoders here place pictures themselves."""
DIALOGUES = "VisDial"
"""The set whose questions VLM2Vec ends with one line break more, where instructions stand apart."""
LONGEST_ID = 120
"""Candidate names of more characters are cut, and told apart by a hash."""


@dataclass(slots=True)
class MMEBSet:
    """Queries, the documents that they are answered from, and name of a pool -> its `doc_id`s in the order of the file."""

    queries: list[Query] = field(default_factory=list)
    documents: dict[str, Document] = field(default_factory=dict)
    pools: dict[str, tuple[str, ...]] = field(default_factory=dict)


def is_mmeb(path: str | Path) -> bool:
    """Whether the first row of a jsonl or parquet file has MMEB's lists of candidates."""
    path = Path(path)
    if not is_table(path):
        return False
    row = next(table_rows(path), (0, ""))[1]
    return isinstance(row, dict) and "tgt_text" in row and ("qry_text" in row or "qry_img_path" in row)


def read_mmeb(path: str | Path, name: str | None = None) -> MMEBSet:
    """Read one evaluation set: `qry_inst, qry_text, qry_img_path, tgt_inst, tgt_text[], tgt_img_path[]`.

    `tgt_inst`, where there is one, stands before the texts of candidates, and in no id. Texts end as VLM2Vec ends them: with a line
    break where an instruction stands apart, but for pictures without texts that pictures ask for.

    Queries are numbered from 0 behind the set's `name` and ":" (default: the file's, up to its first dot), or keep the id of a key
    `query_id`, `qid` or `id`. Lists with the same candidates are one pool, named by the first query that has it.
    Raises DataError naming file and line for a broken row, lists of different lengths, a candidate or a query without text
    and picture, and a query id that repeats. Memory: the whole set.
    """
    path = Path(path)
    found = MMEBSet()
    name = path.name.partition(".")[0] if name is None else name
    places: dict[str, str] = {}
    pool_of: dict[frozenset[str], str] = {}
    for where, row in mmeb_rows(path):
        given = next((row[key] for key in ("query_id", "qid", "id") if row.get(key) is not None), None)
        query_id = candidate_id(str(given), None) if given is not None else f"{name}:{len(found.queries)}"
        if query_id in places:
            raise DataError(f"{where}: the query id {query_id!r} already stands at {places[query_id]}")
        places[query_id] = where
        listed, target = [], _text(row, "tgt_inst", where)
        question, instruction = _text(row, "qry_text", where), _text(row, "qry_inst", where)
        if name == DIALOGUES and instruction:
            question = f"{question.rstrip()}\n\n"
        picture = text_value(row, "qry_img_path", where) or None
        for number, (text, image) in enumerate(_candidates(row, where)):
            if not text and not image:
                raise DataError(
                    f"{where}: candidate {number} has neither a text nor a picture; give it one, or take it out"
                )
            doc_id = candidate_id(text, image)
            shown = " ".join(part for part in (target, text) if part)
            if picture is None or text.strip() or not image:
                shown = instructed(shown, target)
            known = found.documents.setdefault(doc_id, Document(doc_id, shown, image=image or None))
            if known.text.split() != shown.split():
                raise DataError(
                    f"{where}: the candidate {doc_id!r} has the 'tgt_inst' {target!r}, and another in an earlier row; give it one"
                )
            listed.append(doc_id)
        pool_name = pool_of.setdefault(frozenset(listed), query_id)
        found.pools.setdefault(pool_name, tuple(dict.fromkeys(listed)))
        query = Query(
            query_id,
            instructed(question, instruction) if question else "",
            image=picture,
            instruction=(instruction if question else instructed(instruction, instruction)) or None,
            positives=(listed[0],),
            pool=pool_name,
        )
        if not query.question and query.image is None:
            raise DataError(
                f"{where}: the query {query_id!r} has neither a question nor a picture; give it one"
            )
        found.queries.append(query)
    if not found.queries:
        raise DataError(f"the query file {path} holds no query")
    return found


def candidate_id(text: str, image: str | None) -> str:
    """The `doc_id` of a candidate: its text, its picture's path, or both, with white space and % as in addresses.

    VLM2Vec names candidates so too in its predictions. Beyond LONGEST_ID characters the end is a hash.
    """
    name = ":".join(part for part in (image, without_image_tokens(text).strip()) if part)
    spelled = re.sub(
        r"[\s%\x00-\x1f\x7f]", lambda found: "".join(f"%{b:02X}" for b in found[0].encode()), name
    )
    if len(spelled) <= LONGEST_ID:
        return spelled
    return f"{spelled[: LONGEST_ID - 17]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def without_image_tokens(text: str) -> str:
    """A text without what says where its picture stands, and without white space before it. The line break that ends MMEB's texts stays:
    the vector of VLM2Vec is the state of the last token."""
    return IMAGE_TOKENS.sub("", text).lstrip()


def instructed(text: str, instruction: str) -> str:
    """A text of MMEB's second form, whose instruction stands apart: VLM2Vec ends it with the line break of the first form."""
    return text if not instruction or text.endswith("\n") else f"{text}\n"


def mmeb_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row with its file and line; DataError for one that cannot be read."""
    for line, row in table_rows(path):
        where = f"{path}:{line}"
        if isinstance(row, str):
            raise DataError(f"{where}: {row}")
        yield where, row


def _candidates(row: dict[str, Any], where: str) -> Iterator[tuple[str, str]]:
    """(text, picture) of each candidate, "" for what it lacks."""
    texts, images = (text_values(row, key, where) for key in ("tgt_text", "tgt_img_path"))
    if not texts and not images:
        raise DataError(f"{where}: the query has no candidates; 'tgt_text' or 'tgt_img_path' must list them")
    if texts and images and len(texts) != len(images):
        raise DataError(
            f"{where}: 'tgt_text' lists {len(texts)} candidates, 'tgt_img_path' {len(images)}; give each one of both, '' for none"
        )
    count = max(len(texts), len(images))
    for text, image in zip(texts or [""] * count, images or [""] * count, strict=True):
        yield without_image_tokens(text), image.strip()


def _text(row: dict[str, Any], key: str, where: str) -> str:
    return without_image_tokens(text_value(row, key, where) or "")
