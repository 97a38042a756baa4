"""Hard negatives mined from a retriever's ranking: its hits without those that are, or may be, relevant, as a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gemkr.config.ranges import require_ranges
from gemkr.data.documents import DocumentStore
from gemkr.data.qrels import AnswerMatcher, read_qrels
from gemkr.data.trec import write_run
from gemkr.errors import ConfigError, DataError
from gemkr.evaluation.config import EvalConfig
from gemkr.evaluation.judge import DEFAULT_MATCH
from gemkr.evaluation.runs import run_retriever
from gemkr.files import require_writable_folder
from gemkr.retrievers.saved import SavedRetriever
from gemkr.sources import Sources
from gemkr.training.contrastive.config import Window
from gemkr.training.contrastive.negatives import hard_negatives
from gemkr.types import Hit, Qrels, Ranking


@dataclass(frozen=True)
class Mined:
    """What was mined: `negatives` of `mined` out of `queries` queries; `unknown` have neither positives nor answers and were passed
    over, of `empty` no hit was left."""

    queries: int
    mined: int
    negatives: int
    unknown: int
    empty: int


def mine_negatives(
    config: EvalConfig,
    name: str,
    output: str | Path,
    window: Window,
    *,
    per_query: int | None = None,
    restart: bool = False,
) -> Mined:
    """Write a TREC run of the hits in `window` of each query, at most `per_query`, that are not relevant to it.

    Relevant are the query's positives, what `qrels` name, and documents that hold an answer under `match` (word where it is not
    set). `name` is a section, whose run in the folder `output`.runs is continued where an earlier call stopped, or the file of a
    run. `output` is written whole or not at all; training then needs neither `skip` nor `below`. ConfigError for neither of both, for a run that is the output itself, and for a window without ranks; DataError for a
    run without the queries, and when nothing is left. Else raises as `run_retriever` does.
    """
    require_ranges(window)
    if window.skip >= window.depth:
        raise ConfigError(
            f"no rank lies after skip {window.skip} and up to depth {window.depth}; raise depth"
        )
    if Path(output).exists() and Path(name).exists() and Path(output).samefile(name):
        raise ConfigError(
            f"the negatives would replace the run {name} that they are mined from; give another output"
        )
    config.require("queries")
    AnswerMatcher((), config.match or DEFAULT_MATCH)
    require_writable_folder(Path(output).parent)
    changed = replace(config, output=f"{output}.runs", k=window.depth, answer=None)
    sources = changed.sources()
    judged = {} if config.qrels is None else read_qrels(config.qrels)
    found = list(
        _negatives(sources, _rankings(changed, sources, name, restart), window, judged, config.match)
    )
    kept = [Ranking(ranking.query_id, tuple(hits[:per_query])) for ranking, hits in found if hits]
    if not kept:
        raise DataError(
            f"none of the {len(sources.queries)} queries has a hard negative left in {name} from rank {window.skip + 1} to "
            f"{window.depth} with below {window.below}; raise depth or below, or give queries with positives or answers"
        )
    write_run(output, kept)
    return Mined(
        queries=len(sources.queries),
        mined=len(kept),
        negatives=sum(len(ranking.hits) for ranking in kept),
        unknown=len(sources.queries) - len(found),
        empty=len(found) - len(kept),
    )


def _rankings(config: EvalConfig, sources: Sources, name: str, restart: bool) -> Iterable[Ranking]:
    """One ranking for each query, in order: of a section, or from the file of a run."""
    if name in config.retrievers:
        return run_retriever(config, sources, name, restart=restart).rankings.values()
    if not Path(name).is_file():
        raise ConfigError(
            f"{name!r} is neither a retriever of the configuration ({', '.join(config.retrievers)}) nor the file of a run; name one"
        )
    saved = SavedRetriever.from_config(SavedRetriever.Config(run=name), sources)
    return saved.retrieve(sources.queries, len(sources.documents))


def _negatives(
    sources: Sources, rankings: Iterable[Ranking], window: Window, judged: Qrels, match: str | None
) -> Iterable[tuple[Ranking, list[Hit]]]:
    """The rankings of queries of which a relevant document is known, or could be, with the negatives in them."""
    queries = {query.query_id: query for query in sources.queries}
    for ranking in rankings:
        query = queries[ranking.query_id]
        graded = {doc_id for doc_id, grade in judged.get(query.query_id, {}).items() if grade > 0}
        matcher = AnswerMatcher(query.answers, match or DEFAULT_MATCH)
        positives = graded.union(query.positives)
        if positives or matcher:
            positives |= _with_answer(ranking.hits, matcher, sources.documents)
            yield ranking, hard_negatives(ranking.hits, positives, window)


def _with_answer(hits: Sequence[Hit], matcher: AnswerMatcher, documents: DocumentStore) -> set[str]:
    """The hits that hold an answer; a corpus is read only where there are answers."""
    if not matcher:
        return set()
    return {hit.doc_id for hit in hits if matcher.matches(documents.by_id(hit.doc_id).contents)}
