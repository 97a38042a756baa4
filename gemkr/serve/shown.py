"""Rankings as the service sends them: hits with their documents and the places of their clues, clues, times.

Plain dictionaries of JSON values; knows tokenizers only by `encode_with_offsets`.
"""

from __future__ import annotations

from typing import Any

from gemkr.evaluation.report.cards import Offsets, clue_ranges
from gemkr.evaluation.report.matches import shown_matches
from gemkr.serve.batching import Job
from gemkr.types import Document, Hit, Ranking


def shown_document(document: Document) -> dict[str, Any]:
    """A document with its text and, where it has one, the id of its picture."""
    return {
        "doc_id": document.doc_id,
        "title": document.title,
        "text": document.text,
        "image": document.image,
    }


def shown_ranking(
    ranking: Ranking, name: str, job: Job, tokenizer: Offsets | None, *, evidence: bool, clues: bool
) -> dict[str, Any]:
    """A ranking of the retriever `name`; its hits carry their documents."""
    shown: dict[str, Any] = {
        "retriever": name,
        "hits": [_hit(hit, tokenizer if evidence else None, evidence) for hit in ranking.hits],
    }
    if ranking.searched < 1:
        shown["searched"] = ranking.searched
    if clues:
        shown["clues"] = [
            {
                "text": clue.text,
                "tokens": [int(token) for token in clue.tokens],
                "log_prob": float(clue.log_prob),
                "score": float(clue.score),
                "occurrences": int(clue.occurrences),
            }
            for clue in ranking.clues
        ]
    seconds = {"wait": round(job.waited, 4), "retrieve": round(job.worked, 4)}
    return shown | {"seconds": seconds, "together": job.together}


def _hit(hit: Hit, tokenizer: Offsets | None, evidence: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {"doc_id": hit.doc_id, "score": float(hit.score)}
    if hit.document is not None:
        shown |= shown_document(hit.document)
    if evidence:
        shown["evidence"] = [
            {"text": e.text, "log_prob": float(e.log_prob), "start": int(e.start), "stop": int(e.stop)}
            for e in hit.evidence
        ]
        shown["marks"] = marks(hit, tokenizer)
    return shown | shown_matches(hit)


def marks(hit: Hit, tokenizer: Offsets | None) -> list[list[int]]:
    """Half-open ranges of characters of the hit's text in which its clues stand; those in its title are left out."""
    if hit.document is None or tokenizer is None or not hit.evidence:
        return []
    document = hit.document
    before = len(document.contents) - len(document.text)
    found = clue_ranges(document.contents, hit.evidence, tokenizer)
    return [[max(start - before, 0), stop - before] for start, stop in found if stop > before]
