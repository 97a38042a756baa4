"""The report's section about a reader's answers: table, tests, and risk against coverage as one inline drawing."""

from __future__ import annotations

from html import escape

import numpy as np

from gemkr.evaluation.answer_evaluation import AnswerEvaluation
from gemkr.evaluation.report.page import Row, results_table
from gemkr.evaluation.report.table import number
from gemkr.evaluation.risk import RiskCoverage

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 560, 260, 44, 34, 10
POINTS = 200
COLOURS = ("#2563eb", "#d97706", "#059669", "#b91c1c", "#7c3aed", "#475569")


def answers_section(found: AnswerEvaluation) -> str:
    """HTML of the section; texts are escaped."""
    table = results_table([Row.of(name, scores) for name, scores in found.rows.items()])
    notes = [f"{found.describe}."]
    for name, by_metric in found.tests.items():
        parts = [f"{m} {t.difference:+.3f} (p = {t.p_value:.4f})" for m, t in by_metric.items()]
        notes.append(f"From {found.main} against {name}, paired randomization test: {', '.join(parts)}.")
    notes += [f"{name}: {each}." for name, each in found.abstention.items()]
    listed = "".join(f"<li>{escape(note)}</li>" for note in notes)
    curves = {name: each.curve for name, each in found.abstention.items()}
    return (
        f'<section><h2>Answers</h2><div class="scroll">{table}</div>{risk_drawing(curves)}'
        f'<ul class="notes">{listed}</ul></section>'
    )


def risk_drawing(curves: dict[str, RiskCoverage]) -> str:
    """An SVG of several curves over one pair of axes: coverage to the right, risk upwards."""
    most = max(float(curve.risk.max()) for curve in curves.values()) or 1.0
    across, up = WIDTH - LEFT - 10, HEIGHT - TOP - BOTTOM

    def place(coverage: float, risk: float) -> str:
        return f"{LEFT + coverage * across:.1f},{TOP + (1 - risk / most) * up:.1f}"

    parts = [
        f'<path d="M{place(0, most)} L{place(0, 0)} L{place(1, 0)}" fill="none" stroke="currentColor"/>',
        _label(
            LEFT + across / 2, HEIGHT - 4, "share of questions answered, the most confident first", "middle"
        ),
        _label(LEFT - 4, TOP + 9, number(most), "end"),
        _label(LEFT - 4, TOP + up, "0", "end"),
        _label(LEFT + 4, TOP + 9, "risk", "start"),
    ]
    for place_in_list, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[place_in_list % len(COLOURS)]
        shown = np.unique(
            np.linspace(0, len(curve.risk) - 1, min(len(curve.risk), POINTS)).round().astype(int)
        )
        points = " ".join(place(float(curve.coverage[i]), float(curve.risk[i])) for i in shown)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        text = f"{name}: area {number(curve.aurc)}"
        parts.append(_label(WIDTH - 12, TOP + up - 8 - 15 * place_in_list, text, "end", colour))
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" aria-label="risk against coverage">'
        f"{''.join(parts)}</svg>"
    )


def _label(x: float, y: float, text: str, anchor: str, colour: str = "currentColor") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="12" fill="{colour}" text-anchor="{anchor}">{escape(text)}</text>'
