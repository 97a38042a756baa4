"""Scores as an aligned text table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from gemkr.evaluation.groups import GroupedScores
from gemkr.evaluation.metrics import Scores
from gemkr.evaluation.significance import PairedTest


def text_table(rows: Mapping[str, Scores]) -> str:
    """One line per run: the mean and half the width of its 95 % interval, for each metric."""
    metrics = list(dict.fromkeys(name for scores in rows.values() for name in scores.values))
    lines = [["", *metrics, "queries"]]
    for label, scores in rows.items():
        cells = []
        for name in metrics:
            low, high = scores.interval(name)
            cells.append(f"{number(scores.mean(name))} ±{number((high - low) / 2)}")
        lines.append([label, *cells, f"{len(scores.query_ids):,}"])
    return _aligned(lines)


def text_comparison(tests: Mapping[str, PairedTest], ours: str, theirs: str) -> str:
    """One line per metric: the difference ours - theirs, its interval, the p value, queries better and worse."""
    lines = [[f"{ours} - {theirs}", "difference", "95 % interval", "p", "better", "worse"]]
    for name, test in tests.items():
        interval = f"{test.low:+.3f} {test.high:+.3f}"
        p = f"{test.p_value:.4f}"
        lines.append([name, f"{test.difference:+.3f}", interval, p, f"{test.better:,}", f"{test.worse:,}"])
    return _aligned(lines)


def text_groups(name: str, found: GroupedScores) -> str:
    """One line per data set and per group of them: the means of each metric, over how many queries or sets."""
    first, *_ = found.sets.values()
    lines = [[f"{name} by data set", *first.values, ""]]
    for label, means in found.sets.items():
        lines.append([label, *map(number, means.values.values()), f"{means.count:,} queries"])
    for label, means in found.groups.items():
        missing = "" if means.count == means.wanted else f" of {means.wanted}"
        lines.append([label, *map(number, means.values.values()), f"{means.count}{missing} sets"])
    return _aligned(lines)


def number(value: float) -> str:
    """.195, 1.000, 9.87: three decimals below 1, no leading zero."""
    if abs(value) >= 1:
        return f"{value:.2f}" if abs(value) > 1.0005 else "1.000"
    return f"{value:.3f}".replace("0.", ".", 1)


def _aligned(lines: list[list[str]]) -> str:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths))
        ).rstrip()
        for line in lines
    )
