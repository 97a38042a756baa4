"""The retriever of this library: a model writes clues under the index, clues name documents.

Puts beam search and scoring together and streams rankings. It sees the model as `LanguageModel` and prompts
as whatever `prompts(query)` returns; it knows nothing of pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from gemkr.decoding.beam import generate_clues
from gemkr.decoding.config import DecodingConfig
from gemkr.decoding.search import Words
from gemkr.interfaces import DocumentScorer, LanguageModel, TokenIndex
from gemkr.retrievers.generative.config import ScoringConfig
from gemkr.retrievers.generative.scoring import ClueDocuments, make_scorer
from gemkr.retrievers.second_pass import merged, second_settings, window
from gemkr.scorers.random_order import RandomOrder
from gemkr.text.tokenizer import Tokenizer
from gemkr.types import Clue, Query, Ranking


class GenerativeRetriever:
    """Ranks documents for queries by the clues that a language model writes for them.

    `prompts(query)` builds what `model.prefill` takes. `second` ranks the documents inside a clue's span;
    without one, `scoring.inside_span = "random"` draws them at random (the same each time) and anything
    else goes by the number of occurrences. With `decoding.second_pass`, each query is decoded again under an index
    of that many documents, the best of the first pass, and ranked by the clues of both.
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
        self.model = model
        self.index = index
        self.tokenizer = tokenizer
        self.prompts = prompts
        self.decoding = decoding or DecodingConfig()
        scoring = scoring or ScoringConfig()
        if second is None and scoring.inside_span == "random":
            second = RandomOrder()
        self._word_start = widened(tokenizer.word_start, index.vocab_size)
        self._words = words_of(tokenizer, index.vocab_size)
        self.scorer = make_scorer(index, scoring, second, self._words.word_break)
        self._lookup = ClueDocuments(index, scoring, second, self._words.word_break)

    def retrieve(self, queries: Iterable[Query], k: int) -> Iterator[Ranking]:
        """Rankings of at most k hits in the order of the queries, as each batch of `batch_size` is done.

        Each hit carries every clue that occurs in its document, with the clue's first place there.
        """
        for batch in batches(queries, self.decoding.batch_size):
            prompts = [self.prompts(query) for query in batch]
            found = self._write(self.index, prompts, self.decoding)
            for query, prompt, clues in zip(batch, prompts, found, strict=True):
                if self.decoding.second_pass and clues:
                    clues = self._look_again(query, prompt, clues)
                yield Ranking(query.query_id, self.scorer.rank(query, clues, k), tuple(clues))

    def _write(self, index: TokenIndex, prompts: Sequence[Any], decoding: DecodingConfig) -> list[list[Clue]]:
        return generate_clues(
            self.model,
            index,
            prompts,
            decoding,
            word_start=self._word_start,
            word_break=self._words.word_break,
            fold=self._words.fold,
            tokenizer=self.tokenizer,
        )

    def _look_again(self, query: Query, prompt: Any, clues: Sequence[Clue]) -> list[Clue]:
        hits = self.scorer.rank(query, clues, self.decoding.second_pass)
        near = window(self.index, self._lookup, query, clues, hits)
        (again,) = self._write(near, [prompt], second_settings(self.decoding))
        return merged(self.index, clues, again)


def batches(queries: Iterable[Query], size: int) -> Iterator[list[Query]]:
    """The queries in lists of `size`, the last one shorter."""
    rest = iter(queries)
    while batch := list(islice(rest, size)):
        yield batch


def word_breaks(tokenizer: Tokenizer) -> np.ndarray:
    """bool[V]: tokens that cannot belong to the word before them: word starts, punctuation, special tokens."""
    breaks = np.array(tokenizer.word_start, dtype=bool)
    for token, piece in enumerate(_pieces(tokenizer)):
        byte = len(piece) == 6 and piece.startswith("<0x")
        if piece and not piece[0].isalnum() and not byte:
            breaks[token] = True
    return breaks


def folded_tokens(tokenizer: Tokenizer) -> np.ndarray:
    """int64[V]: the first token of the vocabulary whose piece is the same but for case."""
    first: dict[str, int] = {}
    pieces = enumerate(_pieces(tokenizer))
    return np.array([first.setdefault(piece.casefold(), token) for token, piece in pieces], dtype=np.int64)


def words_of(tokenizer: Tokenizer, vocab_size: int) -> Words:
    """How a tokenizer's tokens form the heads of clues, for a vocabulary of at least `vocab_size` tokens."""
    fold = folded_tokens(tokenizer)
    beyond = np.arange(len(fold), max(vocab_size, len(fold)), dtype=np.int64)
    return Words(widened(word_breaks(tokenizer), vocab_size), np.concatenate([fold, beyond]))


def widened(flags: np.ndarray, size: int) -> np.ndarray:
    """bool flags of at least `size` tokens; tokens that the tokenizer does not know get False."""
    missing = max(0, size - len(flags))
    return np.concatenate([flags, np.zeros(missing, dtype=bool)]) if missing else flags


def _pieces(tokenizer: Tokenizer) -> Iterator[str]:
    """Every token's piece; "" for ids that a vocabulary leaves out."""
    for token in range(tokenizer.vocab_size):
        try:
            yield tokenizer.piece(token)
        except IndexError:
            yield ""
