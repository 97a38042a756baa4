"""The material of one evaluation, each part loaded when first asked for: queries, documents, index, model, scorers.

Knows files and checks that they belong together; who is built from them stands in `factory`.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from gemkr.data.corpus import BadRows
from gemkr.data.documents import DocumentStore
from gemkr.data.queries import read_queries
from gemkr.errors import ConfigError
from gemkr.evaluation.config import EvalConfig
from gemkr.interfaces import DocumentScorer
from gemkr.scorers.blend import Blend
from gemkr.scorers.bm25 import BM25
from gemkr.scorers.random_order import RandomOrder
from gemkr.text.tokenizer import Tokenizer, load_tokenizer
from gemkr.types import Query

if TYPE_CHECKING:
    from benchmarks.okvqa.learned_scorer import LearnedScorer
    from benchmarks.okvqa.opponents import OpponentParts
    from gemkr.fm_index import FMIndex
    from gemkr.models.gemkr.network import GeMKR
    from gemkr.vision.pictures import PictureFolder
    from gemkr.vision.store import RegionStore


LEARNED = ("learned", "learned+bm25")
INSIDE_SPAN = ("bm25", *LEARNED, "random", "occurrences")
BM25_SHARE = 0.2
"""In `learned+bm25`, chosen on held-out training questions of OK-VQA."""


class Sources:
    """The material of one configuration, each part loaded when first asked for and only once."""

    def __init__(self, config: EvalConfig) -> None:
        self.config = config

    @cached_property
    def queries(self) -> list[Query]:
        """The queries, the first `limit` of them."""
        return list(read_queries(self.config.queries))[: self.config.limit]

    @cached_property
    def documents(self) -> DocumentStore:
        """The documents of the corpus; bad rows are passed over where the index was built without them, and raise else."""
        if self.config.index is None:
            return DocumentStore.open(self.config.corpus)
        bad = BadRows()
        documents = DocumentStore.open(self.config.corpus, skip_bad_rows=bad)
        if bad:
            from gemkr.fm_index import FMIndex

            documents.require_same_documents(FMIndex.load(self.config.index).doc_ids)
        return documents

    @cached_property
    def bm25(self) -> BM25:
        return BM25(self.documents)

    @cached_property
    def index(self) -> FMIndex:
        """The FM-index; raises DataError unless it was built from the corpus of the configuration."""
        from gemkr.fm_index import FMIndex

        if self.config.index is None:
            raise ConfigError(
                f"the retriever {self.config.retriever!r} needs an index; set index to a file made by gemkr index build"
            )
        index = FMIndex.load(self.config.index)
        self.documents.require_same_documents(index.doc_ids)
        return index

    @cached_property
    def pictures(self) -> PictureFolder | None:
        from gemkr.vision.pictures import PictureFolder

        return None if self.config.images is None else PictureFolder(self.config.images)

    @cached_property
    def regions(self) -> RegionStore | None:
        from gemkr.vision.store import RegionStore

        return None if self.config.regions is None else RegionStore.open(self.config.regions)

    @cached_property
    def model(self) -> GeMKR:
        """The network with its trained parameters, on a GPU where there is one."""
        if self.config.model is None:
            raise ConfigError(
                f"the retriever {self.config.retriever!r} needs a model; add the section 'model'"
            )
        from gemkr.training.checkpoints.trained import load_model

        return load_model(self.config.model)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer, without the model."""
        if self.config.model is None:
            raise ConfigError(
                "scoring.whole_words needs a tokenizer; add the section 'model' or set it to false"
            )
        return load_tokenizer(self.config.model.tokenizer or self.config.model.llm)

    @cached_property
    def opponents(self) -> OpponentParts:
        """What the simple opponents learn from the training queries."""
        from benchmarks.okvqa.opponents import OpponentParts

        return OpponentParts(self)

    @cached_property
    def learned_scorer(self) -> LearnedScorer:
        """The learned second scorer, learned where it has not been yet; ConfigError when the configuration has none, DataError
        when it would learn from the queries that it is asked."""
        from benchmarks.okvqa.learned_training import learned_scorer
        from benchmarks.okvqa.opponents import require_apart

        settings = self.config.learned_scorer
        if settings is None:
            raise ConfigError(
                "the learned scorer needs training queries and a text encoder; add the section 'learned_scorer'"
            )
        train = list(read_queries(settings.train))
        require_apart(train, self.queries, settings.train, "learned_scorer.train")
        return learned_scorer(train, self.documents, self.bm25, settings, Path(self.config.output))

    @property
    def second(self) -> DocumentScorer | None:
        """The second scorer that `scoring.inside_span` names; raises as `require_second`."""
        self.require_second()
        return self.inside_span(self.config.scoring.inside_span)

    def require_second(self) -> None:
        """ConfigError for a second scorer that is unknown or has no section; learns and loads nothing."""
        name = self.config.scoring.inside_span
        if name not in INSIDE_SPAN:
            raise ConfigError(f"scoring.inside_span is {name!r}; known are {', '.join(INSIDE_SPAN)}")
        if name in LEARNED and self.config.learned_scorer is None:
            raise ConfigError(
                f"scoring.inside_span is {name!r}, which needs training queries and a text encoder; add the section "
                "'learned_scorer', or set it to bm25"
            )

    def inside_span(self, name: str) -> DocumentScorer | None:
        """A second scorer by name; None for the number of occurrences, which scorers know themselves."""
        if name == "random":
            return RandomOrder()
        if name == "learned":
            return self.learned_scorer
        if name == "learned+bm25":
            return Blend(self.learned_scorer, self.bm25, BM25_SHARE)
        return self.bm25 if name == "bm25" else None
