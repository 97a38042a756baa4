"""The clues of an earlier run under another ranking: the effect of ranking alone, without decoding again.

No model is loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from gemkr.config.changes import ChangesOf
from gemkr.config.files import from_mapping, to_mapping
from gemkr.config.section import Section, section_files
from gemkr.data.documents import allowed_documents
from gemkr.errors import ConfigError, DataError
from gemkr.interfaces import Allowed
from gemkr.retrievers.generative.clue_documents import ClueDocuments
from gemkr.retrievers.generative.config import GenerativeConfig, ScoringConfig
from gemkr.retrievers.generative.retriever import clue_documents
from gemkr.retrievers.generative.scoring import ClueScorer, scorer_of
from gemkr.retrievers.generative.shares import from_one_share
from gemkr.retrievers.saved_clues import read_clues
from gemkr.types import Clue, Query, Ranking

if TYPE_CHECKING:
    from gemkr.sources import Sources


class RescoredRetriever:
    """Ranks documents by clues that are known already: `clues[query_id]`, spans of the lookup's own index."""

    known_queries_only = True

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The clues in the run of the generative retriever `of`; settings of `scoring` that are not given are that retriever's."""

        of: str
        scoring: Annotated[dict[str, Any], ChangesOf(ScoringConfig)] = field(default_factory=dict)

    def __init__(self, clues: Mapping[str, Sequence[Clue]], lookup: ClueDocuments) -> None:
        self.clues = clues
        self.lookup = lookup

    @classmethod
    def from_config(cls, config: Config, sources: Sources) -> RescoredRetriever:
        """Over a run that is there already; ConfigError when it is not."""
        section = sources.section(config.of)
        base = generative_config(section, "kind: rescored")
        clues = read_clues(sources.run_folder(config.of), sources.index(base.index))
        return cls(clues, clue_documents(base, changed_scoring(base.scoring, config.scoring), sources))

    @staticmethod
    def input_files(config: Config) -> dict[str, str | None]:
        """Nothing besides what the retriever `of` reads."""
        return section_files(_inside_span(config.scoring))

    def retrieve(self, queries: Iterable[Query], k: int, *, allowed: Allowed = None) -> Iterator[Ranking]:
        """One ranking per query, in order; DataError for a query that the earlier run did not answer."""
        lookup = self.lookup
        if allowed is not None:
            lookup = lookup.within(allowed_documents(lookup.index.doc_ids, allowed))
        scorer = scorer_of(lookup)
        for query in queries:
            if query.query_id not in self.clues:
                raise DataError(
                    f"the earlier run holds no clues of query {query.query_id!r}; let it finish, or start it again with --restart"
                )
            clues = self.clues[query.query_id]
            ranked = partial(_ranked, scorer, query, clues, k)
            yield from from_one_share(lookup.index, ranked)


def _ranked(scorer: ClueScorer, query: Query, clues: Sequence[Clue], k: int) -> Iterator[Ranking]:
    yield Ranking(query.query_id, scorer.rank(query, clues, k), tuple(clues))


def generative_config(section: Section, needed_by: str) -> GenerativeConfig:
    """The settings of a section that must be a generative retriever's; ConfigError when it is another."""
    if not isinstance(section.config, GenerativeConfig):
        raise ConfigError(
            f"{needed_by} needs the clues of a generative retriever, and {section.where} is of the kind {section.kind!r}; name "
            "a generative one in of"
        )
    return section.config


def changed_scoring(scoring: ScoringConfig, changes: Mapping[str, Any]) -> ScoringConfig:
    """The settings with those of `changes`, plain values as in a file, in place of their own."""
    changed = from_mapping({**to_mapping(scoring), **changes}, ScoringConfig, "scoring")
    return changed if "inside_span" in changes else replace(changed, inside_span=scoring.inside_span)


def _inside_span(changes: Mapping[str, Any]) -> Section | None:
    if "inside_span" not in changes:
        return None
    return from_mapping({"inside_span": changes["inside_span"]}, ScoringConfig, "scoring").inside_span
