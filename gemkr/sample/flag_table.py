"""The table of flags: country -> (aspect ratio, shapes from back to front, outline or None).

A shape is the name of a drawing method of `flags.py` with its arguments; a last dict holds keyword arguments.
"""

from __future__ import annotations

from typing import Any

Shape = tuple[Any, ...]
Specification = tuple[float, tuple[Shape, ...], tuple[tuple[float, float], ...] | None]


def _flag(*shapes: Shape, aspect: float = 1.5, outline: Any = None) -> Specification:
    return aspect, shapes, outline


def _nordic(ground: str, cross: str, inner: str | None = None) -> Specification:
    shapes: list[Shape] = [("rows", ground), ("cross", 0.37, 0.5, 0.28 if inner else 0.22, cross)]
    if inner:
        shapes.append(("cross", 0.37, 0.5, 0.14, inner))
    return _flag(*shapes)


def _union(x1: float, y1: float) -> tuple[Shape, ...]:
    """A union flag in the upper left corner."""
    return (
        ("box", 0, 0, x1, y1, "navy"),
        ("line", 0, 0, x1, y1, 0.1, "white"),
        ("line", 0, y1, x1, 0, 0.1, "white"),
        ("box", 0, y1 * 0.32, x1, y1 * 0.68, "white"),
        ("box", x1 * 0.38, 0, x1 * 0.62, y1, "white"),
        ("box", 0, y1 * 0.4, x1, y1 * 0.6, "red"),
        ("box", x1 * 0.44, 0, x1 * 0.56, y1, "red"),
    )


FLAGS: dict[str, Specification] = {
    "Albania": _flag(
        ("rows", "red"),
        ("star", 0.5, 0.5, 0.36, "black", 8, 0.55),
        ("box", 0.46, 0.16, 0.54, 0.9, "black"),
        aspect=1.4,
    ),
    "Algeria": _flag(
        ("columns", "green", "white"),
        ("ring", 0.5, 0.5, 0.26, 0.09, "red"),
        ("star", 0.56, 0.5, 0.14, "red"),
    ),
    "Argentina": _flag(("rows", "sky", "white", "sky"), ("disc", 0.5, 0.5, 0.12, "yellow"), aspect=1.6),
    "Australia": _flag(
        ("rows", "navy"),
        *_union(0.5, 0.5),
        ("star", 0.25, 0.76, 0.15, "white", 7),
        ("star", 0.75, 0.2, 0.09, "white", 7),
        ("star", 0.75, 0.8, 0.09, "white", 7),
        ("star", 0.62, 0.45, 0.09, "white", 7),
        ("star", 0.87, 0.4, 0.09, "white", 7),
        aspect=1.8,
    ),
    "Austria": _flag(("rows", "red", "white", "red")),
    "Bangladesh": _flag(("rows", "green"), ("disc", 0.45, 0.5, 0.3, "red"), aspect=1.6),
    "Belgium": _flag(("columns", "black", "yellow", "red"), aspect=1.2),
    "Bhutan": _flag(
        ("polygon", [(0, 0), (1, 0), (0, 1)], "yellow"),
        ("polygon", [(1, 0), (1, 1), (0, 1)], "orange"),
        ("line", 0.22, 0.8, 0.78, 0.2, 0.2, "white"),
    ),
    "Bolivia": _flag(("rows", "red", "yellow", "green")),
    "Brazil": _flag(
        ("rows", "green"),
        ("polygon", [(0.5, 0.08), (0.93, 0.5), (0.5, 0.92), (0.07, 0.5)], "yellow"),
        ("disc", 0.5, 0.5, 0.24, "blue"),
        aspect=1.45,
    ),
    "Bulgaria": _flag(("rows", "white", "green", "red"), aspect=1.6),
    "Cameroon": _flag(("columns", "green", "red", "yellow"), ("star", 0.5, 0.5, 0.18, "yellow")),
    "Canada": _flag(
        ("columns", "red", "white", "red", {"shares": (1, 2, 1)}),
        ("star", 0.5, 0.48, 0.34, "red", 6, 0.5),
        ("box", 0.48, 0.6, 0.52, 0.88, "red"),
        aspect=1.8,
    ),
    "Chile": _flag(
        ("rows", "white", "red"), ("box", 0, 0, 0.34, 0.5, "blue"), ("star", 0.17, 0.25, 0.17, "white")
    ),
    "China": _flag(
        ("rows", "red"),
        ("star", 0.19, 0.27, 0.2, "yellow"),
        ("star", 0.38, 0.12, 0.07, "yellow"),
        ("star", 0.44, 0.26, 0.07, "yellow"),
        ("star", 0.44, 0.42, 0.07, "yellow"),
        ("star", 0.38, 0.55, 0.07, "yellow"),
    ),
    "Colombia": _flag(("rows", "yellow", "blue", "red", {"shares": (2, 1, 1)})),
    "Cuba": _flag(
        ("rows", "blue", "white", "blue", "white", "blue"),
        ("triangle", 0.45, "red"),
        ("star", 0.15, 0.5, 0.14, "white"),
        aspect=1.8,
    ),
    "Czechia": _flag(("rows", "white", "red"), ("triangle", 0.5, "blue")),
    "Denmark": _nordic("red", "white"),
    "Egypt": _flag(("rows", "red", "white", "black"), ("star", 0.5, 0.5, 0.15, "brown", 6, 0.6)),
    "Estonia": _flag(("rows", "cyan", "black", "white"), aspect=1.55),
    "Ethiopia": _flag(
        ("rows", "green", "yellow", "red"),
        ("disc", 0.5, 0.5, 0.28, "blue"),
        ("star", 0.5, 0.5, 0.22, "yellow", 5, 0.4),
        aspect=1.7,
    ),
    "Finland": _nordic("white", "navy"),
    "France": _flag(("columns", "blue", "white", "red")),
    "Georgia": _flag(
        ("rows", "white"),
        ("cross", 0.5, 0.5, 0.2, "red"),
        *[("box", x - 0.06, y - 0.09, x + 0.06, y + 0.09, "red") for x in (0.22, 0.78) for y in (0.2, 0.8)],
    ),
    "Germany": _flag(("rows", "black", "red", "yellow")),
    "Ghana": _flag(("rows", "red", "yellow", "green"), ("star", 0.5, 0.5, 0.2, "black")),
    "Greece": _flag(
        ("rows", *("blue", "white") * 4, "blue"),
        ("box", 0, 0, 0.37, 5 / 9, "blue"),
        ("box", 0, 2 / 9, 0.37, 3 / 9, "white"),
        ("box", 0.148, 0, 0.222, 5 / 9, "white"),
    ),
    "Guatemala": _flag(
        ("columns", "sky", "white", "sky"), ("ring", 0.5, 0.5, 0.15, 0.06, "green"), aspect=1.6
    ),
    "Hungary": _flag(("rows", "red", "white", "green"), aspect=1.7),
    "Iceland": _nordic("blue", "white", "red"),
    "India": _flag(("rows", "orange", "white", "green"), ("ring", 0.5, 0.5, 0.15, 0.06, "navy")),
    "Indonesia": _flag(("rows", "red", "white")),
    "Ireland": _flag(("columns", "green", "white", "orange"), aspect=1.8),
    "Italy": _flag(("columns", "green", "white", "red")),
    "Jamaica": _flag(
        ("rows", "green"),
        ("polygon", [(0, 0), (0.5, 0.5), (0, 1)], "black"),
        ("polygon", [(1, 0), (0.5, 0.5), (1, 1)], "black"),
        ("line", 0, 0, 1, 1, 0.18, "yellow"),
        ("line", 0, 1, 1, 0, 0.18, "yellow"),
        aspect=1.7,
    ),
    "Japan": _flag(("rows", "white"), ("disc", 0.5, 0.5, 0.3, "red")),
    "Jordan": _flag(
        ("rows", "black", "white", "green"),
        ("triangle", 0.5, "red"),
        ("star", 0.15, 0.5, 0.09, "white", 7),
        aspect=1.7,
    ),
    "Kazakhstan": _flag(
        ("rows", "cyan"),
        ("star", 0.52, 0.42, 0.3, "yellow", 12, 0.7),
        ("line", 0.3, 0.8, 0.74, 0.8, 0.1, "yellow"),
        ("box", 0.03, 0, 0.09, 1, "yellow"),
        aspect=1.7,
    ),
    "Kenya": _flag(
        ("rows", "black", "white", "red", "white", "green", {"shares": (6, 1, 6, 1, 6)}),
        ("polygon", [(0.5, 0.12), (0.6, 0.5), (0.5, 0.88), (0.4, 0.5)], "dark red"),
        ("line", 0.5, 0.2, 0.5, 0.8, 0.05, "white"),
    ),
    "Laos": _flag(("rows", "red", "blue", "red", {"shares": (1, 2, 1)}), ("disc", 0.5, 0.5, 0.2, "white")),
    "Lebanon": _flag(
        ("rows", "red", "white", "red", {"shares": (1, 2, 1)}),
        ("polygon", [(0.5, 0.27), (0.62, 0.66), (0.38, 0.66)], "green"),
        ("box", 0.48, 0.6, 0.52, 0.74, "green"),
    ),
    "Lithuania": _flag(("rows", "yellow", "green", "red"), aspect=1.65),
    "Madagascar": _flag(("rows", "red", "green"), ("box", 0, 0, 0.34, 1, "white")),
    "Malaysia": _flag(
        ("rows", *("red", "white") * 5),
        ("box", 0, 0, 0.5, 0.6, "navy"),
        ("crescent", 0.2, 0.3, 0.2, "yellow", "navy"),
        ("star", 0.34, 0.3, 0.14, "yellow", 9, 0.55),
        aspect=1.8,
    ),
    "Mauritius": _flag(("rows", "red", "blue", "yellow", "green")),
    "Mongolia": _flag(
        ("columns", "red", "blue", "red"),
        ("box", 0.09, 0.35, 0.13, 0.85, "yellow"),
        ("box", 0.2, 0.35, 0.24, 0.85, "yellow"),
        ("disc", 0.165, 0.3, 0.12, "yellow"),
        aspect=1.8,
    ),
    "Morocco": _flag(("rows", "red"), ("star", 0.5, 0.5, 0.32, "green", 5, 0.34)),
    "Namibia": _flag(
        ("polygon", [(0, 0), (1, 0), (0, 1)], "blue"),
        ("polygon", [(1, 0), (1, 1), (0, 1)], "green"),
        ("line", 0, 1, 1, 0, 0.42, "white"),
        ("line", 0, 1, 1, 0, 0.3, "red"),
        ("star", 0.2, 0.28, 0.17, "yellow", 12, 0.6),
    ),
    "Nepal": _flag(
        ("rows", "blue"),
        ("polygon", [(0.07, 0.09), (0.82, 0.5), (0.4, 0.52), (0.88, 0.94), (0.07, 0.94)], "red"),
        ("disc", 0.32, 0.36, 0.09, "white"),
        ("star", 0.32, 0.72, 0.12, "white", 8, 0.6),
        aspect=0.85,
        outline=((0, 0), (0.95, 0.55), (0.5, 0.56), (1, 1), (0, 1)),
    ),
    "Nigeria": _flag(("columns", "green", "white", "green"), aspect=1.7),
    "Norway": _nordic("red", "white", "navy"),
    "Pakistan": _flag(
        ("rows", "green"),
        ("box", 0, 0, 0.25, 1, "white"),
        ("crescent", 0.6, 0.5, 0.3, "white", "green", 0.35),
        ("star", 0.72, 0.4, 0.11, "white"),
    ),
    "Panama": _flag(
        ("rows", "white"),
        ("box", 0.5, 0, 1, 0.5, "red"),
        ("box", 0, 0.5, 0.5, 1, "blue"),
        ("star", 0.25, 0.25, 0.17, "blue"),
        ("star", 0.75, 0.75, 0.17, "red"),
    ),
    "Peru": _flag(("columns", "red", "white", "red")),
    "Philippines": _flag(
        ("rows", "blue", "red"),
        ("triangle", 0.45, "white"),
        ("disc", 0.15, 0.5, 0.12, "yellow"),
        aspect=1.8,
    ),
    "Poland": _flag(("rows", "white", "red"), aspect=1.6),
    "Portugal": _flag(
        ("columns", "green", "red", {"shares": (2, 3)}),
        ("disc", 0.4, 0.5, 0.24, "yellow"),
        ("box", 0.35, 0.38, 0.45, 0.62, "white"),
    ),
    "Romania": _flag(("columns", "blue", "yellow", "red")),
    "Rwanda": _flag(
        ("rows", "sky", "yellow", "green", {"shares": (2, 1, 1)}),
        ("star", 0.8, 0.24, 0.18, "yellow", 12, 0.6),
    ),
    "Seychelles": _flag(
        ("rows", "green"),
        ("polygon", [(0, 1), (0, 0), (0.33, 0)], "blue"),
        ("polygon", [(0, 1), (0.33, 0), (0.67, 0)], "yellow"),
        ("polygon", [(0, 1), (0.67, 0), (1, 0), (1, 0.33)], "red"),
        ("polygon", [(0, 1), (1, 0.33), (1, 0.67)], "white"),
        aspect=1.8,
    ),
    "Spain": _flag(
        ("rows", "red", "yellow", "red", {"shares": (1, 2, 1)}), ("box", 0.24, 0.38, 0.38, 0.64, "dark red")
    ),
    "Sweden": _nordic("blue", "yellow"),
    "Switzerland": _flag(
        ("rows", "red"),
        ("box", 0.4, 0.18, 0.6, 0.82, "white"),
        ("box", 0.18, 0.4, 0.82, 0.6, "white"),
        aspect=1.0,
    ),
    "Tanzania": _flag(
        ("polygon", [(0, 0), (1, 0), (0, 1)], "light green"),
        ("polygon", [(1, 0), (1, 1), (0, 1)], "cyan"),
        ("line", 0, 1, 1, 0, 0.44, "yellow"),
        ("line", 0, 1, 1, 0, 0.3, "black"),
    ),
    "Thailand": _flag(("rows", "red", "white", "navy", "white", "red", {"shares": (1, 1, 2, 1, 1)})),
    "Tunisia": _flag(
        ("rows", "red"), ("disc", 0.5, 0.5, 0.32, "white"), ("crescent", 0.5, 0.5, 0.22, "red", "white", 0.35)
    ),
    "Turkey": _flag(
        ("rows", "red"), ("crescent", 0.38, 0.5, 0.3, "white", "red"), ("star", 0.64, 0.5, 0.15, "white")
    ),
    "Ukraine": _flag(("rows", "blue", "yellow")),
    "Uruguay": _flag(
        ("rows", *("white", "blue") * 4, "white"),
        ("box", 0, 0, 0.4, 5 / 9, "white"),
        ("star", 0.19, 0.27, 0.22, "yellow", 8, 0.6),
    ),
    "Vietnam": _flag(("rows", "red"), ("star", 0.5, 0.5, 0.34, "yellow")),
    "Zambia": _flag(
        ("rows", "light green"),
        ("box", 0.66, 0.36, 0.77, 1, "red"),
        ("box", 0.77, 0.36, 0.88, 1, "black"),
        ("box", 0.88, 0.36, 1, 1, "orange"),
        ("star", 0.83, 0.2, 0.15, "orange", 3, 0.4),
    ),
}
