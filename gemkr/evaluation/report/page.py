"""One self-contained HTML report: the table of results, timings, and queries one by one with their evidence.

Plain data in, one file out: styles and pictures are inlined, nothing is fetched, and it reads without JavaScript.
Knows nothing of retrievers, models or configurations.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from string import Template

from gemkr.errors import VisionError
from gemkr.evaluation.metrics import Scores
from gemkr.evaluation.report.cards import Box, Card, Heat, ShownDocument
from gemkr.evaluation.report.table import number
from gemkr.files import write_atomically

PICTURE_SIDE = 420
EXCERPT = 460
SHOWN_CLUES = 8
MATCHED = (
    ' · <mark class="match" style="--w:1">token</mark> found by the query\'s vectors, the darker the more'
)
"""What the legend says of late interaction."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: `values` maps metric names to (mean, low, high) of the 95 % interval; one of `other_queries` is not
    compared with the rest."""

    name: str
    values: Mapping[str, tuple[float, float, float]]
    note: str = ""
    other_queries: bool = False

    @classmethod
    def of(cls, name: str, scores: Scores, note: str = "") -> Row:
        """The row of a scored run."""
        return cls(
            name, {metric: (scores.mean(metric), *scores.interval(metric)) for metric in scores.values}, note
        )


def write_report(
    path: str | Path,
    title: str,
    rows: Sequence[Row],
    cards: Sequence[Card],
    seconds: Mapping[str, float],
    notes: Sequence[str] = (),
    *,
    subtitle: str = "",
    sections: Sequence[str] = (),
) -> None:
    """Write the report; the first row is the one the report is about, the others are compared with it. `sections` are
    further HTML, shown below the results.

    Pictures are scaled to 420 pixels and cost about 20 kB each. Raises DataError when the file cannot be written.
    """
    folder = files("gemkr.evaluation.report").joinpath("templates")
    page = Template(folder.joinpath("report.html").read_text(encoding="utf-8"))
    counts = {
        "all": len(cards),
        "right": sum(card.right for card in cards),
        "low": sum(card.found and not card.right for card in cards),
        "missed": sum(not card.found for card in cards),
    }
    html = page.substitute(
        title=escape(title),
        subtitle=escape(subtitle),
        style=folder.joinpath("report.css").read_text(encoding="utf-8"),
        script=folder.joinpath("report.js").read_text(encoding="utf-8"),
        tiles=_tiles(rows),
        table=results_table(rows),
        seconds=_seconds(seconds),
        notes="".join(f"<li>{escape(note)}</li>" for note in notes),
        sections="\n".join(sections),
        legend=MATCHED if any(shown.matched for card in cards for shown in card.documents) else "",
        cards="\n".join(_card(card) for card in cards),
        **{f"count_{name}": count for name, count in counts.items()},
    )
    write_atomically(path, html)


def _tiles(rows: Sequence[Row]) -> str:
    """The first row's means as large figures."""
    if not rows:
        return ""
    tiles = []
    for metric, (mean, low, high) in rows[0].values.items():
        tiles.append(
            f'<div class="tile"><b>{number(mean)}</b><span>{escape(metric)}</span>'
            f"<small>{number(low)} to {number(high)}</small></div>"
        )
    return "".join(tiles)


def results_table(rows: Sequence[Row]) -> str:
    """The HTML table of scored rows, the best value of each metric marked."""
    metrics = list(dict.fromkeys(metric for row in rows for metric in row.values))
    compared = [row for row in rows if not row.other_queries]
    best = {
        m: max((row.values[m][0] for row in compared if m in row.values), default=math.nan) for m in metrics
    }
    scale = {m: max(max(row.values[m][2] for row in rows if m in row.values), 1e-9) for m in metrics}
    head = "".join(f"<th>{escape(metric)}</th>" for metric in metrics)
    body = []
    for place, row in enumerate(rows):
        note = f"<small>{escape(row.note)}</small>" if row.note else ""
        cells = [f'<th scope="row">{escape(row.name)}{note}</th>']
        for metric in metrics:
            if metric not in row.values:
                cells.append("<td>&ndash;</td>")
                continue
            mean, low, high = row.values[metric]
            css_class = (
                ' class="best"' if mean == best[metric] and len(compared) > 1 and row in compared else ""
            )
            cells.append(
                f'<td{css_class} title="95 % interval {number(low)} to {number(high)}">{number(mean)}'
                f"{_interval(mean / scale[metric], low / scale[metric], high / scale[metric])}</td>"
            )
        body.append(f"<tr{' class=ours' if place == 0 else ''}>{''.join(cells)}</tr>")
    return f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _interval(mean: float, low: float, high: float) -> str:
    """A bar up to the mean with its interval on top; all in shares of the column's width."""
    start, stop = 100 * max(low, 0), 100 * min(high, 1)
    return (
        f'<i class="ci"><i class="mean" style="width:{100 * mean:.1f}%"></i>'
        f'<i class="range" style="left:{start:.1f}%;width:{max(stop - start, 0.5):.1f}%"></i></i>'
    )


def _seconds(seconds: Mapping[str, float]) -> str:
    if not seconds:
        return ""
    longest = max([*seconds.values(), 1e-9])
    lines = "".join(
        f'<div class="time"><span>{escape(name)}</span><i><i style="width:{100 * value / longest:.1f}%"></i></i>'
        f"<b>{duration(value)}</b></div>"
        for name, value in ((name.replace("_", " "), value) for name, value in seconds.items())
    )
    return f'<section><h2>Time</h2><div class="times">{lines}</div></section>'


def duration(seconds: float) -> str:
    """9.4 s, 3 min 12 s, 2 h 05 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"


def _card(card: Card) -> str:
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
    picture = _picture(card.picture, card.boxes, query.image or "", card.heat) if card.picture else ""
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
        sorted(shown.clue or shown.answer) or [(a, b) for a, b, weight in shown.matched if weight == 1][:1]
    )
    start, stop = excerpt(text, spans[0] if spans else (0, 0))
    edges = {start, stop}
    for low, high in (*shown.clue, *shown.answer, *((a, b) for a, b, _ in shown.matched)):
        edges |= {min(max(low, start), stop), min(max(high, start), stop)}
    cuts = sorted(edges)
    parts = ["… " if start else ""]
    for low, high in pairwise(cuts):
        kinds = [
            kind
            for kind, ranges in (("clue", shown.clue), ("answer", shown.answer))
            if any(a <= low and high <= b for a, b in ranges)
        ]
        weight = max((w for a, b, w in shown.matched if a <= low and high <= b), default=0.0)
        kinds += ["match"] if weight else []
        style = f' style="--w:{weight:.2f}"' if weight else ""
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


def _picture(path: Path, boxes: Sequence[Box], name: str, heat: Sequence[Heat] = ()) -> str:
    """The picture as a data URL with its boxes drawn over it, or a word in its place where it cannot be read."""
    try:
        data, width, height = small_jpeg(path)
    except VisionError:
        return f"<p class=none>the picture {escape(name)} cannot be read</p>"
    unit = max(width, height) / 100
    shapes = [_warm(part, width, height) for part in heat]
    for place, box in enumerate(boxes):
        x, y = box.left * width, box.top * height
        w, h = (box.right - box.left) * width, (box.bottom - box.top) * height
        shapes.append(
            f'<rect class="b{place % 6}" x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" rx="{unit:.1f}"/>'
        )
    for place, box in enumerate(boxes):
        if box.label:
            score = "" if box.score is None else f" {box.score:.2f}".replace("0.", ".")
            size = 4.2 * unit
            x = min(box.left * width, max(0.0, width - 0.58 * size * len(box.label + score)))
            y = max(box.top * height - unit, size)
            shapes.append(
                f'<text class="b{place % 6}" x="{x:.1f}" y="{y:.1f}" font-size="{size:.1f}">'
                f"{escape(box.label)}{score}</text>"
            )
    return (
        f'<figure><img alt="picture {escape(name)}" loading="lazy" src="data:image/jpeg;base64,{data}">'
        f'<svg viewBox="0 0 {width} {height}" aria-hidden="true">{"".join(shapes)}</svg></figure>'
    )


def _warm(part: Heat, width: int, height: int) -> str:
    """A part of the picture under its colour; what it found, to who points at it."""
    x, y = part.left * width, part.top * height
    w, h = (part.right - part.left) * width, (part.bottom - part.top) * height
    return (
        f'<rect class="heat" x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" style="--w:{part.weight:.2f}">'
        f"<title>{escape(part.label)}</title></rect>"
    )


def small_jpeg(path: str | Path, side: int = PICTURE_SIDE) -> tuple[str, int, int]:
    """A picture scaled down to at most `side` pixels, as base64 JPEG, with its width and height; VisionError as `read_picture`."""
    from gemkr.vision.decode import read_picture

    picture = read_picture(Path(path), f"the picture {path}")
    picture.thumbnail((side, side))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=82, optimize=True)
    return base64.b64encode(out.getvalue()).decode(), picture.width, picture.height
