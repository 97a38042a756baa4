"""The material that retrievers are built from: corpus, queries, pictures, indexes, models; each part loaded once, when needed.

Also hands out retrievers by the names of their sections, so that retrievers over retrievers share them. Knows no kind of
retriever.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gemkr.collection.collection import Collection
from gemkr.collection.documents import CollectionDocuments
from gemkr.collection.opening import holds_collection, open_collection
from gemkr.collection.shard_manifest import is_sharded
from gemkr.collection.sharded import ShardedCollection
from gemkr.collection.sharded_documents import ShardedDocuments
from gemkr.config.section import Section
from gemkr.config.shards import HERE, ShardsConfig
from gemkr.data.corpus import BadRows
from gemkr.data.documents import DocumentStore
from gemkr.data.queries import read_queries
from gemkr.errors import ConfigError
from gemkr.interfaces import DocumentScorer, Retriever
from gemkr.text.tokenizer import Tokenizer, load_tokenizer
from gemkr.types import Clue, Query

if TYPE_CHECKING:
    from torch import nn

    from gemkr.collection.shards import ShardedIndex
    from gemkr.fm_index import FMIndex, SegmentedIndex
    from gemkr.models.gemkr.writer import Writer
    from gemkr.models.writers.config import WriterConfig
    from gemkr.scorers.bm25 import BM25
    from gemkr.vision.pictures import PictureFolder
    from gemkr.vision.store import RegionStore

T = TypeVar("T")
SHARED = ("model", "tokenizer", "encoder")
"""What does not depend on the documents."""


class Sources:
    """The material of one configuration. Every part is loaded at its first use, and only once.

    `output` is where runs go: that of the retriever NAME into the folder NAME in it. `limit` keeps the first queries only.
    With `partial`, shards that die are left out of answers; `shards` says what searches them.
    """

    def __init__(
        self,
        corpus: str | Path,
        sections: Mapping[str, Section],
        *,
        queries: str | Path | None = None,
        limit: int | None = None,
        images: str | Path | None = None,
        regions: str | Path | None = None,
        output: str | Path | None = None,
        partial: bool = False,
        shards: ShardsConfig = HERE,
    ) -> None:
        self.corpus_path, self.queries_path = Path(corpus), queries
        self.sections = sections
        self._limit, self._images, self._regions, self._output = limit, images, regions, output
        self._partial, self._shards = partial, shards
        self._made: dict[Any, Any] = {}
        self._known: dict[str, Mapping[str, Sequence[Clue]]] = {}

    @cached_property
    def queries(self) -> list[Query]:
        """The queries, the first `limit` of them; none where the configuration names no file of queries."""
        return [] if self.queries_path is None else list(read_queries(self.queries_path))[: self._limit]

    @cached_property
    def documents(self) -> DocumentStore | CollectionDocuments | ShardedDocuments:
        """The documents of the corpus: a collection's live ones, or those of a file, where bad rows are skipped if an index was
        built without them, and raise otherwise."""
        if holds_collection(self.corpus_path):
            return self.collection(self.corpus_path).documents
        index = next(self._made_of_corpus("index"), None)
        if index is None:
            vectors = next(self._made_of_corpus("vectors", "tokens"), None)
            return DocumentStore.open(self.corpus_path, index=vectors)
        bad = BadRows()
        documents = DocumentStore.open(self.corpus_path, skip_bad_rows=bad, index=index)
        if bad:
            documents.require_same_documents(self._open_index(index).doc_ids, bad)
        return documents

    def _made_of_corpus(self, *settings: str) -> Iterator[str]:
        """The index files, or folders of vectors, that sections name under these settings."""
        for section in self.sections.values():
            named = (getattr(section.config, setting, None) for setting in settings)
            yield from (path for path in named if path is not None)

    @cached_property
    def bm25(self) -> BM25:
        """BM25 over the corpus."""
        from gemkr.scorers.bm25 import BM25

        return BM25(self.documents)

    @cached_property
    def pictures(self) -> PictureFolder | None:
        """The folder of pictures, None where the configuration has no `images`."""
        from gemkr.vision.pictures import PictureFolder

        return None if self._images is None else PictureFolder(self._images)

    @cached_property
    def regions(self) -> RegionStore | None:
        """The region features, None where the configuration has no `regions`."""
        from gemkr.vision.store import RegionStore

        return None if self._regions is None else RegionStore.open(self._regions)

    def collection(self, folder: str | Path) -> Collection | ShardedCollection:
        """A collection, in the generation that it had when it was first asked for."""
        folder = Path(folder).resolve()
        return self.once(
            ("collection", folder),
            lambda: open_collection(folder, partial=self._partial, searched_by=self._shards),
        )

    @property
    def shards(self) -> ShardedIndex | None:
        """What searches the shards of the corpus where they are; None for a corpus without shards."""
        if not is_sharded(self.corpus_path):
            return None
        return self.collection(self.corpus_path).index

    def renewed(self) -> Sources:
        """The same material over the newest generation of its collections: models, encoders, tokenizers and pictures are shared, all
        that depends on documents is loaded anew."""
        other = copy.copy(self)
        for name in ("documents", "bm25"):
            other.__dict__.pop(name, None)
        other._known = {}
        other._made = {key: made for key, made in list(self._made.items()) if key[0] in SHARED}
        return other

    def index(self, path: str | Path) -> FMIndex | SegmentedIndex | ShardedIndex:
        """An index file's, or a collection's; DataError unless it holds the corpus of the configuration."""
        return self.once(("index", str(path)), lambda: self._load_index(path))

    def _load_index(self, path: str | Path) -> FMIndex | SegmentedIndex | ShardedIndex:
        index = self._open_index(path)
        if not holds_collection(path) or Path(path).resolve() != self.corpus_path.resolve():
            self.documents.require_same_documents(index.doc_ids)
        return index

    def _open_index(self, path: str | Path) -> FMIndex | SegmentedIndex | ShardedIndex:
        if holds_collection(path):
            return self.collection(path).index
        from gemkr.fm_index import FMIndex

        return FMIndex.load(path)

    def model(self, config: WriterConfig) -> Writer:
        """The network with its trained parameters, on a GPU where there is one."""
        from gemkr.training.checkpoints.trained import load_model

        return self.once(("model", config), lambda: load_model(config))

    def put_in(self, network: nn.Module, checkpoint: str | Path) -> None:
        """Load what `gemkr train` taught an encoder's network; CheckpointError for a checkpoint of another kind or network, or
        over other frozen weights."""
        from gemkr.training.checkpoints.encoder import put_in_encoder

        put_in_encoder(network, checkpoint)

    def tokenizer(self, config: WriterConfig) -> Tokenizer:
        """A model's tokenizer, without the model."""
        path = config.vocabulary
        return self.once(("tokenizer", str(path)), lambda: load_tokenizer(path))

    def part(self, section: Section) -> Any:
        """What a section inside a retriever's describes (an encoder, a document scorer, a reranker); equal sections share it."""
        kind = "encoder" if hasattr(section.cls, "encode_documents") else "part"
        return self.once((kind, section.cls, section.config), lambda: section.build(self))

    def scorer(self, section: Section | None) -> DocumentScorer | None:
        """The document scorer that a section describes; None for none."""
        return None if section is None else self.part(section)

    def section(self, name: str) -> Section:
        """The section of a retriever; ConfigError when there is none of this name."""
        if name not in self.sections:
            raise ConfigError(f"no retriever is called {name!r}; there are {', '.join(self.sections)}")
        return self.sections[name]

    def retriever(self, name: str) -> Retriever:
        """The retriever that a section describes; one that has a method `knowing` is given what `know` was told of it."""
        section = self.section(name)
        built = self.once(("retriever", name), lambda: section.build(self))
        if name not in self._known or not hasattr(built, "knowing"):
            return built
        return self.once(("knowing", name), lambda: built.knowing(self._known[name]))

    def know(self, name: str, clues: Mapping[str, Sequence[Clue]] | None) -> None:
        """What the retriever `name` wrote for queries, by their ids: retrievers over it need not have it written again. None: nothing
        is known any more."""
        self._made.pop(("knowing", name), None)
        self._known.pop(name, None)
        if clues is not None:
            self._known[name] = clues

    def run_folder(self, name: str) -> Path:
        """Where the run of a retriever goes; ConfigError where the configuration names no output."""
        if self._output is None:
            raise ConfigError(f"the run of {name!r} needs a folder; set output")
        return Path(self._output) / name

    def once(self, key: Any, make: Callable[[], T]) -> T:
        """What `make` returns, made at the first call with this key (anything hashable)."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]
