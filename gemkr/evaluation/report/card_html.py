"""One query of the report as HTML: its picture and clues, and its documents with clues and answers marked."""

from __future__ import annotations

import math
from html import escape
from itertools import pairwise

from gemkr.evaluation.report.cards import Card, ShownDocument
from gemkr.evaluation.report.picture import picture_figure

EXCERPT = 460
SHOWN_CLUES = 8


def card_html(card: Card) -> str:
    kind, verdict = (
        ("right", "right document first")
        if card.right
        else ("low", "right document further down")
        if card.found
        else ("missed", "no right document")
    )
    query = card.query
    facts = []
    if query.answers:
        facts.append(f"<dt>answer</dt><dd class=gold>{escape(' · '.join(query.answers))}</dd>")
    if query.caption:
        facts.append(f"<dt>caption</dt><dd>{escape(query.caption)}</dd>")
    if query.detections:
        facts.append(f"<dt>seen</dt><dd>{escape(', '.join(query.detections))}</dd>")
    documents = "".join(_document(shown, rank) for rank, shown in enumerate(card.documents, 1))
    picture = picture_figure(card.picture, card.boxes, query.image or "", card.heat) if card.picture else ""
    if picture and card.heat:
        picture += (
            "<p class=heat-note>the redder, the more a part of the picture found in the first document</p>"
        )
    layout = "" if picture or card.clues else " plain"
    return (
        f'<article class="card {kind}{layout}"><header><span class="verdict">{verdict}</span>'
        f"<h3>{escape(query.question or '(picture only)')}</h3><code>{escape(query.query_id)}</code></header>"
        f'<div class="left">{picture}<dl>{"".join(facts)}</dl>{_clues(card)}</div>'
        f'<div class="right">{documents or "<p class=none>no document found</p>"}</div></article>'
    )


def _clues(card: Card) -> str:
    if not card.clues:
        return ""
    shown = card.clues[:SHOWN_CLUES]
    most = max(math.exp(log_prob) for _, log_prob in shown) or 1.0
    lines = "".join(
        f'<li><i style="width:{100 * math.exp(log_prob) / most:.1f}%"></i><span>{escape(text)}</span>'
        f"<b>{_percent(math.exp(log_prob))}</b></li>"
        for text, log_prob in shown
    )
    more = f"<small>and {len(card.clues) - len(shown)} more</small>" if len(card.clues) > len(shown) else ""
    return f'<h4>clues the model wrote</h4><ol class="clues">{lines}</ol>{more}'


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.001 else "&lt; 0.1 %"


def _document(shown: ShownDocument, rank: int) -> str:
    mark = "✓" if shown.relevant else "✗"
    word = "relevant" if shown.relevant else "not relevant"
    return (
        f'<div class="doc {"yes" if shown.relevant else "no"}"><div class="rank">{rank}<i title="{word}">{mark}</i></div>'
        f"<p>{_marked(shown)}</p><code>{escape(shown.document.doc_id)} · {shown.score:.3f}</code></div>"
    )


def _marked(shown: ShownDocument) -> str:
    """The part of the text around its first clue (or answer), clues and answers marked."""
    text = shown.document.contents
    spans = (
        sorted(shown.clue or shown.answer) or [(m.start, m.stop) for m in shown.matched if m.weight == 1][:1]
    )
    start, stop = excerpt(text, spans[0] if spans else (0, 0))
    edges = {start, stop}
    for low, high in (*shown.clue, *shown.answer, *((m.start, m.stop) for m in shown.matched)):
        edges |= {min(max(low, start), stop), min(max(high, start), stop)}
    cuts = sorted(edges)
    parts = ["… " if start else ""]
    for low, high in pairwise(cuts):
        kinds = [
            kind
            for kind, ranges in (("clue", shown.clue), ("answer", shown.answer))
            if any(a <= low and high <= b for a, b in ranges)
        ]
        found = [m for m in shown.matched if m.start <= low and high <= m.stop]
        kinds += ["match"] if found else []
        style = ""
        if found:
            best = max(found, key=lambda m: m.weight)
            style = f' style="--w:{best.weight:.2f}" title="found by {escape(best.label)}"'
        piece = escape(text[low:high])
        parts.append(f'<mark class="{" ".join(kinds)}"{style}>{piece}</mark>' if kinds else piece)
    parts.append(" …" if stop < len(text) else "")
    return "".join(parts)


def excerpt(text: str, span: tuple[int, int], width: int = EXCERPT) -> tuple[int, int]:
    """[start, stop) of about `width` characters that hold the span, cut at spaces."""
    if len(text) <= width:
        return 0, len(text)
    start = 0 if span[1] <= width - 60 else max(0, span[0] - width // 3)
    if start:
        start = text.find(" ", start, span[0]) + 1 or start
    stop = min(len(text), max(start + width, span[1]))
    if stop < len(text):
        space = text.rfind(" ", max(start, span[1]), stop)
        stop = space if space > start else stop
    return start, stop
