"""What contrastive training learns from, mined from a retriever's ranking: hard negatives, its hits without those that are, or may be,
relevant, as a run; and positives for queries with answers alone, the best hits that hold one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gemkr.config.ranges import require_ranges
from gemkr.data.documents import DocumentStore
from gemkr.data.qrels import AnswerMatcher, read_qrels
from gemkr.data.query_lines import as_lines
from gemkr.data.trec import write_run
from gemkr.errors import ConfigError, DataError
from gemkr.evaluation.config import EvalConfig
from gemkr.evaluation.judge import DEFAULT_MATCH
from gemkr.evaluation.runs import run_retriever
from gemkr.files import require_writable_folder, write_atomically
from gemkr.retrievers.saved import SavedRetriever
from gemkr.sources import Sources
from gemkr.training.contrastive.config import Window
from gemkr.training.contrastive.negatives import hard_negatives
from gemkr.types import Hit, Qrels, Query, Ranking


@dataclass(frozen=True)
class Mined:
    """What was mined: `negatives` of `mined` out of `queries` queries; `unknown` have neither positives nor answers and were passed
    over, of `empty` no hit was left; `learnable` have a positive, given or mined."""

    queries: int
    mined: int
    negatives: int
    unknown: int
    empty: int
    learnable: int


@dataclass(frozen=True)
class _Judged:
    """A query with positives or answers: those positives, or else the hits that hold an answer, best first; and its negatives."""

    query: Query
    positives: tuple[str, ...]
    negatives: list[Hit]


def mine_negatives(
    config: EvalConfig,
    name: str,
    output: str | Path,
    window: Window,
    *,
    per_query: int | None = None,
    positives: str | Path | None = None,
    positives_per_query: int | None = None,
    restart: bool = False,
) -> Mined:
    """Write a TREC run of the hits in `window` of each query, at most `per_query`, that are not relevant to it.

    Relevant are the query's positives, what `qrels` name, and documents that hold an answer under `match` (word where it is not
    set). `name` is a section, whose run in the folder `output`.runs is continued where an earlier call stopped, or the file of a
    run. `output` is written whole or not at all; training then needs neither `skip` nor `below`. Into `positives`, if named, go the
    queries that have positives, given ones or else the first `positives_per_query` hits (default: all) up to `depth` that hold an
    answer: pseudo-relevance, as in the metrics. Queries without any are left out. ConfigError for a `name` that is neither a section nor
    a file, for a run that is the output itself, and for a window without ranks; DataError for a run without the queries, and when
    nothing is left. Else raises as `run_retriever` does.
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
    rankings = _rankings(changed, sources, name, restart)
    found = list(_judged(sources, rankings, window, judged, config.match, positives_per_query))
    kept = [Ranking(one.query.query_id, tuple(one.negatives[:per_query])) for one in found if one.negatives]
    if not kept:
        raise DataError(
            f"none of the {len(sources.queries)} queries has a hard negative left in {name} from rank {window.skip + 1} to "
            f"{window.depth} with below {window.below}; raise depth or below, or give queries with positives or answers"
        )
    learnable = [replace(one.query, positives=one.positives) for one in found if one.positives]
    if positives is not None and not learnable:
        raise DataError(
            f"none of the {len(sources.queries)} queries has a hit that holds an answer in {name} up to rank {window.depth}; raise "
            "depth, or leave the positives out"
        )
    write_run(output, kept)
    if positives is not None:
        write_atomically(positives, as_lines(learnable))
    return Mined(
        queries=len(sources.queries),
        mined=len(kept),
        negatives=sum(len(ranking.hits) for ranking in kept),
        unknown=len(sources.queries) - len(found),
        empty=len(found) - len(kept),
        learnable=len(learnable),
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


def _judged(
    sources: Sources,
    rankings: Iterable[Ranking],
    window: Window,
    judged: Qrels,
    match: str | None,
    positives_per_query: int | None,
) -> Iterable[_Judged]:
    """The queries of which a relevant document is known, or could be."""
    queries = {query.query_id: query for query in sources.queries}
    for ranking in rankings:
        query, hits = queries[ranking.query_id], ranking.hits
        graded = (doc_id for doc_id, grade in judged.get(query.query_id, {}).items() if grade > 0)
        given = tuple(dict.fromkeys((*query.positives, *graded)))
        matcher = AnswerMatcher(query.answers, match or DEFAULT_MATCH)
        if given or matcher:
            holders = _with_answer(hits, matcher, sources.documents)
            mined = [hit.doc_id for hit in hits[: window.depth] if hit.doc_id in holders]
            negatives = hard_negatives(hits, holders.union(given), window)
            yield _Judged(query, given or tuple(mined[:positives_per_query]), negatives)


def _with_answer(hits: Sequence[Hit], matcher: AnswerMatcher, documents: DocumentStore) -> set[str]:
    """The hits that hold an answer; a corpus is read only where there are answers."""
    if not matcher:
        return set()
    return {hit.doc_id for hit in hits if matcher.matches(documents.by_id(hit.doc_id).contents)}
