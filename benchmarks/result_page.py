"""The page of results: a table of all rows with intervals, plots, what the errors are made of, and where it all comes from.

One HTML file without anything outside of it, in the style of the evaluation report. Knows what results.yaml holds and
nothing of how it came to be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from result_errors import CLUES, KINDS, ErrorAnalysis, Example
from result_plots import DotRow, Line, dot_plot, line_plot, stacked_bars

from gemkr.evaluation.files import write_atomically

SHOWN = ("P@5", "S@1", "S@5", "S@10", "D@10", "R@1", "R@5", "R@20")
OF_A_MODEL = ("generative", "free_text", "random_in_span", "coverage_alone")
PLOTTED = (("P@5", "S@5", "S@10"), ("R@1", "R@5", "R@20"))
COLOURS = {
    "answered": "var(--good)",
    "clue_without_document": "var(--fair)",
    "answer_never_seen": "#8a93a3",
    "other": "var(--bad)",
}
TITLES = {
    "answered": "Answered",
    "clue_without_document": "Right clue, no document",
    "answer_never_seen": "Answer never seen in training",
    "other": "Other clues",
}
STYLE = """
main { max-width: 1168px; } .sub { max-width: none; }
.sheet { background: var(--sheet); border: 1px solid var(--line); border-radius: 12px; padding: 20px 24px; margin-bottom: 16px; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 16px; } .pair .sheet { margin: 0; }
svg.plot { display: block; width: 100%; height: auto; font: 13px system-ui, sans-serif; } .pair > :only-child { grid-column: 1 / -1; max-width: 760px; }
svg.plot text { fill: var(--ink); stroke: none; font-weight: 400; } svg.plot .tick { fill: var(--soft); font-size: 11.5px; } svg.plot .title { font-weight: 650; }
svg.plot .label { fill: var(--soft); } svg.plot .label.ours { fill: var(--ink); font-weight: 600; }
svg.plot .inside { fill: #fff; font-weight: 600; font-size: 12px; }
svg.plot .grid { stroke: var(--line); } svg.plot .band { fill: var(--paper); opacity: .65; }
svg.plot .mark { stroke: var(--bad); stroke-dasharray: 4 4; }
svg.plot .ours line, svg.plot .theirs line { stroke-width: 3; stroke-linecap: round; opacity: .45; }
svg.plot .ours line { stroke: var(--accent); } svg.plot .ours circle { fill: var(--accent); stroke: var(--sheet); }
svg.plot .theirs line { stroke: #8a93a3; } svg.plot .theirs circle { fill: #8a93a3; stroke: var(--sheet); }
h3 { font-size: 16px; margin: 0 0 12px; } h3 small { font-weight: 400; margin-left: 8px; }
td small { display: block; } tr.head th { text-align: left; background: var(--paper); white-space: normal; }
tr.head small { margin-left: 8px; font-weight: 400; } th[scope=row] { padding-left: 28px; }
.key { display: flex; flex-wrap: wrap; gap: 6px 22px; color: var(--soft); font-size: 13px; margin: 14px 0 0; padding: 0; list-style: none; }
.key i { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 7px; }
.examples { display: grid; grid-template-columns: 1fr 1fr; gap: 14px; }
.example { background: var(--sheet); border: 1px solid var(--line); border-top: 3px solid; border-radius: 10px; padding: 14px 18px; }
.example p { margin: 0 0 8px; } .example .q { font: 600 16px/1.35 Georgia, serif; }
.example .said span { display: inline-block; border-radius: 99px; padding: 1px 9px; margin: 0 4px 4px 0; background: var(--paper); font-size: 13px; }
.example .said .right { background: var(--good-soft); color: var(--good); font-weight: 600; }
.example ol { margin: 0; padding-left: 20px; font-size: 13px; color: var(--soft); } .example li.right { color: var(--good); }
details { margin: 6px 0; } summary { cursor: pointer; font-weight: 600; } dl { display: grid; grid-template-columns: 130px 1fr; gap: 3px 14px; font-size: 13px; margin: 8px 0 14px; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 820px) { .pair, .examples { grid-template-columns: 1fr; } }
"""


@dataclass(frozen=True, slots=True)
class Curve:
    """A learning curve: the training's name, what is drawn (training or held-out loss), and (step, value) points."""

    name: str
    title: str
    points: tuple[tuple[float, float], ...]


def write_page(
    path: Path,
    results: Mapping[str, Mapping[str, Any]],
    groups: Mapping[str, Mapping[str, Any]],
    analyses: Mapping[str, ErrorAnalysis],
    curves: Sequence[Curve],
    commit: str,
) -> None:
    """Write the page; DataError when the file cannot be written."""
    parts = [
        f"<header><p class=brand>gemkr</p><h1>Results</h1><p class=sub>{len(results)} evaluations, collected at commit "
        f"{escape(commit) or 'unknown'}. Means with 95 % bootstrap intervals over queries.</p>{_tiles(groups)}</header>",
        *_plots(results),
        _seeds(groups),
        _against(results),
        _over_x(results),
        _learning(curves),
        *(_errors(name, analysis) for name, analysis in analyses.items()),
        f"<section><h2>All figures</h2><div class=scroll>{_table(results)}</div></section>",
        _tests(results),
        _provenance(results),
    ]
    style = files("gemkr.evaluation").joinpath("templates", "report.css").read_text(encoding="utf-8")
    write_atomically(
        path,
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width, initial-scale=1"><title>gemkr: results</title><style>{style}{STYLE}</style></head>'
        f"<body><main>{''.join(parts)}</main></body></html>\n",
    )


def depends_on_model(retriever: str) -> bool:
    """Whether a row's figures are the model's own, and not those of an opponent."""
    return retriever in OF_A_MODEL or retriever.startswith("rescored_")


def row_label(name: str, result: Mapping[str, Any], retriever: str) -> str:
    """How a row is called beside rows of other evaluations."""
    if not depends_on_model(retriever):
        return retriever
    return name if retriever == result["retriever"] else f"{name}, {retriever}"


def datasets(results: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Mapping[str, Any]]]:
    """Evaluations parted by what makes figures comparable: queries, corpus, relevance and limit."""
    parted: dict[tuple, dict[str, Mapping[str, Any]]] = {}
    for name, result in results.items():
        key = (
            result["queries"]["sha256"],
            result["corpus"]["sha256"],
            result["relevance"],
            result.get("limit"),
        )
        parted.setdefault(key, {})[name] = result
    return list(parted.values())


def dot_rows(results: Mapping[str, Mapping[str, Any]]) -> list[DotRow]:
    """A row per retriever, ours first and each opponent once, best first in the first metric.

    Of several seeds only the first shows its other rows.
    """
    rows: dict[str, DotRow] = {}
    for name, result in results.items():
        for retriever, cells in result["rows"].items():
            own = depends_on_model(retriever)
            if own and retriever != result["retriever"] and result.get("seed"):
                continue
            label = row_label(name, result, retriever)
            values = {m: ((cell["mean"],), cell["low"], cell["high"]) for m, cell in cells.items()}
            rows.setdefault(label, DotRow(label, values, own))
    return sorted(rows.values(), key=lambda row: -next(iter(row.cells.values()))[0][0])


def _tiles(groups: Mapping[str, Mapping[str, Any]]) -> str:
    """The means over seeds of the first group's first retriever, as large figures."""
    for spread in groups.values():
        for cells in spread["rows"].values():
            tiles = "".join(
                f'<div class="tile"><b>{cell["mean"]:.3f}</b><span>{escape(metric)}</span>'
                f"<small>± {cell['deviation']:.3f} over {len(spread['members'])} seeds</small></div>"
                for metric, cell in cells.items()
                if not metric.startswith("D@")
            )
            return f'<div class="tiles">{tiles}</div>'
    return ""


def _plots(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    sections = []
    for members in datasets(results):
        rows = dot_rows(members)
        metrics = [m for names in PLOTTED for m in names if any(m in row.cells for row in rows)][:3]
        if len(rows) < 2 or not metrics:
            continue
        theirs = [row for row in rows if not row.ours]
        marks = {}
        for metric in metrics:
            values = [row.cells[metric][0][0] for row in theirs if metric in row.cells]
            if values and len(theirs) < len(rows):
                marks[metric] = max(values)
        first = next(iter(members.values()))
        count = f"{first['queries']['count']:,} queries"
        about = f"{count} of {Path(first['queries']['file']).name} over {Path(first['corpus']['file']).name}; {first['relevance']}"
        dashed = '<li><i style="background:var(--bad)"></i>best opponent</li>' if marks else ""
        sections.append(
            f"<section><h2>{escape(Path(first['queries']['file']).stem)} over {escape(Path(first['corpus']['file']).name)}</h2>"
            f'<div class="sheet"><h3>Retrievers with 95 % intervals<small>{escape(about)}</small></h3>'
            f"{dot_plot(rows, metrics, marks)}<ul class=key><li><i style='background:var(--accent)'></i>our model</li>"
            f"<li><i style='background:#8a93a3'></i>opponents</li>{dashed}</ul></div></section>"
        )
    return sections


def _seeds(groups: Mapping[str, Mapping[str, Any]]) -> str:
    parts = []
    for group, spread in groups.items():
        if len(spread["members"]) < 2:
            continue
        rows = []
        for retriever, cells in spread["rows"].items():
            values = {}
            for metric, cell in cells.items():
                seeds = tuple(cell["values"])
                values[metric] = (seeds, cell["mean"] - cell["deviation"], cell["mean"] + cell["deviation"])
            rows.append(DotRow(retriever, values, depends_on_model(retriever)))
        metrics = [m for names in PLOTTED for m in names if any(m in row.cells for row in rows)][:3]
        parts.append(
            f'<div class="sheet"><h3>{escape(group)}<small>a point for each of {len(spread["members"])} seeds, a line '
            f"over mean ± one standard deviation</small></h3>{dot_plot(rows, metrics)}</div>"
        )
    return f"<section><h2>Spread over seeds</h2>{''.join(parts)}</section>" if parts else ""


def _against(results: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for name, result in results.items():
        pair = result.get("against")
        if not pair:
            continue
        note = f"{pair['queries']:,} queries over {Path(result['corpus']['file']).name}, against {pair['of']}"
        cells = "".join(_difference(pair["tests"].get(metric)) for metric in PLOTTED[0])
        rows.append(f'<tr><th scope="row">{escape(name)}<small>{escape(note)}</small></th>{cells}</tr>')
    if not rows:
        return ""
    head = "".join(f"<th>{metric}</th>" for metric in PLOTTED[0])
    return (
        "<section><h2>Query by query against another run</h2><div class=scroll><table><thead><tr><th></th>"
        f"{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _difference(test: Mapping[str, float] | None) -> str:
    if test is None:
        return "<td>&ndash;</td>"
    return (
        f"<td>{test['mean']:.3f} &nbsp;<b>{test['difference']:+.3f}</b><small>from {test['base']:.3f}; "
        f"{test['low']:+.3f} to {test['high']:+.3f}, p {_p(test['p_value'])}</small></td>"
    )


def _over_x(results: Mapping[str, Mapping[str, Any]]) -> str:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for result in results.values():
        if result.get("group") and result.get("x") is not None:
            groups.setdefault(result["group"], []).append(result)
    parts = []
    for group, members in groups.items():
        members = sorted(members, key=lambda result: result["x"])
        cells = [(result["x"], result["rows"][result["retriever"]]) for result in members]
        lines = [
            Line(
                metric,
                tuple((x, row[metric]["mean"]) for x, row in cells if metric in row),
                tuple((row[metric]["low"], row[metric]["high"]) for _, row in cells if metric in row),
            )
            for names in PLOTTED
            for metric in names
            if any(metric in row for _, row in cells)
        ]
        if len(members) > 1 and lines:
            parts.append(
                f'<div class="sheet"><h3>{escape(group)}</h3>{line_plot(lines, group, "share")}</div>'
            )
    return f'<section><h2>Curves</h2><div class="pair">{"".join(parts)}</div></section>' if parts else ""


def _learning(curves: Sequence[Curve]) -> str:
    titles = dict.fromkeys(curve.title for curve in curves)
    parts = []
    for title in titles:
        lines = [Line(curve.name, curve.points) for curve in curves if curve.title == title]
        parts.append(f'<div class="sheet">{line_plot(lines, "steps", title + ", nats per token")}</div>')
    return (
        f'<section><h2>Learning curves</h2><div class="pair">{"".join(parts)}</div></section>'
        if parts
        else ""
    )


def _errors(name: str, analysis: ErrorAnalysis) -> str:
    types = sorted(analysis.by_type.items(), key=lambda pair: -sum(pair[1].values()))
    rows = [(f"all {analysis.queries:,} questions", analysis.counts)]
    rows += [(f"{kind} ({sum(counts.values()):,})", counts) for kind, counts in types if len(types) > 1]
    key = "".join(
        f'<li><i style="background:{COLOURS[kind]}"></i><b>{TITLES[kind]}</b> ({analysis.counts[kind]:,}): {escape(text)}</li>'
        for kind, text in KINDS.items()
    )
    examples = "".join(
        f"<h3>{TITLES[kind]}</h3><div class=examples>{''.join(_example(e, COLOURS[kind]) for e in found)}</div><br>"
        for kind, found in analysis.examples.items()
        if found
    )
    return (
        f"<section><h2>What the errors of {escape(name)} are made of</h2><div class='sheet'>"
        f"{stacked_bars(rows, COLOURS)}<ul class=key>{key}</ul></div><p class=sub>In all {analysis.never_seen:,} questions "
        f"have no answer that any training question has, answered or not; {analysis.by_chance:,} of the answered ones have no "
        f"answer among their {CLUES} most probable clues: the document held one all the same. Examples drawn at random; "
        f"clues with the model's probability (at most {CLUES}), the first documents with some words around the evidence.</p><br>{examples}</section>"
    )


def _example(example: Example, colour: str) -> str:
    clues = "".join(
        f"<span{' class=right' if right else ''}>{escape(text)} {100 * probability:.1f} %</span>"
        for text, probability, right in example.clues
    )
    documents = "".join(
        f"<li{' class=right' if right else ''}><b>{escape(doc_id)}</b> {escape(text)}</li>"
        for doc_id, text, right in example.documents
    )
    about = " · ".join(part for part in (example.caption, example.question_type) if part)
    return (
        f'<article class="example" style="border-top-color:{colour}"><p class="q">{escape(example.question)}</p>'
        f"<p><small>{escape(about)}</small></p><p>Answers: <b>{escape(', '.join(example.answers))}</b></p>"
        f'<p class="said">{clues}</p><ol>{documents}</ol></article>'
    )


def _table(results: Mapping[str, Mapping[str, Any]]) -> str:
    metrics = [m for m in SHOWN if any(m in row for r in results.values() for row in r["rows"].values())]
    head = "".join(f"<th>{escape(metric)}</th>" for metric in metrics)
    body = []
    for name, result in results.items():
        clues = result.get("clues")
        told = [f"{result['queries']['count']:,} queries over {Path(result['corpus']['file']).name}"]
        if clues:
            told.append(f"{100 * clues['hold_answer']:.1f} % of the clues hold an answer")
        if result.get("note"):
            told.append(result["note"])
        about = f"<small>{escape('; '.join(told))}</small>"
        body.append(f'<tr class="head"><th colspan="{len(metrics) + 1}">{escape(name)}{about}</th></tr>')
        for retriever, row in result["rows"].items():
            cells = "".join(_cell(row.get(metric)) for metric in metrics)
            ours = ' class="ours"' if retriever == result["retriever"] else ""
            body.append(f'<tr{ours}><th scope="row">{escape(retriever)}</th>{cells}</tr>')
    return f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _cell(cell: Mapping[str, float] | None) -> str:
    if cell is None:
        return "<td>&ndash;</td>"
    return f"<td>{cell['mean']:.3f}<small>{cell['low']:.3f} to {cell['high']:.3f}</small></td>"


def _tests(results: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for name, result in results.items():
        for other, tests in result.get("tests", {}).items():
            for metric in ("P@5", "S@5", "S@10", "R@1", "R@5", "R@20"):
                if metric in tests:
                    t = tests[metric]
                    rows.append(
                        f'<tr><th scope="row">{escape(name)}, {escape(result["retriever"])}</th><td>{escape(other)}</td>'
                        f"<td>{metric}</td><td>{t['difference']:+.3f}</td><td>{t['low']:+.3f} to {t['high']:+.3f}</td>"
                        f"<td>{_p(t['p_value'])}</td></tr>"
                    )
    if not rows:
        return ""
    head = (
        "<tr><th></th><th>against</th><th>metric</th><th>difference</th><th>95 % interval</th><th>p</th></tr>"
    )
    return (
        "<section><h2>Paired randomization tests</h2><details><summary>"
        f"{len(rows)} comparisons</summary><div class=scroll><table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table></div>"
        "</details></section>"
    )


def _p(value: float) -> str:
    return "≤ 0.0001" if value <= 0.0001 else f"{value:.4f}"


def _provenance(results: Mapping[str, Mapping[str, Any]]) -> str:
    parts = []
    for name, result in results.items():
        facts = {
            "command": result["command"],
            "date": result["date"],
            "commit": f"{result['commit']['newest']} (collected at {result['commit']['collected']})",
            "queries": f"{result['queries']['file']} sha256 {result['queries']['sha256']}",
            "corpus": f"{result['corpus']['file']} sha256 {result['corpus']['sha256']}",
            "seconds": ", ".join(f"{what} {value:,.0f}" for what, value in result["seconds"].items()),
        }
        rows = "".join(f"<dt>{key}</dt><dd>{escape(str(value))}</dd>" for key, value in facts.items())
        parts.append(f"<details><summary>{escape(name)}</summary><dl>{rows}</dl></details>")
    return f"<section><h2>Where the figures come from</h2>{''.join(parts)}</section>"
