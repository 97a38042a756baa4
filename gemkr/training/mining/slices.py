"""The slices of a passage that make clues: from the beginning of a word to the end of one, no longer than need be. No torch."""

from __future__ import annotations

from gemkr.data.clues import MinedClue
from gemkr.text.tokenizer import Tokenizer
from gemkr.training.mining.material import MinedDocuments, MinedIndex
from gemkr.training.mining.passages import Passage, answer_pattern
from gemkr.types import Query


class Slicer:
    """Cuts clues of at most `max_tokens` tokens out of passages; with `full` grown ones take all of them, not just what makes them
    rare."""

    def __init__(
        self,
        index: MinedIndex,
        documents: MinedDocuments,
        tokenizer: Tokenizer,
        max_tokens: int,
        full: bool,
    ) -> None:
        self._index, self._documents = index, documents
        self._word_start: list[bool] = tokenizer.word_start.tolist()
        self._max_tokens, self._full = max_tokens, full

    def short(
        self, query: Query, answer: str, passage: Passage, places: list[tuple[int, int]]
    ) -> MinedClue | None:
        """The first of the `places` of an answer that holds the answer and nothing else."""
        alone = ((i, j) for i, j in places if self._is_alone(passage, i, j, answer))
        return next((self.cut(query, answer, passage, "short", i, j) for i, j in alone), None)

    def long(
        self, query: Query, answer: str, passage: Passage, places: list[tuple[int, int]]
    ) -> MinedClue | None:
        """The best slice that holds the answer: unique, then beginning with it (or near it), then rare, then short."""
        best: tuple[tuple[bool, int, int, int], MinedClue] | None = None
        for head, stop in places:
            for start in range(head, max(stop - self._max_tokens, 0) - 1, -1):
                if not self.is_start(passage, start):
                    continue
                clue = self.grow(query, answer, passage, start, stop)
                if clue is None:
                    continue
                key = (clue.count > 1, head - start, clue.count, len(clue.tokens))
                if best is None or key < best[0]:
                    best = key, clue
                if clue.count == 1:
                    break
        return None if best is None else best[1]

    def grow(
        self, query: Query, answer: str | None, passage: Passage, start: int, least: int
    ) -> MinedClue | None:
        """The rarest slice from `start` to `least` or beyond that ends with a word; the shortest (or longest) of those."""
        span = self._index.root
        best = None
        for stop in range(start + 1, min(start + self._max_tokens, len(passage.tokens)) + 1):
            span = self._index.extend(span, passage.tokens[stop - 1])
            if stop < least or not passage.is_border(stop) or not passage.slice_text(stop - 1, stop):
                continue
            if best is None or span.count < best[1] or self._full:
                best = stop, span.count
            if span.count == 1 and not self._full:
                break
        return None if best is None else self.cut(query, answer, passage, "long", start, best[0], best[1])

    def cut(
        self,
        query: Query,
        answer: str | None,
        passage: Passage,
        form: str,
        start: int,
        stop: int,
        count: int | None = None,
    ) -> MinedClue:
        """The clue of a slice; its occurrences are looked up where no `count` is given."""
        tokens = tuple(passage.tokens[start:stop])
        return MinedClue(
            query_id=query.query_id,
            doc_id=self._documents.doc_ids[passage.doc],
            start=start,
            stop=stop,
            tokens=tokens,
            text=passage.slice_text(start, stop),
            form=form,
            count=self._index.search(tokens).count if count is None else count,
            answer=answer,
        )

    def is_start(self, passage: Passage, token: int) -> bool:
        """Whether a word begins with this token."""
        return self._word_start[passage.tokens[token]]

    def _is_alone(self, passage: Passage, start: int, stop: int, answer: str) -> bool:
        """Whether a slice is a short clue: the answer and nothing else, from the beginning of a word to the end of one."""
        return (
            stop - start <= self._max_tokens
            and self.is_start(passage, start)
            and passage.is_border(stop)
            and answer_pattern(answer).fullmatch(passage.slice_text(start, stop)) is not None
        )
