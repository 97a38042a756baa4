"""The service without HTTP: the retrievers of a configuration, and questions on their way through them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gemkr.config.service import ServiceConfig
from gemkr.decoding.watch import watched
from gemkr.errors import ConfigError, GemkrError, VisionError
from gemkr.evaluation.config import EvalConfig
from gemkr.evaluation.pools import read_pools
from gemkr.interfaces import Watch
from gemkr.loaded import Material
from gemkr.retrievers.compose import parts_of
from gemkr.retrievers.generative.retriever import GenerativeRetriever
from gemkr.serve.clue_tree import ClueTree
from gemkr.serve.pictures import Box, PictureDesk
from gemkr.serve.refusals import RefusedError
from gemkr.types import Document, Query, Ranking

if TYPE_CHECKING:
    from gemkr.text.tokenizer import Tokenizer


NO_COLLECTION = "this service answers from a corpus file, which stays as it is; serve a configuration with a collection to add or delete"


@dataclass(frozen=True, slots=True)
class Key:
    """Questions with equal keys are retrieved together."""

    retriever: str
    k: int
    pool: str | None


@dataclass(frozen=True, slots=True)
class GivenPicture:
    """The picture of a question: its bytes, or the id of one that is known; `box` asks about a part of it alone."""

    data: bytes | None = None
    image_id: str | None = None
    box: Box | None = None


class Service:
    """Everything that answers requests, loaded once. Methods may be called from several threads, `retrieve` from one."""

    def __init__(self, config: EvalConfig) -> None:
        """Loads detector, towers, models, indexes and corpus; a GemkrError in one sentence where they cannot be."""
        self.config, self.settings = config, config.serve
        self.names = config.served
        if not self.names:
            raise ConfigError(
                "no retriever of the configuration can answer new questions: kinds that repeat a finished run cannot be served"
            )
        self.material = Material(config, self.names)
        sources = self.material.sources
        self.retrievers = {name: sources.retriever(name) for name in self.names}
        self.documents = sources.documents
        self.pools = read_pools(config.pools, self.documents.doc_ids) if config.pools else {}
        self.pictures = self._picture_desk(self.settings)
        self._generative = {name: self._generative_part(name) for name in self.names}
        self._trees: dict[int, ClueTree] = {}

    def _picture_desk(self, settings: ServiceConfig) -> PictureDesk | None:
        online = self.material.online
        if online is None:
            return None
        return PictureDesk(online, most_pixels=settings.most_pixels, kept_pixels=settings.kept_pixels)

    def describe(self) -> list[dict[str, Any]]:
        """The retrievers, the default first: name, kind, whether they use pictures, and write clues."""
        return [
            {
                "name": name,
                "kind": self.material.sources.section(name).kind,
                "pictures": self.material.takes_pictures(name),
                "clues": self._generative[name] is not None,
            }
            for name in self.names
        ]

    def key(self, retriever: str | None, k: int, pool: str | None) -> Key:
        """What a question is retrieved by; RefusedError for an unknown retriever or pool, or too many hits."""
        name = retriever or self.names[0]
        if name not in self.names:
            raise RefusedError(
                404, f"no retriever is called {name[:80]!r}; there are {', '.join(self.names)}"
            )
        if k > self.settings.most_k:
            raise RefusedError(422, f"k is {k}, the limit is {self.settings.most_k}; ask for fewer passages")
        if pool is not None and pool not in self.pools:
            there = f"there are {', '.join(list(self.pools)[:5])}" if self.pools else "the service has none"
            raise RefusedError(404, f"no pool is called {pool[:80]!r}; {there}")
        return Key(name, k, pool)

    def hold(self, key: Key, picture: GivenPicture, stack: ExitStack) -> str | None:
        """The image id of a question's picture, held until `stack` closes; None for a question without one.

        Slow: decodes, detects and encodes. VisionError where the retriever does not use pictures.
        """
        if picture.data is None and picture.image_id is None:
            return None
        if self.pictures is None or not self.material.takes_pictures(key.retriever):
            raise VisionError(
                f"the retriever {key.retriever!r} does not use pictures; leave the picture out, or choose another retriever"
            )
        image_id = stack.enter_context(self._opened(self.pictures, picture))
        if picture.box is not None:
            image_id = stack.enter_context(self.pictures.part(image_id, picture.box))
        return image_id

    @staticmethod
    def _opened(desk: PictureDesk, picture: GivenPicture) -> AbstractContextManager[str]:
        return desk.known(picture.image_id or "") if picture.data is None else desk.given(picture.data)

    def retrieve(self, key: Hashable, queries: Sequence[Query], watch: Watch) -> Iterator[Ranking]:
        """One ranking per query, in order, with the documents of its hits; `watch` looks at growing clues."""
        assert isinstance(key, Key)
        allowed = None if key.pool is None else self.pools[key.pool]
        retriever = watched(self.retrievers[key.retriever], watch)
        for ranking in retriever.retrieve(queries, key.k, allowed=allowed):
            hits = (replace(hit, document=self.documents.by_id(hit.doc_id)) for hit in ranking.hits)
            yield replace(ranking, hits=tuple(hits))

    def document(self, doc_id: str) -> Document:
        """A document of the corpus; RefusedError for one that it does not hold."""
        if doc_id not in self.documents:
            raise RefusedError(404, f"the corpus holds no document {doc_id[:80]!r}")
        return self.documents.by_id(doc_id)

    @property
    def writable(self) -> bool:
        """Whether documents can be added and deleted."""
        return False

    def add(self, documents: Sequence[Document]) -> dict[str, int]:
        """Add documents to the collection: how many it holds now, and its generation."""
        raise RefusedError(409, NO_COLLECTION)

    def delete(self, doc_ids: Sequence[str]) -> dict[str, int]:
        """Delete documents from the collection: how many it holds now, and its generation."""
        raise RefusedError(409, NO_COLLECTION)

    def tokenizer(self, name: str) -> Tokenizer | None:
        """What the places of a retriever's evidence count in; None for one without clues."""
        part = self._generative[name]
        return None if part is None else part.tokenizer

    def following(
        self,
        name: str | None,
        tokens: Sequence[int] | None,
        prefix: str,
        starting: str,
        most: int,
    ) -> dict[str, Any]:
        """What the corpus lets follow tokens, or else a text, for the first retriever that writes clues or the named one."""
        if name is not None and name not in self.names:
            raise RefusedError(
                404, f"no retriever is called {name[:80]!r}; there are {', '.join(self.names)}"
            )
        names = self.names if name is None else (name,)
        part = next((self._generative[one] for one in names if self._generative[one] is not None), None)
        if part is None:
            raise RefusedError(
                404,
                f"{' and '.join(names)} writes no clues, so that there is no tree of them; name another retriever",
            )
        tree = self._trees.setdefault(id(part), ClueTree(part))
        return tree.following(tree.tokens_of(prefix) if tokens is None else tokens, starting, most)

    def _generative_part(self, name: str) -> GenerativeRetriever | None:
        """The generative retriever that one is, or is built over."""
        sources = self.material.sources
        retriever = sources.retriever(name)
        if isinstance(retriever, GenerativeRetriever):
            return retriever
        inner = (self._generative_part(part) for part in parts_of(sources.section(name)))
        return next((part for part in inner if part is not None), None)


def check(service: Service) -> Iterable[str]:
    """Ask every retriever one question; a line of each, or its GemkrError."""
    question = "What is it?"
    for name in service.names:
        key = service.key(name, 1, None)
        try:
            (ranking,) = service.retrieve(key, [Query("check", question)], lambda query, growing: True)
        except GemkrError as error:
            raise type(error)(f"the retriever {name!r} does not answer: {error}") from error
        yield f"{name}: {len(ranking.hits)} hits, {len(ranking.clues)} clues"
