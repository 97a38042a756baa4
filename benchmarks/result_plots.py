"""Plots as inline SVG: points with intervals side by side, lines over steps, stacked bars.

Text in, text out; colours are the page's CSS variables. Knows nothing of evaluations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

SERIES = ("var(--accent)", "#b7791f", "#7a5bb5", "#bf3b32", "#2f74b5", "#7d8794", "#4c9a2a", "#c2598f")
WIDTH = 1072
LETTER = 8.5
"""Room for a letter of a label, in the units of `WIDTH`."""


@dataclass(frozen=True, slots=True)
class DotRow:
    """One line of a dot plot: per metric its points and the interval (low, high) drawn through them."""

    label: str
    cells: Mapping[str, tuple[tuple[float, ...], float, float]]
    ours: bool = True


@dataclass(frozen=True, slots=True)
class Line:
    """A named line of (x, y) points, with an interval (low, high) for each point or none at all."""

    label: str
    points: tuple[tuple[float, float], ...]
    intervals: tuple[tuple[float, float], ...] = ()


def dot_plot(rows: Sequence[DotRow], metrics: Sequence[str], marks: Mapping[str, float] | None = None) -> str:
    """A panel per metric, a line per row; `marks` are values drawn as dashed lines (the best opponent, say)."""
    marks = marks or {}
    gap, step, top = 44, 27, 34
    left = 24 + LETTER * max((len(row.label) for row in rows), default=0)
    panel = (WIDTH - left - gap * len(metrics)) / max(1, len(metrics))
    height = top + step * len(rows) + 30
    parts = []
    for place, row in enumerate(rows):
        y = top + step * place + step / 2
        if place % 2:
            parts.append(f'<rect class="band" x="0" y="{y - step / 2:.1f}" width="{WIDTH}" height="{step}"/>')
        kind = "label ours" if row.ours else "label"
        parts.append(
            f'<text class="{kind}" x="{left - 14}" y="{y + 4:.1f}" text-anchor="end">{escape(row.label)}</text>'
        )
    for number, metric in enumerate(metrics):
        x0 = left + number * (panel + gap)
        cells = [row.cells[metric] for row in rows if metric in row.cells]
        values = [value for points, low, high in cells for value in (*points, low, high)]
        if metric in marks:
            values.append(marks[metric])
        if not values:
            continue
        ticks = nice_ticks(min(values), max(values), 4)
        first, last = ticks[0], ticks[-1]

        def across(value: float, x0: float = x0, first: float = first, last: float = last) -> float:
            return x0 + panel * (value - first) / (last - first)

        parts.append(f'<text class="title" x="{x0}" y="16">{escape(metric)}</text>')
        for tick in ticks:
            x = across(tick)
            parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{height - 24}"/>')
            parts.append(
                f'<text class="tick" x="{x:.1f}" y="{height - 8}" text-anchor="middle">{tick:.3g}</text>'
            )
        if metric in marks:
            x = across(marks[metric])
            parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{top - 4}" y2="{height - 24}"/>')
        for place, row in enumerate(rows):
            if metric not in row.cells:
                continue
            points, low, high = row.cells[metric]
            y = top + step * place + step / 2
            colour = "ours" if row.ours else "theirs"
            shown = ", ".join(f"{point:.3f}" for point in points)
            parts.append(
                f'<g class="{colour}"><title>{escape(row.label)} {escape(metric)} {shown} ({low:.3f} to {high:.3f})</title>'
                f'<line x1="{across(low):.1f}" x2="{across(high):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
            )
            parts += [f'<circle cx="{across(point):.1f}" cy="{y:.1f}" r="4"/>' for point in points]
            parts.append("</g>")
    return _svg(WIDTH, height, parts)


def line_plot(lines: Sequence[Line], x_name: str, y_name: str, width: int = 528, height: int = 300) -> str:
    """Lines over a common x axis with a legend below; each line is drawn through at most 160 of its points' means."""
    left, right, top = 46, 14, 26
    columns = 2
    legend_rows = math.ceil(len(lines) / columns)
    bottom = height
    total = height + 22 + 20 * legend_rows
    drawn = [(line, thinned(line.points) if not line.intervals else line.points) for line in lines]
    xs = [x for _, points in drawn for x, _ in points]
    ys = [y for _, points in drawn for _, y in points]
    ys += [bound for line in lines for interval in line.intervals for bound in interval]
    y_ticks = nice_ticks(min(ys), max(ys), 5)
    low_x, high_x = min(xs), max(xs)
    x_ticks = [tick for tick in nice_ticks(low_x, high_x, 5) if low_x <= tick <= high_x]

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - low_x) / ((high_x - low_x) or 1)
        up = (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return left + (width - left - right) * across, bottom - 24 - (bottom - 24 - top) * up

    parts = [f'<text class="title" x="{left}" y="14">{escape(y_name)}</text>']
    for tick in y_ticks:
        y = at(low_x, tick)[1]
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:.3g}</text>')
    for tick in x_ticks:
        x = at(tick, y_ticks[0])[0]
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{bottom - 6}" text-anchor="middle">{tick:,.5g}</text>'
        )
    parts.append(
        f'<text class="tick" x="{width - right}" y="{bottom + 10}" text-anchor="end">{escape(x_name)}</text>'
    )
    for number, (line, points) in enumerate(drawn):
        colour = SERIES[number % len(SERIES)]
        path = " ".join("{:.1f},{:.1f}".format(*at(x, y)) for x, y in points)
        parts.append(
            f'<polyline points="{path}" style="fill:none;stroke:{colour};stroke-width:2;stroke-linejoin:round"/>'
        )
        for (x, y), (low, high) in zip(line.points, line.intervals):
            px, py = at(x, y)
            parts.append(
                f'<line x1="{px:.1f}" x2="{px:.1f}" y1="{at(x, low)[1]:.1f}" y2="{at(x, high)[1]:.1f}" '
                f'style="stroke:{colour};stroke-width:2;opacity:.5"/><circle cx="{px:.1f}" cy="{py:.1f}" r="4" '
                f'style="fill:{colour}"/>'
            )
        x = left + (width - left) / columns * (number % columns)
        y = bottom + 26 + 20 * (number // columns)
        parts.append(f'<rect x="{x:.1f}" y="{y - 5}" width="16" height="4" rx="2" style="fill:{colour}"/>')
        parts.append(f'<text class="tick" x="{x + 23:.1f}" y="{y + 1}">{escape(line.label)}</text>')
    return _svg(width, total, parts)


def stacked_bars(rows: Sequence[tuple[str, Mapping[str, int]]], colours: Mapping[str, str]) -> str:
    """A bar per row that fills the width, parted by the shares of its counts in the order of `colours`."""
    left, step = 356, 34
    parts = []
    for place, (label, counts) in enumerate(rows):
        total = sum(counts.values()) or 1
        y = step * place
        parts.append(
            f'<text class="label" x="{left - 14}" y="{y + 20}" text-anchor="end">{escape(label)}</text>'
        )
        x: float = left
        for kind, colour in colours.items():
            share = counts.get(kind, 0) / total
            size = share * (WIDTH - left - 8)
            if not size:
                continue
            parts.append(
                f'<rect x="{x:.1f}" y="{y + 4}" width="{max(size - 2, 0.5):.1f}" height="24" rx="3" style="fill:{colour}">'
                f"<title>{escape(kind)}: {counts[kind]} of {total}</title></rect>"
            )
            if size > 44:
                parts.append(f'<text class="inside" x="{x + 8:.1f}" y="{y + 20}">{100 * share:.1f} %</text>')
            x += size
    return _svg(WIDTH, step * len(rows), parts)


def thinned(points: Sequence[tuple[float, float]], most: int = 160) -> list[tuple[float, float]]:
    """At most `most` points: means over neighbours."""
    size = math.ceil(len(points) / most)
    if size <= 1:
        return list(points)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]


def nice_ticks(low: float, high: float, most: int) -> list[float]:
    """Round values in equal steps that enclose [low, high], about `most` of them and at least two."""
    if high <= low:
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    rough = (high - low) / most
    unit = 10 ** math.floor(math.log10(rough))
    step = next(factor * unit for factor in (1, 2, 2.5, 5, 10) if factor * unit >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 10) for number in range(first, max(last, first + 1) + 1)]


def _svg(width: float, height: float, parts: Sequence[str]) -> str:
    return f'<svg class="plot" viewBox="0 0 {width} {height:.0f}" role="img">{"".join(parts)}</svg>'
