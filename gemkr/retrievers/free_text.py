"""The control without an index: the model generates freely, and documents are found by exact search.

Measures what constraining the decoder contributes. Everything but the constraint is as in `generative`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from gemkr.data.documents import allowed_documents
from gemkr.data.queries import batches
from gemkr.decoding.beam import beam_search
from gemkr.decoding.checks import check_settings, check_vocabulary, require_words
from gemkr.decoding.config import DecodingConfig
from gemkr.decoding.constraint import NoConstraint
from gemkr.decoding.matcher import ClueMatcher
from gemkr.decoding.watch import search_watch
from gemkr.errors import ConfigError
from gemkr.fm_index import Span
from gemkr.interfaces import Allowed, DocumentScorer, LanguageModel, TokenIndex, Watch
from gemkr.retrievers.generative.clue_documents import ClueDocuments
from gemkr.retrievers.generative.config import ScoringConfig
from gemkr.retrievers.generative.retriever import GenerativeRetriever
from gemkr.retrievers.generative.scoring import scorer_of
from gemkr.retrievers.generative.shares import from_one_share
from gemkr.text.borders import borders_of
from gemkr.text.tokenizer import Tokenizer
from gemkr.text.words import words_of
from gemkr.types import Clue, Query, Ranking

if TYPE_CHECKING:
    from gemkr.sources import Sources


class FreeTextRetriever:
    """Ranks documents by freely generated texts, each cut to its longest beginning of whole characters that the corpus holds.

    A text whose first token occurs nowhere finds nothing. Equal beginnings count once, with the probability
    of the best text. Settings that need an index (`word_start`, `end_at_word`, `allow_eos`, `stop_at_one_document`, `document_penalty`)
    have no effect here: a model may always end what it writes.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The generative retriever `of`, its decoder not constrained by the index."""

        of: str

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
        check_vocabulary(model, index.vocab_size)
        self.model = model
        self.index = index
        self.tokenizer = tokenizer
        self.prompts = prompts
        self.decoding = decoding or DecodingConfig()
        self._words = words_of(tokenizer, model.vocab_size)
        size = index.vocab_size
        words = borders_of(tokenizer, size, words=True) if self.decoding.ends_at_words else None
        self.lookup = ClueDocuments(index, scoring or ScoringConfig(), second, words)
        self._characters = ClueMatcher(index, borders=borders_of(tokenizer, size, words=False))
        check_settings(self.decoding)
        require_words(self.decoding, self._words.word_break)
        self._watch: Watch | None = None

    @classmethod
    def from_config(cls, config: Config, sources: Sources) -> FreeTextRetriever:
        """The same model, prompts and ranking as the retriever `of`, which is built with it."""
        base = sources.retriever(config.of)
        if not isinstance(base, GenerativeRetriever):
            raise ConfigError(
                f"kind: free_text needs the model of a generative retriever, and {config.of!r} is none; name another in of"
            )
        lookup = base.lookup
        return cls(
            base.model,
            base.index,
            base.tokenizer,
            base.prompts,
            base.decoding,
            lookup.settings,
            lookup.second,
        )

    @staticmethod
    def input_files(config: Config) -> dict[str, str | None]:
        """Nothing besides what the retriever `of` reads."""
        return {}

    def watched(self, watch: Watch) -> FreeTextRetriever:
        """This retriever, its texts looked at while they grow; all parts are shared."""
        other = copy.copy(self)
        other._watch = watch
        return other

    def retrieve(self, queries: Iterable[Query], k: int, *, allowed: Allowed = None) -> Iterator[Ranking]:
        """Rankings in the order of the queries; a query none of whose texts occurs gets no hits."""
        lookup = self.lookup
        if allowed is not None:
            lookup = lookup.within(allowed_documents(self.index.doc_ids, allowed))
        scorer = scorer_of(lookup)
        constraint = NoConstraint(self.model.eos_token_ids, self.decoding.min_tokens)

        def answer(batch: Sequence[Query]) -> Iterator[Ranking]:
            prompts = [self.prompts(query) for query in batch]
            watch = search_watch(self._watch, batch, self.tokenizer)
            found = beam_search(
                self.model, constraint, prompts, self.decoding, words=self._words, watch=watch
            )
            for query, texts in zip(batch, found, strict=True):
                clues = self._clues([(t.tokens, t.log_prob, t.score) for t in texts])
                yield Ranking(query.query_id, scorer.rank(query, clues, k), tuple(clues))

        for batch in batches(queries, self.decoding.batch_size):
            yield from from_one_share(self.index, partial(answer, batch))

    def _clues(self, texts: Sequence[tuple[tuple[int, ...], float, float]]) -> list[Clue]:
        clues: dict[tuple[int, ...], Clue] = {}
        for tokens, log_prob, score in texts:
            known, span = self._longest_beginning(tokens)
            if known and known not in clues:
                clues[known] = Clue(known, self.tokenizer.decode(known), log_prob, score, span)
        return list(clues.values())

    def _longest_beginning(self, tokens: tuple[int, ...]) -> tuple[tuple[int, ...], Span]:
        spans, borders = [self.index.root], self._characters.borders
        for token in tokens:
            known = (
                token < len(borders.texts) and (borders.texts if len(spans) > 1 else borders.begins)[token]
            )
            longer = self.index.extend(spans[-1], token) if known else None
            if not longer:
                break
            spans.append(longer)
        while len(spans) > 1 and not self._may_end(spans[-1], tokens[len(spans) - 2]):
            spans.pop()
        return tokens[: len(spans) - 1], spans[-1]

    def _may_end(self, span: Span, last: int) -> bool:
        lo, hi, end = np.array([[span.lo], [span.hi], [last]], dtype=np.int64)
        return bool(self._characters.endings(lo, hi, end)[0])
