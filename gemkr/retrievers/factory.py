"""From an evaluation's configuration to a retriever: loads the parts, and checks that they belong together.

Every check runs before the first query. Knows files; ranking and decoding live elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from gemkr.config import EvalConfig, ScoringConfig
from gemkr.corpus import BadRows
from gemkr.documents import DocumentStore
from gemkr.errors import ConfigError, ModelError
from gemkr.interfaces import Reranker
from gemkr.queries import read_queries
from gemkr.rerankers.blend import Blend
from gemkr.rerankers.bm25 import BM25
from gemkr.rerankers.random_order import RandomOrder
from gemkr.retrievers.bm25 import BM25Retriever
from gemkr.retrievers.scoring import ClueDocuments, Scorer, scorer_of
from gemkr.tokenization import require_same_texts
from gemkr.tokenizer import Tokenizer, load_tokenizer
from gemkr.types import Query

if TYPE_CHECKING:
    from gemkr.fm_index import FMIndex
    from gemkr.models.gemkr import GeMKR
    from gemkr.rerankers.learned import LearnedScorer
    from gemkr.retrievers.free_text import FreeTextRetriever
    from gemkr.retrievers.generative import GenerativeRetriever
    from gemkr.retrievers.learned import LearnedScorerRetriever
    from gemkr.retrievers.opponents import OpponentParts
    from gemkr.retrievers.rescored import RescoredRetriever
    from gemkr.vision.pictures import PictureFolder
    from gemkr.vision.store import RegionStore


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
        from gemkr.training.trained import load_model

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
        from gemkr.retrievers.opponents import OpponentParts

        return OpponentParts(self)

    @cached_property
    def learned_scorer(self) -> LearnedScorer:
        """The learned second scorer, learned where it has not been yet; ConfigError when the configuration has none, DataError
        when it would learn from the queries that it is asked."""
        from gemkr.rerankers.learned_training import learned_scorer
        from gemkr.retrievers.opponents import require_apart

        settings = self.config.learned_scorer
        if settings is None:
            raise ConfigError(
                "the learned scorer needs training queries and a text encoder; add the section 'learned_scorer'"
            )
        train = list(read_queries(settings.train))
        require_apart(train, self.queries, settings.train, "learned_scorer.train")
        return learned_scorer(train, self.documents, self.bm25, settings, Path(self.config.output))

    @property
    def second(self) -> Reranker | None:
        """The second scorer that `scoring.inside_span` names."""
        return self.inside_span(self.config.scoring.inside_span)

    def inside_span(self, name: str) -> Reranker | None:
        """A second scorer by name; None for the number of occurrences, which scorers know themselves."""
        if name not in INSIDE_SPAN:
            raise ConfigError(f"scoring.inside_span is {name!r}; known are {', '.join(INSIDE_SPAN)}")
        if name == "random":
            return RandomOrder()
        if name == "learned":
            return self.learned_scorer
        if name == "learned+bm25":
            return Blend(self.learned_scorer, self.bm25, BM25_SHARE)
        return self.bm25 if name == "bm25" else None


INSIDE_SPAN = ("bm25", "learned", "learned+bm25", "random", "occurrences")
BM25_SHARE = 0.2
"""In `learned+bm25`, chosen on held-out training questions of OK-VQA."""
BARELY = 1e-9
"""The weight of a second scorer that is to decide among equals only."""


def require_compatible(index: FMIndex, model: GeMKR) -> None:
    """Raise unless an index can steer a model: same tokenizer, vocabulary not wider than the logits."""
    index.check_tokenizer(model.tokenizer)
    if index.vocab_size > model.vocab_size:
        raise ModelError(
            f"the index has a vocabulary of {index.vocab_size} tokens, the model's logits have {model.vocab_size}; "
            "build the index with the model's tokenizer"
        )


def generative(config: EvalConfig, sources: Sources) -> GenerativeRetriever:
    """The model under the index."""
    from gemkr.retrievers.generative import GenerativeRetriever

    return _generative(GenerativeRetriever, config, sources)


def free_text(config: EvalConfig, sources: Sources) -> FreeTextRetriever:
    """The control: the same model, decoding without the index."""
    from gemkr.retrievers.free_text import FreeTextRetriever

    return _generative(FreeTextRetriever, config, sources)


def random_in_span(config: EvalConfig, sources: Sources) -> RescoredRetriever:
    """The same clues, a document drawn from the span of each."""
    from gemkr.retrievers.drawn import DrawnScorer

    return _rescored(config, sources, DrawnScorer)


def coverage_alone(config: EvalConfig, sources: Sources) -> RescoredRetriever:
    """The same clues under greedy coverage without a second scorer: among documents that hold the same clues, a random one."""
    return _rescored(config, sources, method="coverage", inside_span="random", second_weight=BARELY)


def rescored_reference(config: EvalConfig, sources: Sources) -> RescoredRetriever:
    """The same clues, the published ranking: the first document of each."""
    return _rescored(config, sources, method="reference")


def rescored_seal(config: EvalConfig, sources: Sources) -> RescoredRetriever:
    """The same clues under SEAL's weights."""
    return _rescored(config, sources, method="seal")


def rescored_coverage(config: EvalConfig, sources: Sources) -> RescoredRetriever:
    """The same clues under greedy coverage."""
    return _rescored(config, sources, method="coverage")


def rescored_bm25(config: EvalConfig, sources: Sources) -> RescoredRetriever:
    """The same clues under greedy coverage with BM25 inside the span, at its usual weight."""
    weight = ScoringConfig().second_weight
    return _rescored(config, sources, method="coverage", inside_span="bm25", second_weight=weight)


def learned_scorer(config: EvalConfig, sources: Sources) -> LearnedScorerRetriever:
    """The learned second scorer by itself, over the whole corpus."""
    from gemkr.retrievers.learned import LearnedScorerRetriever

    return LearnedScorerRetriever(sources.learned_scorer, sources.documents.doc_ids)


def bm25(config: EvalConfig, sources: Sources) -> BM25Retriever:
    """BM25 of the question."""
    return BM25Retriever(sources.bm25, sources.documents.doc_ids)


def bm25_caption(config: EvalConfig, sources: Sources) -> BM25Retriever:
    """BM25 of question and caption."""
    return BM25Retriever(sources.bm25, sources.documents.doc_ids, caption=True)


def bm25_detections(config: EvalConfig, sources: Sources) -> BM25Retriever:
    """BM25 of question, caption and detected labels."""
    return BM25Retriever(sources.bm25, sources.documents.doc_ids, caption=True, detections=True)


def _generative(kind, config: EvalConfig, sources: Sources):
    """Either generative retriever, after all checks; the cheap parts are looked at before the model is loaded."""
    from gemkr.decoding.beam import check_settings
    from gemkr.retrievers.together import writing_together

    check_settings(config.decoding)
    index, second = sources.index, sources.second
    pictures = regions = None
    if config.model is not None and config.model.tower is not None and config.images is not None:
        pictures, regions = sources.pictures, sources.regions
        from gemkr.vision.pictures import require_pictures

        require_pictures(sources.queries, pictures, regions)
    model = sources.model
    require_compatible(index, model)
    require_same_texts(index, sources.documents.contents, model.tokenizer)

    def prompts_of(member: GeMKR):
        build = member.input_builder(pictures, regions, max_prompt_tokens=config.max_prompt_tokens)
        return lambda query: build(query, form=config.form)

    writer, prompts = writing_together(model, prompts_of, config, sources)
    return kind(writer, index, model.tokenizer, prompts, config.decoding, config.scoring, second)


def _rescored(
    config: EvalConfig,
    sources: Sources,
    make: Callable[[ClueDocuments], Scorer] = scorer_of,
    **changes: str | float,
) -> RescoredRetriever:
    """The clues of the configuration's own run under another scorer."""
    from gemkr.retrievers.recorded import clue_documents, recorded_clues
    from gemkr.retrievers.rescored import RescoredRetriever

    clues = recorded_clues(config.output, sources.index)
    lookup = clue_documents(config, sources, replace(config.scoring, **changes))
    return RescoredRetriever(clues, make(lookup))
