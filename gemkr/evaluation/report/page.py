"""One self-contained HTML report: the table of results, timings, and queries one by one with their evidence.

Plain data in, one file out: styles and pictures are inlined, nothing is fetched, and it reads without JavaScript.
Knows nothing of retrievers, models or configurations.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from gemkr.evaluation.metrics import Scores
from gemkr.evaluation.report.card_html import card_html
from gemkr.evaluation.report.cards import Card
from gemkr.evaluation.report.table import number
from gemkr.files import write_atomically

LEGEND = {
    "clue": '<mark class="clue">clue</mark> written by the model, found in the document',
    "answer": '<mark class="answer">answer</mark> known to be right',
    "match": '<mark class="match" style="--w:1">token</mark> found by the query\'s vectors, the darker the more',
}
"""What the legend says of each kind of mark."""


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
    shown = "\n".join(card_html(card) for card in cards)
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
        legend=_legend(shown),
        cards=shown,
        **{f"count_{name}": count for name, count in counts.items()},
    )
    write_atomically(path, html)


def _legend(cards: str) -> str:
    """What the marks of these cards' documents mean; nothing where none has one."""
    kinds = {kind for names in re.findall('<mark class="([^"]+)"', cards) for kind in names.split()}
    entries = [entry for kind, entry in LEGEND.items() if kind in kinds]
    return f'<p class="legend">{" · ".join(entries)}</p>' if entries else ""


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
