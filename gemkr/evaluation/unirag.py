"""A run as material for retrieval-augmented generation, in the form of UniIR's UniRAG: queries, their candidates, and for each
candidate that is a text or a picture alone a complement of the other kind.

`complement_candidates[i]` belongs to `candidates[i]`, always: null where that one holds both, or nothing of the other kind is left.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gemkr.data.mbeir import InstructionProvider, modality
from gemkr.data.runs import load_run
from gemkr.errors import DataError
from gemkr.evaluation.config import EvalConfig
from gemkr.files import write_atomically
from gemkr.interfaces import Retriever
from gemkr.sources import Sources
from gemkr.types import Document, Query

COCO = "9"
"""M-BEIR's data set of pictures and captions, whose instructions ask for the other kind."""
OTHER = {"text": "image", "image": "text"}
DISTINCT = 8
"""How many complements of a candidate are looked at for one that is not the user's own text or picture."""


def export_unirag(
    config: EvalConfig,
    run: str,
    output: str | Path,
    *,
    k: int,
    complements: str | None = None,
    instructions: InstructionProvider | None = None,
) -> tuple[int, int]:
    """Write a jsonl of the first `k` hits of each query of a run: `query`, `candidates` and, where `complements` names a section of
    the configuration that finds them, `complement_candidates`. Returns how many (queries, complements) there are.

    A candidate is searched for as if it were a query, with the first of M-BEIR's `instructions` from its kind to the other, among
    all documents of the other kind alone. ConfigError for an unknown section; DataError for a run that holds none of the queries, or
    a document that the corpus lacks.
    """
    config.require("queries")
    sources = config.sources()
    hits = load_run(run, sources.queries, "file")
    queries = [query for query in sources.queries if query.query_id in hits]
    if not queries:
        raise DataError(
            f"the run {run} holds none of the {len(sources.queries)} queries; name a run over these"
        )
    shown = {
        query.query_id: [_document(sources, hit.doc_id, run) for hit in hits[query.query_id][:k]]
        for query in queries
    }
    found: Mapping[str, list[Document]] = {}
    if complements is not None:
        wanted = {doc.doc_id: doc for docs in shown.values() for doc in docs}
        found = _complements(sources, sources.retriever(complements), wanted.values(), instructions)
    rows, count = [], 0
    for query in queries:
        documents = shown[query.query_id]
        row: dict[str, Any] = {"query": _query_row(query), "candidates": [_row(doc) for doc in documents]}
        if complements is not None:
            chosen = [_first_other(query, found.get(doc.doc_id, [])) for doc in documents]
            row["complement_candidates"] = [None if doc is None else _row(doc) for doc in chosen]
            count += sum(doc is not None for doc in chosen)
        rows.append(json.dumps(row, ensure_ascii=False) + "\n")
    write_atomically(output, "".join(rows))
    return len(rows), count


def _document(sources: Sources, doc_id: str, run: str) -> Document:
    if doc_id not in sources.documents:
        raise DataError(
            f"the run {run} names the document {doc_id!r}, which the corpus does not hold; give the corpus that it was made with"
        )
    return sources.documents.by_id(doc_id)


def _complements(
    sources: Sources,
    retriever: Retriever,
    candidates: Iterable[Document],
    instructions: InstructionProvider | None,
) -> dict[str, list[Document]]:
    """By candidate, the nearest documents of the other kind, best first; candidates that hold both are left out."""
    found: dict[str, list[Document]] = {}
    kinds = {doc_id: modality(document) for doc_id, document in _by_id(sources)}
    candidates = list(candidates)
    for kind, other in OTHER.items():
        allowed = {doc_id for doc_id, its in kinds.items() if its == other}
        asked = [_as_query(doc, other, instructions) for doc in candidates if kinds[doc.doc_id] == kind]
        if not allowed or not asked:
            continue
        for ranking in retriever.retrieve(asked, DISTINCT, allowed=allowed):
            doc_id = ranking.query_id.partition(":")[2]
            found[doc_id] = [sources.documents.by_id(hit.doc_id) for hit in ranking.hits]
    return found


def _by_id(sources: Sources) -> Iterator[tuple[str, Document]]:
    return ((document.doc_id, document) for document in sources.documents)


def _as_query(document: Document, other: str, instructions: InstructionProvider | None) -> Query:
    """A candidate as a query, under an id of M-BEIR's data set of captions."""
    query = Query(f"{COCO}:{document.doc_id}", document.contents, image=document.image)
    if instructions is None or instructions.silent:
        return query
    text = instructions.instruction(query, other, f"the complement of {document.doc_id!r}")
    return Query(query.query_id, query.question, image=query.image, instruction=text)


def _first_other(query: Query, documents: Iterable[Document]) -> Document | None:
    """The first that is not what the user gave."""
    text = query.question.strip()
    for document in documents:
        if document.image is not None and document.image == query.image:
            continue
        if document.image is None and document.contents.strip() == text:
            continue
        return document
    return None


def _query_row(query: Query) -> dict[str, Any]:
    """A query under M-BEIR's keys."""
    return {
        "qid": query.query_id,
        "query_txt": query.question or None,
        "query_img_path": query.image,
        "query_modality": modality(query),
        "instruction": query.instruction,
        "pos_cand_list": list(query.positives),
    }


def _row(document: Document) -> dict[str, Any]:
    """A document under M-BEIR's keys."""
    return {
        "did": document.doc_id,
        "txt": document.contents or None,
        "img_path": document.image,
        "modality": modality(document),
    }
