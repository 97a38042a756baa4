"""The HTML report of an evaluation: its table, and the main retriever's answers query by query."""

from __future__ import annotations

from pathlib import Path

from gemkr.data.qrels import MATCHES
from gemkr.errors import VisionError
from gemkr.evaluation.evaluate import Evaluation
from gemkr.evaluation.report.answers import answers_section
from gemkr.evaluation.report.cards import Box, choose_queries, make_card
from gemkr.evaluation.report.matches import Explain, with_matches
from gemkr.evaluation.report.page import Row, write_report
from gemkr.retrievers.generative.config import GenerativeConfig
from gemkr.retrievers.late_interaction import LateInteractionRetriever
from gemkr.sources import Sources
from gemkr.text.index_tokenizer import tokenizer_of
from gemkr.text.tokenizer import Tokenizer
from gemkr.vision.store import RegionStore


def write_eval_report(path: Path, found: Evaluation) -> Path:
    """Write the report of an evaluation to `path`."""
    config, sources, judge, main = found.config, found.sources, found.relevance.judge, found.main
    result = found.results[main]
    qrels = judge.qrels(result.run)
    by_id = {query.query_id: query for query in sources.queries}
    right = {
        query_id: bool(ranking.hits) and qrels[query_id].get(ranking.hits[0].doc_id, 0) > 0
        for query_id, ranking in result.rankings.items()
        if query_id in qrels
    }
    tokenizer = _tokenizer(found) if any(ranking.clues for ranking in result.rankings.values()) else None
    match = judge.match if judge.match in MATCHES else "word"
    explain = _explain(found)
    cards = []
    for query_id in choose_queries(right, config.cards, seed=config.seed):
        query, ranking = by_id[query_id], result.rankings[query_id]
        shown = {hit.doc_id: sources.documents.by_id(hit.doc_id) for hit in ranking.hits}
        picture, boxes = _picture(query.image, sources)
        card = make_card(
            query,
            ranking,
            shown,
            qrels[query_id],
            tokenizer=tokenizer,
            match=match,
            picture=picture,
            boxes=boxes,
        )
        cards.append(with_matches(card, explain) if explain is not None else card)
    subtitle = (
        f"{len(right):,} queries of {Path(config.require('queries')).name} over {len(sources.documents):,} documents "
        f"of {Path(config.corpus).name}"
    )
    table = [Row.of(name, scores) for name, scores in found.rows.items()]
    notes = _notes(found, len(right), len(cards))
    sections = [] if found.answers is None else [answers_section(found.answers)]
    write_report(
        path,
        f"Retrieval with {main}",
        table,
        cards,
        found.seconds,
        notes,
        subtitle=subtitle,
        sections=sections,
    )
    return path


def _notes(found: Evaluation, queries: int, cards: int) -> list[str]:
    notes = [f"Means over {queries:,} queries with bootstrap 95 % intervals; {found.relevance.describe}."]
    metric = str(found.relevance.metrics[0])
    if found.clues is not None:
        notes.append(f"The model wrote {found.clues}.")
    for name, grouped in found.grouped.items():
        of_groups = (
            f"{group} {means.values[metric]:.3f} ({means.count} of {means.wanted})"
            for group, means in grouped.groups.items()
        )
        notes.append(f"{metric} of {name}, mean over data sets: {', '.join(of_groups)}.")
    for name, by_metric in found.tests.items():
        parts = [f"{m} {t.difference:+.3f} (p = {t.p_value:.4f})" for m, t in by_metric.items()]
        notes.append(f"{found.main} against {name}, paired randomization test: {', '.join(parts)}.")
    if cards < queries:
        notes.append(
            f"Shown below: {cards} queries, right and wrong ones in equal parts where there are enough."
        )
    return notes


def _tokenizer(found: Evaluation) -> Tokenizer | None:
    """The main retriever's tokenizer, which turns evidence into places in the text."""
    sources = found.sources
    settings = sources.section(found.main).config
    if not isinstance(settings, GenerativeConfig):
        return None
    return tokenizer_of(sources.index(settings.index), sources.tokenizer(settings.model))


def _explain(found: Evaluation) -> Explain | None:
    """What says which token of a document every vector of a query found, where the main retriever is one of late interaction."""
    if not issubclass(found.sources.section(found.main).cls, LateInteractionRetriever):
        return None
    retriever = found.sources.retriever(found.main)
    return retriever.explain if retriever.explains else None


def shown_boxes(regions: RegionStore, image: str) -> list[Box]:
    """The boxes of a picture as the report draws them; none for a picture that the store does not hold."""
    if image not in regions:
        return []
    found = regions.get(image)
    width, height = found.size
    return [
        Box(x0 / width, y0 / height, x1 / width, y1 / height, label, score)
        for (x0, y0, x1, y1), label, score in zip(found.boxes.tolist(), found.classes, found.scores)
    ]


def _picture(image: str | None, sources: Sources) -> tuple[Path | None, list[Box]]:
    """The file and boxes of a query's picture, where the configuration names them."""
    if image is None or sources.pictures is None:
        return None, []
    try:
        path = sources.pictures.path(image)
    except VisionError:
        return None, []
    return path, [] if sources.regions is None else shown_boxes(sources.regions, image)
