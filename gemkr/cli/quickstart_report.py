"""The quickstart's report: one table over all its evaluations, and held-out queries shown with their evidence.

Reads what `gemkr eval` left in the folders of the rows; retrieves and scores nothing itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

CARDS = 24
SCENE_QUERIES = "scene_queries"
"""The file of the second task's queries."""
NOTES = (
    "Every scene of these queries was held out of training. The question never names the country: only who reads the flag can "
    "answer, and with two or three flags only who knows which one is meant.",
    "One model answers all rows of gemkr, BM25 reads the question alone, and fusion by rank trusts both alike. A quarter of its training questions came without regions, so that it could learn from whole "
    "pictures alone; those can tell one large flag, not small ones.",
    "A query has one gold passage among the corpus, so P@5 can reach .2.",
    "Two rows ask for combinations of a country and a kind of fact that no training question asked for. The model knows the "
    "passages less well by heart there, and the FM-index keeps it to what they say.",
    "The miniature PreFLMR reads with a BERT of random first weights, which learns for 150 steps beside a frozen tower: it finds the kind "
    "of fact and the countries of the picture's flags, and cannot tell which of several flags is meant.",
    "The last two rows are another task over the same scenes: pictures are the documents, found by one vector of the whole picture, in "
    "which small flags are lost; most countries have one scene with a large flag. clip_sf is as it was trained on flags; the "
    "miniature LLaVA reads that tower's patches with a language model of random first weights, which learned from four scenes a country.",
)


def write_quickstart_report(folder: Path, titles: Mapping[str, str], seconds: Mapping[str, float]) -> Path:
    """Write `report.html` into the quickstart's folder; `titles` maps row names to what the table calls them."""
    from gemkr.data.documents import DocumentStore
    from gemkr.data.qrels import gold_qrels
    from gemkr.data.queries import read_queries
    from gemkr.data.records import read_records
    from gemkr.evaluation.evaluate import CONTROL
    from gemkr.evaluation.report.cards import choose_queries, make_card
    from gemkr.evaluation.report.eval_report import shown_boxes
    from gemkr.evaluation.report.page import Row, write_report
    from gemkr.text.tokenizer import load_tokenizer
    from gemkr.vision.pictures import PictureFolder
    from gemkr.vision.store import RegionStore

    rows, model = [], {}
    for name in (name for name in titles if (folder / "eval" / name).is_dir()):
        metrics = json.loads((folder / "eval" / name / "metrics.json").read_text(encoding="utf-8"))
        for retriever, values in metrics["intervals"].items():
            title = titles[name if retriever == metrics["main"] else CONTROL]
            means = {m: (v["mean"], v["low"], v["high"]) for m, v in values.items()}
            rows.append(
                Row(title, means, other_queries=Path(metrics["config"]["queries"]).stem == SCENE_QUERIES)
            )
        model = metrics["config"]["retrievers"].get("gemkr", {}).get("model") or model
    queries = {query.query_id: query for query in read_queries(folder / "data" / "test.jsonl")}
    qrels = gold_qrels(list(queries.values()))
    rankings = {
        ranking.query_id: ranking
        for ranking in read_records(folder / "eval" / "full" / "gemkr" / "run.jsonl")
    }
    right = {q: bool(r.hits) and qrels[q].get(r.hits[0].doc_id, 0) > 0 for q, r in rankings.items()}
    documents = DocumentStore.open(folder / "data" / "corpus.csv")
    pictures, regions = PictureFolder(folder / "data" / "images"), RegionStore.open(folder / "regions")
    tokenizer = load_tokenizer(model["tokenizer"] or model["llm"])
    cards = [
        make_card(
            queries[query_id],
            rankings[query_id],
            {hit.doc_id: documents.by_id(hit.doc_id) for hit in rankings[query_id].hits},
            qrels[query_id],
            tokenizer=tokenizer,
            match="word",
            picture=pictures.path(queries[query_id].image),
            boxes=shown_boxes(regions, queries[query_id].image),
        )
        for query_id in choose_queries(right, CARDS)
    ]
    path = folder / "report.html"
    subtitle = f"{len(right):,} questions over held-out scenes, {len(documents):,} passages"
    write_report(path, "gemkr quickstart", rows, cards, seconds, NOTES, subtitle=subtitle)
    return path
