"""The service without HTTP: the retrievers of a configuration, and questions on their way through them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any

from gemkr.collection.background import BackgroundMerges
from gemkr.collection.collection import Collection
from gemkr.collection.opening import holds_collection, open_collection
from gemkr.collection.sharded import ShardedCollection
from gemkr.errors import ConfigError, GemkrError, VisionError
from gemkr.evaluation.config import EvalConfig
from gemkr.evaluation.pools import read_pools
from gemkr.interfaces import Watch
from gemkr.loaded import Material
from gemkr.serve.edition import Edition
from gemkr.serve.pictures import Box, PictureDesk
from gemkr.serve.refusals import RefusedError
from gemkr.types import Document, Query, Ranking

NO_COLLECTION = "this service answers from a corpus file, which stays as it is; serve a configuration with a collection to change it"


@dataclass(frozen=True, slots=True)
class Key:
    """Questions with equal keys are retrieved together."""

    retriever: str
    k: int
    pool: str | None
    matches: bool = False


@dataclass(frozen=True, slots=True)
class GivenPicture:
    """The picture of a question: its bytes, or the id of one that is known; `box` asks about a part of it alone."""

    data: bytes | None = None
    image_id: str | None = None
    box: Box | None = None


class Service:
    """Everything that answers requests, loaded once. Methods may be called from several threads, `retrieve` from one.

    `edition` is what answers now; a change of the collection puts another in its place, questions under way keep theirs.
    """

    def __init__(self, config: EvalConfig) -> None:
        """Loads detector, towers, models, indexes and corpus; a GemkrError in one sentence where they cannot be."""
        self.config, self.settings = config, config.serve
        self.names = config.served
        if not self.names:
            raise ConfigError(
                "no retriever of the configuration can answer new questions: kinds that repeat a finished run cannot be served"
            )
        held = holds_collection(config.corpus)
        self.collection = open_collection(config.corpus) if held else None
        generation = 0 if self.collection is None else self.collection.generation
        self.material = Material(config, self.names)
        sources = self.material.sources
        pools = read_pools(config.pools, sources.documents.doc_ids) if config.pools else {}
        self.edition = Edition(sources, self.names, pools)
        self._writing, self._generation = threading.Lock(), generation  # the edition's, or one before it
        self._merges = BackgroundMerges(int(self.settings.merge_gb * 1e9))
        online, settings = self.material.online, self.settings
        self.pictures = online and PictureDesk(
            online, most_pixels=settings.most_pixels, kept_pixels=settings.kept_pixels
        )

    def describe(self) -> list[dict[str, Any]]:
        """The retrievers, the default first: name, kind, whether they use pictures, write clues, and say what matched."""
        return [
            {
                "name": name,
                "kind": self.material.sources.section(name).kind,
                "pictures": self.material.takes_pictures(name),
                "clues": self.edition.writes_clues(name),
                "matches": self.edition.explains(name),
            }
            for name in self.names
        ]

    def key(self, retriever: str | None, k: int, pool: str | None, *, matches: bool = False) -> Key:
        """What a question is retrieved by; RefusedError for an unknown retriever or pool, too many hits, or matches of a retriever
        that has none."""
        name = self._require(retriever) or self.names[0]
        if k > self.settings.most_k:
            raise RefusedError(422, f"k is {k}, the limit is {self.settings.most_k}; ask for fewer passages")
        if pool is not None and pool not in self.edition.pools:
            pools = list(self.edition.pools)
            there = f"there are {', '.join(pools[:5])}" if pools else "the service has none"
            raise RefusedError(404, f"no pool is called {pool[:80]!r}; {there}")
        if matches and not self.edition.explains(name):
            raise RefusedError(
                422,
                f"the retriever {name!r} does not compare vectors of tokens; leave matches out, or choose another retriever",
            )
        return Key(name, k, pool, matches)

    def hold(self, key: Key, picture: GivenPicture) -> tuple[str, ExitStack]:
        """The image id of a question's picture, held until the stack is closed.

        Slow: decodes, detects and encodes. VisionError where the retriever does not use pictures.
        """
        if self.pictures is None or not self.material.takes_pictures(key.retriever):
            raise VisionError(
                f"the retriever {key.retriever!r} does not use pictures; leave the picture out, or choose another retriever"
            )
        with ExitStack() as stack:
            image_id = stack.enter_context(self._opened(self.pictures, picture))
            if picture.box is not None:
                image_id = stack.enter_context(self.pictures.part(image_id, picture.box))
            return image_id, stack.pop_all()

    @staticmethod
    def _opened(desk: PictureDesk, picture: GivenPicture) -> AbstractContextManager[str]:
        return desk.known(picture.image_id or "") if picture.data is None else desk.given(picture.data)

    def retrieve(self, key: Hashable, queries: Sequence[Query], watch: Watch) -> Iterator[Ranking]:
        """One ranking per query, in order, with the documents of its hits; `watch` looks at growing clues."""
        assert isinstance(key, Key)
        return self.edition.retrieve(key.retriever, key.pool, queries, key.k, watch, matches=key.matches)

    def following(
        self, name: str | None, tokens: Sequence[int] | None, prefix: str, starting: str, most: int
    ) -> dict[str, Any]:
        """What the corpus lets follow tokens, or else a text, for the first retriever that writes clues or the named one."""
        names = self.names if self._require(name) is None else (str(name),)
        return self.edition.following(names, tokens, prefix, starting, most)

    @property
    def writable(self) -> bool:
        """Whether documents can be added, updated and deleted."""
        return self.collection is not None

    def add(self, documents: Sequence[Document]) -> dict[str, int]:
        """Add documents to the collection: how many it holds now, and its generation. DataError for an id that is taken, RefusedError
        or VisionError for a picture that is none of the configuration's folder, or that questions could not bring."""

        def add(collection: Collection | ShardedCollection) -> None:
            for document in documents:
                self._require_picture(document)
            collection.add(documents)

        return self._change(add)

    def update(self, documents: Sequence[Document]) -> dict[str, int]:
        """Put documents in place of those with their ids, as `add`; they may keep their pictures. RefusedError for an unknown id."""

        def update(collection: Collection | ShardedCollection) -> None:
            _require_known(collection, [document.doc_id for document in documents], "updated")
            for document in documents:
                if document.image != collection.documents.by_id(document.doc_id).image:
                    self._require_picture(document)
            collection.update(documents)

        return self._change(update)

    def delete(self, doc_ids: Sequence[str]) -> dict[str, int]:
        """Delete documents from the collection: how many it holds now, and its generation. RefusedError for an unknown id."""

        def delete(collection: Collection | ShardedCollection) -> None:
            _require_known(collection, doc_ids, "deleted")
            collection.delete(doc_ids)

        return self._change(delete)

    def _require_picture(self, document: Document) -> None:
        if document.image is None:
            return
        if self.pictures is None:
            raise RefusedError(
                422,
                f"the document {document.doc_id[:80]!r} has a picture, but no retriever of this service uses pictures; leave image out",
            )
        self.pictures.require_in_folder(document.image)

    def follow(self) -> None:
        """Answer from the newest generation of the collection, whoever made it. Milliseconds where that is so already, else the
        time to load what depends on the documents (BM25, clue borders); answers go on meanwhile."""
        with self._writing:
            if self.collection is not None and self.collection.refresh() != self._generation:
                self._renew(self.collection.generation)

    def _change(self, change: Callable[[Collection | ShardedCollection], None]) -> dict[str, int]:
        if self.collection is None:
            raise RefusedError(409, NO_COLLECTION)
        with self._writing:
            change(self.collection)
            made = {"documents": len(self.collection), "generation": self.collection.generation}
            self._renew(self.collection.generation)
            if self.settings.merge_gb:
                self._merges.start(self.collection)
        return made

    def _renew(self, generation: int) -> None:
        try:
            sources = self.edition.sources.renewed()
            self.edition = Edition(sources, self.names, self.edition.pools)
        except GemkrError as error:
            raise RefusedError(
                500,
                f"the collection has changed, but the retrievers do not follow: {error}; they answer as before",
            ) from error
        self._generation = generation
        self.material.sources = sources  # nothing else keeps the corpus of before

    def _require(self, name: str | None) -> str | None:
        if name is not None and name not in self.names:
            raise RefusedError(
                404, f"no retriever is called {name[:80]!r}; there are {', '.join(self.names)}"
            )
        return name


def _require_known(collection: Collection | ShardedCollection, doc_ids: Sequence[str], what: str) -> None:
    collection.refresh()
    unknown = [doc_id for doc_id in doc_ids if doc_id not in collection.documents]
    if unknown:
        raise RefusedError(404, f"the collection holds no document {unknown[0][:80]!r}; nothing was {what}")


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
