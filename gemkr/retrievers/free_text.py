"""The control without an index: the model writes whatever it likes, and documents are found by exact search.

Shows what constraining the decoder is worth. Everything but the constraint is as in `generative`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from gemkr.decoding.beam import beam_search, check_settings, require_words
from gemkr.decoding.config import DecodingConfig
from gemkr.decoding.constraint import NoConstraint, check_vocabulary
from gemkr.fm_index import Span
from gemkr.interfaces import DocumentScorer, LanguageModel, TokenIndex
from gemkr.retrievers.generative.config import ScoringConfig
from gemkr.retrievers.generative.retriever import batches, words_of
from gemkr.retrievers.generative.scoring import make_scorer
from gemkr.scorers.random_order import RandomOrder
from gemkr.text.tokenizer import Tokenizer
from gemkr.types import Clue, Query, Ranking


class FreeTextRetriever:
    """Ranks documents by freely generated texts, each cut to its longest beginning that the corpus holds.

    A text whose first token occurs nowhere finds nothing. Equal beginnings count once, with the probability
    of the best text. Settings that need an index (`word_start`, `allow_eos`, `stop_at_one_document`, `document_penalty`,
    `count_prior`, `second_pass`) have no effect here: a model may always end what it writes.
    """

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
        scoring = scoring or ScoringConfig()
        if second is None and scoring.inside_span == "random":
            second = RandomOrder()
        self._words = words_of(tokenizer, model.vocab_size)
        self.scorer = make_scorer(index, scoring, second, self._words.word_break)
        check_settings(self.decoding)
        require_words(self.decoding, self._words.word_break)

    def retrieve(self, queries: Iterable[Query], k: int) -> Iterator[Ranking]:
        """Rankings in the order of the queries; a query none of whose texts occurs gets no hits."""
        constraint = NoConstraint(self.model.eos_token_ids, self.decoding.min_tokens)
        for batch in batches(queries, self.decoding.batch_size):
            prompts = [self.prompts(query) for query in batch]
            found = beam_search(self.model, constraint, prompts, self.decoding, words=self._words)
            for query, texts in zip(batch, found, strict=True):
                clues = self._clues([(t.tokens, t.log_prob, t.score) for t in texts])
                yield Ranking(query.query_id, self.scorer.rank(query, clues, k), tuple(clues))

    def _clues(self, texts: Sequence[tuple[tuple[int, ...], float, float]]) -> list[Clue]:
        clues: dict[tuple[int, ...], Clue] = {}
        for tokens, log_prob, score in texts:
            known, span = self._longest_beginning(tokens)
            if known and known not in clues:
                clues[known] = Clue(known, self.tokenizer.decode(known), log_prob, score, span)
        return list(clues.values())

    def _longest_beginning(self, tokens: tuple[int, ...]) -> tuple[tuple[int, ...], Span]:
        span = self.index.root
        for place, token in enumerate(tokens):
            longer = self.index.extend(span, token)
            if not longer:
                return tokens[:place], span
            span = longer
        return tokens, span
