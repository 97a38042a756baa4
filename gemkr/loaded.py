"""A retriever with all that a question needs, from one configuration: `gemkr.load("serve.yaml").ask("...", picture="photo.jpg")`.

Pictures that were never in a store are detected, cropped and encoded by the code that makes stores.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemkr.config.files import load_config
from gemkr.config.packaged import find_config
from gemkr.config.section import Section
from gemkr.errors import ConfigError, VisionError
from gemkr.evaluation.config import EvalConfig
from gemkr.interfaces import Allowed, Retriever
from gemkr.retrievers.compose import answers_new_questions, parts_of, reads_pictures
from gemkr.sources import Sources
from gemkr.types import Query, Ranking

if TYPE_CHECKING:
    from gemkr.vision.extractor import RegionExtractor
    from gemkr.vision.online import OnlinePictures


def load(path: str | Path, overrides: Iterable[str] = (), *, retriever: str | None = None) -> LoadedRetriever:
    """The retriever of a configuration (a file, or the name of a packaged one), ready for questions: the section `retriever`, or the first of `evaluate`.

    A file of queries is not needed. Raises a GemkrError in one sentence when parts are missing or do not belong together.
    Takes as long as loading the models and reading the corpus once.
    """
    config = load_config(find_config(path, "eval"), EvalConfig, [*overrides])
    return LoadedRetriever(config, retriever or config.evaluated[0])


class Material:
    """What the retrievers of one configuration share at question time: their sources, and what takes pictures."""

    def __init__(self, config: EvalConfig, names: Iterable[str]) -> None:
        """For the retrievers `names`; ConfigError for a name without a section, and for a retriever that only repeats answers to known
        queries. Loads detector and tower, no retriever."""
        self.config = config
        self.sources: Sources = replace(config, queries=None, limit=None).sources()
        self.names = tuple(names)
        for name in self.names:
            self.sources.section(name)
            if not answers_new_questions(name, self.sources.sections):
                raise ConfigError(
                    f"the retriever {name!r}, or one that it is over, knows answers to the queries of a file alone, not to new "
                    "questions; choose another retriever"
                )
        self.online = self._online_pictures()
        if self.online is not None:
            self.sources.pictures, self.sources.regions = self.online, self.online.regions

    def takes_pictures(self, name: str) -> bool:
        """Whether a retriever uses pictures."""
        return reads_pictures(name, self.sources.sections)

    def _online_pictures(self) -> OnlinePictures | None:
        """What takes pictures; None where no retriever uses them."""
        if not any(map(self.takes_pictures, self.names)):
            return None
        from gemkr.vision.online import OnlinePictures

        return OnlinePictures(self._region_extractor(), self.sources.pictures, self.sources.regions)

    def _region_extractor(self) -> RegionExtractor | None:
        """What finds and encodes the regions of a picture; None where the retrievers read whole pictures only."""
        readers = [reader for name in self.names for reader in self._region_readers(name)]
        store = self.sources.regions
        if not readers or (store is None and self.config.detector is None):
            return None
        from gemkr.vision.detect import Detector
        from gemkr.vision.encode import load_tower
        from gemkr.vision.extractor import RegionExtractor

        towers = (getattr(reader, "tower", None) for reader in readers)
        named = next((tower for tower in towers if tower is not None), None)
        tower = None if named is None else load_tower(named)
        if self.config.detector is None:
            return RegionExtractor.like(store, tower)
        rows = None if store is None else store.rows
        return RegionExtractor(Detector(self.config.detector), tower, rows)

    def _region_readers(self, name: str) -> Iterator[Any]:
        """The settings of models and encoders that are shown regions, by the retriever or by one that it is built over."""
        section = self.sources.section(name)
        yield from _region_readers(section)
        for part in parts_of(section):
            yield from self._region_readers(part)


def explains(retriever: Retriever) -> bool:
    """Whether `explained` can say what found the hits of a retriever."""
    return getattr(retriever, "explains", False)


def explained(retriever: Retriever, query: Query, ranking: Ranking) -> Ranking:
    """A ranking whose hits carry their documents, with `matches`; as it is where the retriever has none. Encodes the query and the
    documents of its hits."""
    if not explains(retriever) or not ranking.hits:
        return ranking
    found = retriever.explain(query, [hit.document for hit in ranking.hits])
    hits = (replace(hit, matches=matches) for hit, matches in zip(ranking.hits, found, strict=True))
    return replace(ranking, hits=tuple(hits))


def _region_readers(section: Section) -> Iterator[Any]:
    for value in vars(section.config).values():
        if isinstance(value, Section):
            yield from _region_readers(value)
        value = value.config if isinstance(value, Section) else value
        if getattr(value, "sees_regions", False):
            yield value


class LoadedRetriever:
    """A retriever of a configuration, its corpus and its detector; hits carry their documents."""

    def __init__(self, config: EvalConfig, name: str, material: Material | None = None) -> None:
        """Loads everything that `material`, shared with other retrievers, has not loaded; ConfigError for a name without a section."""
        self.config, self.name = config, name
        self.material = material or Material(config, [name])
        self.sources = self.material.sources
        self.online = self.material.online if self.material.takes_pictures(name) else None
        self.retriever = self.sources.retriever(name)
        self._questions = 0

    def ask(
        self,
        question: str,
        picture: Any = None,
        *,
        k: int = 5,
        caption: str | None = None,
        instruction: str | None = None,
        allowed: Allowed = None,
    ) -> Ranking:
        """The best k passages for one question about a picture: a file, bytes, or a PIL picture; None without one. Hits of a retriever
        by late interaction say what each vector of the question found in them (`matches`).

        VisionError for a picture that cannot be read, and for any picture where this retriever does not use them.
        """
        image = None
        if picture is not None:
            if self.online is None:
                raise VisionError(
                    f"the retriever {self.name!r} does not use pictures; leave the picture out, or choose another retriever"
                )
            image = self.online.add(picture)
        self._questions += 1
        query = Query(
            f"question {self._questions}", question, image=image, caption=caption, instruction=instruction
        )
        try:
            (ranking,) = self.retrieve([query], k, allowed=allowed)
            ranking = explained(self.retriever, query, ranking)
        finally:
            if image is not None:
                self.online.remove(image)
        return ranking

    def retrieve(self, queries: Iterable[Query], k: int, *, allowed: Allowed = None) -> Iterator[Ranking]:
        """One ranking per query, in order, with the documents of its hits."""
        by_id = self.sources.documents.by_id
        for ranking in self.retriever.retrieve(queries, k, allowed=allowed):
            hits = tuple(replace(hit, document=by_id(hit.doc_id)) for hit in ranking.hits)
            yield replace(ranking, hits=hits)
