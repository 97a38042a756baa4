"""The retriever of this library: a model writes clues under the index, clues name documents.

Puts beam search and ranking together and streams rankings. It sees the model as `LanguageModel` and prompts as whatever
`prompts(query)` returns.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from gemkr.config.section import section_files
from gemkr.data.documents import allowed_documents
from gemkr.data.queries import batches
from gemkr.decoding.config import DecodingConfig
from gemkr.decoding.watch import search_watch
from gemkr.interfaces import Allowed, DocumentScorer, LanguageModel, TokenIndex, Watch
from gemkr.models.writers.config import writer_files
from gemkr.retrievers.generative.clue_documents import ClueDocuments
from gemkr.retrievers.generative.config import GenerativeConfig, ScoringConfig
from gemkr.retrievers.generative.scoring import scorer_of
from gemkr.retrievers.generative.shares import from_one_share
from gemkr.text.borders import borders_of
from gemkr.text.index_tokenizer import tokenizer_of
from gemkr.text.tokenizer import Tokenizer
from gemkr.text.words import Words, widened, words_of
from gemkr.types import Clue, Query, Ranking

if TYPE_CHECKING:
    from gemkr.decoding.device_search import OnDevice
    from gemkr.sources import Sources


class GenerativeRetriever:
    """Ranks documents for queries by the clues that a language model writes for them.

    `prompts(query)` builds what `model.prefill` takes. `second` ranks the documents inside a clue's span; without one the
    number of occurrences does.
    """

    Config = GenerativeConfig
    reads_pictures = True

    def __init__(
        self,
        model: LanguageModel,
        index: TokenIndex,
        tokenizer: Tokenizer,
        prompts: Callable[[Query], Any],
        decoding: DecodingConfig | None = None,
        scoring: ScoringConfig | None = None,
        second: DocumentScorer | None = None,
    ) -> None:
        self.model = model
        self.index = index
        self.tokenizer = tokenizer
        self.prompts = prompts
        self.decoding = decoding or DecodingConfig()
        self.word_start = widened(tokenizer.word_start, index.vocab_size)
        self.words: Words = words_of(tokenizer, index.vocab_size)
        words = self.decoding.ends_at_words
        self.borders = borders_of(tokenizer, index.vocab_size, words=words)
        self.lookup = ClueDocuments(
            index, scoring or ScoringConfig(), second, self.borders if words else None
        )
        self.scorer = scorer_of(self.lookup)
        self._on_device: OnDevice | None = None
        if self.decoding.engine != "host":
            from gemkr.decoding.beam import put_on_device

            self._on_device = put_on_device(
                model, index, self.decoding, word_start=self.word_start, borders=self.borders
            )
        self._watch: Watch | None = None
        self._known: Mapping[str, Sequence[Clue]] = {}

    @classmethod
    def from_config(cls, config: GenerativeConfig, sources: Sources) -> GenerativeRetriever:
        """Loads and checks all parts, the cheap ones before the model."""
        from gemkr.retrievers.generative.parts import check_parts, load_parts
        from gemkr.training.checkpoints.learned import warn_of_long_clues, warn_of_other_corpus

        index = check_parts(config, sources)
        for model in (config.model, *config.ensemble):
            warn_of_long_clues(model, config.decoding.max_tokens)
            warn_of_other_corpus(model, index)
        parts = load_parts(config, sources)
        second = sources.scorer(config.scoring.inside_span)
        return cls(
            parts.model, parts.index, parts.tokenizer, parts.prompts, config.decoding, config.scoring, second
        )

    @staticmethod
    def input_files(config: GenerativeConfig) -> dict[str, str | None]:
        """Every path that index, models and document scorer are read from."""
        files = {"index": config.index, **_prefixed("model", writer_files(config.model))}
        for number, member in enumerate(config.ensemble):
            files |= _prefixed(f"ensemble.{number}", writer_files(member))
        return files | _prefixed("scoring.inside_span", section_files(config.scoring.inside_span))

    def watched(self, watch: Watch) -> GenerativeRetriever:
        """This retriever, its clues looked at while they grow; all parts are shared."""
        other = copy.copy(self)
        other._watch = watch
        return other

    def knowing(self, clues: Mapping[str, Sequence[Clue]]) -> GenerativeRetriever:
        """This retriever, which ranks by `clues` for the queries of these ids, and has none written for them; all parts are shared.
        Over shards that may be lost it knows nothing, as spans there belong to one state of them."""
        if hasattr(self.index, "lost"):
            return self
        other = copy.copy(self)
        other._known = clues
        return other

    def retrieve(self, queries: Iterable[Query], k: int, *, allowed: Allowed = None) -> Iterator[Ranking]:
        """Rankings of at most k hits in the order of the queries, as each batch of `batch_size` is done.

        Each hit carries every clue that occurs in its document, with the clue's first place there.
        """
        scorer = self.scorer
        if allowed is not None:
            scorer = scorer_of(self.lookup.within(allowed_documents(self.index.doc_ids, allowed)))

        def answer(batch: Sequence[Query]) -> Iterator[Ranking]:
            new = [query for query in batch if query.query_id not in self._known]
            written = iter(self._written(new))
            for query in batch:
                known = self._known.get(query.query_id)
                clues = next(written) if known is None else known
                yield Ranking(query.query_id, scorer.rank(query, clues, k), tuple(clues))

        for batch in batches(queries, self.decoding.batch_size):
            yield from from_one_share(self.index, partial(answer, batch))

    def _written(self, queries: Sequence[Query]) -> list[list[Clue]]:
        if not queries:
            return []
        from gemkr.decoding.beam import generate_clues

        return generate_clues(
            self.model,
            self.index,
            [self.prompts(query) for query in queries],
            self.decoding,
            word_start=self.word_start,
            word_break=self.words.word_break,
            fold=self.words.fold,
            borders=self.borders,
            tokenizer=self.tokenizer,
            watch=search_watch(self._watch, queries, self.tokenizer),
            on_device=self._on_device,
        )


def clue_documents(config: GenerativeConfig, scoring: ScoringConfig, sources: Sources) -> ClueDocuments:
    """The documents of a retriever's clues under `scoring`, without its model."""
    index, borders = sources.index(config.index), None
    if config.decoding.ends_at_words:
        tokenizer = tokenizer_of(index, sources.tokenizer(config.model))
        borders = borders_of(tokenizer, index.vocab_size, words=True)
    return ClueDocuments(index, scoring, sources.scorer(scoring.inside_span), borders)


def _prefixed(prefix: str, files: dict[str, str | None]) -> dict[str, str | None]:
    return {f"{prefix}.{what}": path for what, path in files.items()}
