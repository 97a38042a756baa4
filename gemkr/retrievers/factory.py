"""From an evaluation's configuration to a retriever: loads the parts, and checks that they belong together.

Every check runs before the first query. Knows files; ranking and decoding live elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property
from typing import TYPE_CHECKING

from gemkr.config import EvalConfig, ModelConfig
from gemkr.documents import DocumentStore
from gemkr.errors import CheckpointError, ConfigError, DataError, ModelError, VisionError
from gemkr.interfaces import Reranker
from gemkr.queries import read_queries
from gemkr.rerankers.bm25 import BM25
from gemkr.rerankers.random_order import RandomOrder
from gemkr.retrievers.bm25 import BM25Retriever
from gemkr.tokenizer import Tokenizer, load_tokenizer
from gemkr.types import Query

if TYPE_CHECKING:
    from gemkr.fm_index import FMIndex
    from gemkr.models.gemkr import GeMKR
    from gemkr.retrievers.free_text import FreeTextRetriever
    from gemkr.retrievers.generative import GenerativeRetriever
    from gemkr.retrievers.opponents import OpponentParts
    from gemkr.retrievers.rescored import RescoredRetriever
    from gemkr.vision.pictures import PictureFolder
    from gemkr.vision.store import RegionStore

SHAPING = ("tower", "prefix", "visual_tokens", "text_encoder", "prompt", "lora")
"""Model settings that must be those of the training run; others (paths, precision) may change."""
PATHS = ("config", "weights", "folder", "template", "dropout")
"""Settings inside them that may differ: where files lie, and what decoding has no use for."""


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
        return DocumentStore.open(self.config.corpus)

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
        return self.bm25 if name == "bm25" else None


INSIDE_SPAN = ("bm25", "random", "occurrences")


def load_model(config: ModelConfig) -> GeMKR:
    """Load base models and the checkpoint's trained parameters, ready to decode.

    Raises CheckpointError when the checkpoint was trained with another tokenizer, or with other settings of what the
    model is and is shown (tower, prefix, visual tokens, text encoder, prompt, LoRA).
    """
    import torch

    from gemkr.models.gemkr import load_gemkr
    from gemkr.training.checkpoint import read_checkpoint
    from gemkr.training.origin import require_text_encoder, require_tokenizer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if config.checkpoint is None:
        return load_gemkr(config, device=device)
    checkpoint = read_checkpoint(config.checkpoint)
    _require_same_shape(config, checkpoint.origin.config.get("model") or {}, config.checkpoint)
    model = load_gemkr(config, device=device, weights=checkpoint.weights)
    require_tokenizer(checkpoint.origin, model.tokenizer.fingerprint(), config.checkpoint)
    encoder = model.text_encoder
    require_text_encoder(checkpoint.origin, encoder and encoder.frozen_fingerprint(), config.checkpoint)
    return model


def require_compatible(index: FMIndex, model: GeMKR) -> None:
    """Raise unless an index can steer a model: same tokenizer, vocabulary not wider than the logits."""
    index.check_tokenizer(model.tokenizer)
    if index.vocab_size > model.vocab_size:
        raise ModelError(
            f"the index has a vocabulary of {index.vocab_size} tokens, the model's logits have {model.vocab_size}; "
            "build the index with the model's tokenizer"
        )


def require_pictures(
    queries: Sequence[Query], pictures: PictureFolder | None, regions: RegionStore | None
) -> None:
    """Raise DataError when a query's picture is not in the folder, or has no region features."""
    wanted = list(dict.fromkeys(query.image for query in queries if query.image is not None))
    if pictures is not None:
        absent = [image for image in wanted if not _there(pictures, image)]
        _refuse(absent, wanted, f"are not in {pictures.folder}", "add them")
    if regions is not None:
        absent = [image for image in wanted if image not in regions]
        _refuse(
            absent,
            wanted,
            f"have no features in {regions.path}",
            "run gemkr regions detect and encode over them",
        )


def generative(config: EvalConfig, sources: Sources) -> GenerativeRetriever:
    """The model under the index."""
    from gemkr.retrievers.generative import GenerativeRetriever

    return _generative(GenerativeRetriever, config, sources)


def free_text(config: EvalConfig, sources: Sources) -> FreeTextRetriever:
    """The control: the same model, decoding without the index."""
    from gemkr.retrievers.free_text import FreeTextRetriever

    return _generative(FreeTextRetriever, config, sources)


def rescored_random(config: EvalConfig, sources: Sources) -> RescoredRetriever:
    """The same clues and scorer, documents inside a span in random order."""
    return _rescored(config, sources, inside_span="random")


def rescored_reference(config: EvalConfig, sources: Sources) -> RescoredRetriever:
    """The same clues, the published ranking: the first document of each."""
    return _rescored(config, sources, method="reference")


def rescored_seal(config: EvalConfig, sources: Sources) -> RescoredRetriever:
    """The same clues under SEAL's weights."""
    return _rescored(config, sources, method="seal")


def rescored_coverage(config: EvalConfig, sources: Sources) -> RescoredRetriever:
    """The same clues under greedy coverage."""
    return _rescored(config, sources, method="coverage")


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
    from gemkr.retrievers.together import writing_together

    index, second = sources.index, sources.second
    pictures = regions = None
    if config.model is not None and config.model.tower is not None and config.images is not None:
        pictures, regions = sources.pictures, sources.regions
        require_pictures(sources.queries, pictures, regions)
    model = sources.model
    require_compatible(index, model)

    def prompts_of(member: GeMKR):
        build = member.input_builder(pictures, regions, max_prompt_tokens=config.max_prompt_tokens)
        return lambda query: build(query, form=config.form)

    writer, prompts = writing_together(model, prompts_of, config, sources)
    return kind(writer, index, model.tokenizer, prompts, config.decoding, config.scoring, second)


def _rescored(config: EvalConfig, sources: Sources, **changes: str) -> RescoredRetriever:
    from gemkr.retrievers.recorded import clue_documents, recorded_clues
    from gemkr.retrievers.rescored import RescoredRetriever
    from gemkr.retrievers.scoring import scorer_of

    clues = recorded_clues(config.output)
    lookup = clue_documents(config, sources, replace(config.scoring, **changes))
    return RescoredRetriever(clues, scorer_of(lookup))


def _require_same_shape(config: ModelConfig, trained: dict, where: str) -> None:
    ours, theirs = _shape(asdict(config)), _shape(trained)
    for name, value in theirs.items():
        if ours.get(name) != value:
            raise CheckpointError(
                f"the checkpoint {where} was trained with model.{name} = {value}, this configuration has "
                f"{ours.get(name)}; use the settings it was trained with"
            )


def _shape(model: dict) -> dict:
    """The settings that training fixed, by dotted name; a section that is null counts as one value."""
    shape = {}
    for section in SHAPING:
        values = model.get(section)
        if isinstance(values, dict):
            shape |= {f"{section}.{name}": value for name, value in values.items() if name not in PATHS}
        elif section in model:
            shape[section] = values
    return shape


def _there(pictures: PictureFolder, image: str) -> bool:
    try:
        pictures.path(image)
    except VisionError:
        return False
    return True


def _refuse(absent: list[str], wanted: list[str], what: str, way_out: str) -> None:
    if absent:
        raise DataError(
            f"{len(absent)} of the {len(wanted)} pictures of the queries {what}, such as {absent[0]!r}; {way_out}"
        )
