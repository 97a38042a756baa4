"""From an evaluation's configuration to a retriever: takes the parts from `Sources`, and checks that they belong together.

Every check runs before the first query. Ranking and decoding live elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from gemkr.errors import ConfigError, ModelError
from gemkr.evaluation.config import EvalConfig
from gemkr.retrievers.generative.config import ScoringConfig
from gemkr.retrievers.generative.scoring import ClueDocuments, Scorer, scorer_of
from gemkr.retrievers.lexical import BM25Retriever
from gemkr.retrievers.sources import LEARNED, Sources
from gemkr.text.tokenization import require_same_texts

if TYPE_CHECKING:
    from benchmarks.okvqa.expert_alone import ExpertAloneRetriever
    from benchmarks.okvqa.learned_retriever import LearnedScorerRetriever
    from gemkr.fm_index import FMIndex
    from gemkr.models.gemkr.network import GeMKR
    from gemkr.retrievers.free_text import FreeTextRetriever
    from gemkr.retrievers.generative.retriever import GenerativeRetriever
    from gemkr.retrievers.rescored import RescoredRetriever


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
    from gemkr.retrievers.generative.retriever import GenerativeRetriever

    return _generative(GenerativeRetriever, config, sources)


def free_text(config: EvalConfig, sources: Sources) -> FreeTextRetriever:
    """The control: the same model, decoding without the index."""
    from gemkr.retrievers.free_text import FreeTextRetriever

    return _generative(FreeTextRetriever, config, sources)


def random_in_span(config: EvalConfig, sources: Sources) -> RescoredRetriever:
    """The same clues, a document drawn from the span of each."""
    from gemkr.retrievers.generative.random_document import DrawnScorer

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
    """The learned second scorer by itself, over the whole corpus; with BM25's share where spans are ranked so."""
    from benchmarks.okvqa.learned_retriever import LearnedScorerRetriever

    name = config.scoring.inside_span
    scorer = sources.inside_span(name if name in LEARNED else "learned")
    return LearnedScorerRetriever(scorer, sources.documents.doc_ids)


def expert_alone(config: EvalConfig, sources: Sources) -> ExpertAloneRetriever:
    """The answer expert without the models: its guesses as clues, ranked as theirs are."""
    from benchmarks.okvqa.expert_alone import ExpertAloneRetriever
    from benchmarks.okvqa.together import expert_guesser
    from gemkr.retrievers.saved_clues import clue_documents

    if config.answer_expert is None:
        raise ConfigError("expert_alone needs an answer expert; add the section 'answer_expert'")
    index, tokenizer = sources.index, sources.tokenizer
    index.check_tokenizer(tokenizer)
    guesser, scorer = expert_guesser(config, sources), scorer_of(clue_documents(config, sources))
    return ExpertAloneRetriever(guesser, tokenizer, index, scorer, guesses=config.answer_expert.guesses)


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
    from benchmarks.okvqa.together import writing_together
    from gemkr.decoding.beam import check_settings
    from gemkr.training.checkpoints.trained import warn_of_long_clues

    check_settings(config.decoding)
    if config.model is not None:
        warn_of_long_clues(config.model, config.decoding.max_tokens)
    sources.require_second()
    index = sources.index
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
    return kind(writer, index, model.tokenizer, prompts, config.decoding, config.scoring, sources.second)


def _rescored(
    config: EvalConfig,
    sources: Sources,
    make: Callable[[ClueDocuments], Scorer] = scorer_of,
    **changes: str | float,
) -> RescoredRetriever:
    """The clues of the configuration's own run under another scorer."""
    from gemkr.retrievers.rescored import RescoredRetriever
    from gemkr.retrievers.saved_clues import clue_documents, recorded_clues

    clues = recorded_clues(config.output, sources.index)
    lookup = clue_documents(config, sources, replace(config.scoring, **changes))
    return RescoredRetriever(clues, make(lookup))
