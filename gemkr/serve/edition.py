"""The retrievers of a service over one state of its corpus, which never changes: a change of a collection makes a new edition."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gemkr.decoding.watch import watched
from gemkr.evaluation.pools import Pools
from gemkr.interfaces import Watch
from gemkr.loaded import explained, explains
from gemkr.retrievers.compose import parts_of
from gemkr.retrievers.generative.retriever import GenerativeRetriever
from gemkr.serve.clue_tree import ClueTree
from gemkr.serve.refusals import RefusedError
from gemkr.sources import Sources
from gemkr.types import Document, Query, Ranking

if TYPE_CHECKING:
    from gemkr.text.tokenizer import Tokenizer


class Edition:
    """Retrievers, documents, pools and clue trees. Methods may be called from several threads, `retrieve` from one."""

    def __init__(self, sources: Sources, names: Sequence[str], pools: Pools) -> None:
        """Loads what `sources` have not loaded."""
        self.sources, self.names = sources, tuple(names)
        self.retrievers = {name: sources.retriever(name) for name in names}
        self.documents = sources.documents
        self.pools = pools
        self._generative = {name: self._generative_part(name) for name in names}
        self._trees: dict[int, ClueTree] = {}

    def retrieve(
        self,
        name: str,
        pool: str | None,
        queries: Sequence[Query],
        k: int,
        watch: Watch,
        *,
        matches: bool = False,
    ) -> Iterator[Ranking]:
        """One ranking per query, in order, with the documents of its hits, and with `matches` what found them; `watch` looks at
        growing clues."""
        allowed, retriever = None if pool is None else self.pools[pool], self.retrievers[name]
        rankings = watched(retriever, watch).retrieve(queries, k, allowed=allowed)
        for query, ranking in zip(queries, rankings, strict=True):
            hits = (replace(hit, document=self.documents.by_id(hit.doc_id)) for hit in ranking.hits)
            ranking = replace(ranking, hits=tuple(hits))
            yield explained(retriever, query, ranking) if matches else ranking

    def document(self, doc_id: str) -> Document:
        """A document of the corpus; RefusedError for one that it does not hold."""
        if doc_id not in self.documents:
            raise RefusedError(404, f"the corpus holds no document {doc_id[:80]!r}")
        return self.documents.by_id(doc_id)

    def writes_clues(self, name: str) -> bool:
        return self._generative[name] is not None

    def explains(self, name: str) -> bool:
        """Whether a retriever can say what each vector of a question found in a passage."""
        return explains(self.retrievers[name])

    def tokenizer(self, name: str) -> Tokenizer | None:
        """What the places of a retriever's evidence count in; None for one without clues."""
        part = self._generative[name]
        return None if part is None else part.tokenizer

    def following(
        self, names: Sequence[str], tokens: Sequence[int] | None, prefix: str, starting: str, most: int
    ) -> dict[str, Any]:
        """What the corpus lets follow tokens, or else a text, for the first of these retrievers that writes clues."""
        part = next((self._generative[name] for name in names if self.writes_clues(name)), None)
        if part is None:
            raise RefusedError(
                404,
                f"{' and '.join(names)} writes no clues, so that there is no tree of them; name another retriever",
            )
        tree = self._trees.get(id(part)) or self._trees.setdefault(id(part), ClueTree(part))
        return tree.following(tree.tokens_of(prefix) if tokens is None else tokens, starting, most)

    def _generative_part(self, name: str) -> GenerativeRetriever | None:
        """The generative retriever that one is, or is built over."""
        retriever = self.sources.retriever(name)
        if isinstance(retriever, GenerativeRetriever):
            return retriever
        inner = (self._generative_part(part) for part in parts_of(self.sources.section(name)))
        return next((part for part in inner if part is not None), None)
