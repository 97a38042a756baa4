"""What late interaction found, for reports, answers and the page: weights of the tokens of each document, and a heat map of the picture.

Knows retrievers only by what explains a hit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from gemkr.evaluation.report.cards import Card, Heat, Matched
from gemkr.types import Document, Hit, Query, TokenMatch

Explain = Callable[[Query, Sequence[Document]], Sequence[Sequence[TokenMatch]]]


def with_matches(card: Card, explain: Explain) -> Card:
    """The card with what every vector of its query found in each document, and its picture's patches (or, without them, its regions)
    by what they found in the first."""
    documents, heat = [], ()
    found = explain(card.query, [shown.document for shown in card.documents])
    for rank, (shown, matches) in enumerate(zip(card.documents, found, strict=True)):
        documents.append(replace(shown, matched=tuple(matched_of(matches))))
        if rank == 0 and card.picture is not None:
            heat = tuple(heat_of(matches, shown.document.contents))
    return replace(card, documents=tuple(documents), heat=heat)


def weighted(matches: Sequence[TokenMatch]) -> list[tuple[int, int, float]]:
    """(start, stop, weight) of the tokens that vectors found, in order: the sum of their scores, as a share of the largest. They have no
    character in common: those that share one (of which a tokenizer of bytes gives each a part) are one."""
    return [(start, stop, weight) for start, stop, weight, _ in _found(matches)]


def matched_of(matches: Sequence[TokenMatch]) -> list[Matched]:
    """The tokens that vectors found, as `weighted`, each with the vectors that found it, the best first; equal ones together."""
    return [Matched(start, stop, weight, _finders(own)) for start, stop, weight, own in _found(matches)]


def _found(matches: Sequence[TokenMatch]) -> list[tuple[int, int, float, list[TokenMatch]]]:
    """As `weighted`, with what was found there."""
    spans: list[tuple[int, int, list[TokenMatch]]] = []
    inside = (match for match in matches if match.start < match.stop)
    for match in sorted(inside, key=lambda match: (match.start, match.stop)):
        start, stop, own = match.start, match.stop, [match]
        if spans and start < spans[-1][1]:
            start, before, others = spans.pop()
            stop, own = max(stop, before), [*others, match]
        spans.append((start, stop, own))
    totals = [sum(max(match.score, 0.0) for match in own) for *_, own in spans]
    most = max(totals, default=0.0)
    return [
        (*span[:2], total / most, span[2]) for span, total in zip(spans, totals, strict=True) if total > 0
    ]


def _finders(matches: Sequence[TokenMatch]) -> str:
    """`cat 0.81, [MASK] 0.52 (3)`: names of vectors, the best score of each, and how many they are."""
    vectors: dict[str, list[float]] = {}
    for match in matches:
        vectors.setdefault(match.vector.text, []).append(match.score)
    best = sorted(vectors.items(), key=lambda item: -max(item[1]))
    return ", ".join(
        f"{name} {max(scores):.2f}" + (f" ({len(scores)})" if len(scores) > 1 else "")
        for name, scores in best
    )


def heat_of(matches: Sequence[TokenMatch], text: str) -> list[Heat]:
    """Parts of the picture by their scores, from the least (0) to the largest (1); the best of a part's vectors counts."""
    parts = [match for match in matches if match.vector.patch]
    parts = parts or [match for match in matches if match.vector.text.startswith("region")]
    best: dict[tuple[float, float, float, float], TokenMatch] = {}
    for match in parts:
        box = match.vector.box
        if box is not None and (box not in best or match.score > best[box].score):
            best[box] = match
    scores = [match.score for match in best.values()]
    if not scores:
        return []
    low, span = min(scores), max(max(scores) - min(scores), 1e-9)
    return [
        Heat(
            *box,
            (match.score - low) / span,
            f"{text[match.start : match.stop] or match.vector.text} {match.score:.2f}",
        )
        for box, match in best.items()
    ]


def shown_matches(hit: Hit) -> dict[str, Any]:
    """`matches` [start, stop, weight] by characters of the hit's text (what is in its title is left out), and `heat` with the box,
    weight and words of the parts of the query's picture, as JSON values; nothing of a hit without matches or document."""
    if hit.document is None or not hit.matches:
        return {}
    contents = hit.document.contents
    before = len(contents) - len(hit.document.text)
    matches = [
        [max(start - before, 0), stop - before, round(weight, 3)]
        for start, stop, weight in weighted(hit.matches)
        if stop > before
    ]
    heat = [
        {"box": [h.left, h.top, h.right, h.bottom], "weight": round(h.weight, 3), "words": h.label}
        for h in heat_of(hit.matches, contents)
    ]
    return {"matches": matches, "heat": heat}


def vector_matches(hit: Hit) -> dict[str, Any]:
    """`vectors`, as JSON values: for each of the query's vectors, in order, its `name`, the `box` of its part of the picture, the `token`
    of the document that it found ("" for a marker or a picture) and the `score`, as Python's `hit.matches`; nothing of other hits."""
    if hit.document is None or not hit.matches:
        return {}
    contents = hit.document.contents
    return {
        "vectors": [
            {
                "name": match.vector.text,
                **({} if match.vector.box is None else {"box": list(match.vector.box)}),
                "token": contents[match.start : match.stop],
                "score": round(match.score, 4),
            }
            for match in hit.matches
        ]
    }
