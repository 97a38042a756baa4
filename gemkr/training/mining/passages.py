"""Documents as tokens and text at once: where an answer stands, and where words end. No torch."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from gemkr.errors import TokenizerError
from gemkr.text.borders import is_border
from gemkr.text.normalize import normalize
from gemkr.text.offsets import TokenOffsets
from gemkr.text.tokenizer import Tokenizer, text_read
from gemkr.training.mining.material import MinedDocuments, MinedIndex

CACHED_PASSAGES = 4096
CACHED_ANSWERS = 65_536


@dataclass(frozen=True, slots=True)
class Passage:
    """A document as n tokens and the text that they were made of: token i begins at character starts[i]; starts has n + 1
    entries. Lists, as the miner asks for one number at a time."""

    doc: int
    tokens: list[int]
    starts: list[int]
    text: str

    def is_border(self, token: int) -> bool:
        """Whether a word (and a character) ends before this token."""
        if token == 0 or token == len(self.tokens):
            return True
        at = self.starts[token]
        if at == self.starts[token - 1]:
            return False
        return is_border(self.text, at)

    def slice_text(self, start: int, stop: int) -> str:
        return self.text[self.starts[start] : self.starts[stop]].strip()

    def places(self, answer: str) -> list[tuple[int, int]]:
        """Token ranges that cover the answer as whole words, in any case; the answer may begin inside the first.

        The token of the white space before it belongs to it, where vocabularies write one: `▁`, `1`, `9` for " 19".
        """
        places = []
        for match in answer_pattern(answer).finditer(self.text):
            first = bisect_right(self.starts, match.start()) - 1
            if self.text[self.starts[first] : match.start()].strip() == "":
                while first > 0 and self.starts[first - 1] == self.starts[first]:
                    first -= 1
                if (
                    first > 0
                    and self.starts[first] == match.start()
                    and self.text[match.start() - 1].isspace()
                ):
                    first -= 1
            places.append((first, bisect_left(self.starts, match.end())))
        return places


class PassageReader:
    """Documents of one corpus as passages, under the tokenizer of its index; the latest ones are kept."""

    def __init__(self, index: MinedIndex, documents: MinedDocuments, tokenizer: Tokenizer) -> None:
        self._index, self._documents, self._tokenizer = index, documents, tokenizer
        self._offsets = TokenOffsets(tokenizer)
        self._kept: dict[int, Passage] = {}
        self.text = lru_cache(CACHED_PASSAGES)(self._text)

    def read(self, doc: int) -> Passage:
        """TokenizerError when the index holds other tokens of the document."""
        if doc not in self._kept:
            self.read_ahead([doc])
        return self._kept[doc] if doc in self._kept else self._tokenized(doc)

    def read_ahead(self, docs: Iterable[int]) -> None:
        """Read documents together that `read` will be asked for: a sixth of the time that they take one by one."""
        new = list({doc: None for doc in docs if doc not in self._kept})
        texts = [self.text(doc) for doc in new]
        tokens, ends = self._index.extract_many(np.array(new, dtype=np.int64))
        found = zip(
            new, texts, pairwise(ends.tolist()), self._offsets.starts(tokens, ends, texts), strict=True
        )
        for doc, text, (start, stop), starts in found:
            if starts is not None:
                self._keep(Passage(doc, tokens[start:stop].tolist(), starts.tolist(), text))

    def _tokenized(self, doc: int) -> Passage:
        """A document whose tokens do not spell its text."""
        text = self.text(doc)
        tokens, starts = self._tokenizer.encode_with_offsets(text)
        if not np.array_equal(tokens, self._index.extract(doc)):
            raise TokenizerError(
                f"document {self._documents.doc_ids[doc]!r} has other tokens in the index than {self._tokenizer.path} makes "
                "of the corpus; use the corpus and the tokenizer that the index was built with"
            )
        return self._keep(Passage(doc, list(tokens), starts.tolist(), text))

    def _keep(self, passage: Passage) -> Passage:
        if len(self._kept) >= CACHED_PASSAGES:
            del self._kept[next(iter(self._kept))]
        self._kept[passage.doc] = passage
        return passage

    def _text(self, doc: int) -> str:
        """A document's text as the tokenizer reads it."""
        return text_read(self._tokenizer, self._documents.contents(doc))


def spellings(answer: str) -> list[str]:
    """The cases in which an answer usually stands in a text."""
    return list(dict.fromkeys([answer, answer.lower(), answer.capitalize(), answer.title(), answer.upper()]))


@lru_cache(CACHED_ANSWERS)
def answer_pattern(answer: str) -> re.Pattern[str]:
    """The answer as whole words, in any case, with any white space between its words."""
    words = r"\s+".join(re.escape(word) for word in normalize(answer).split())
    return re.compile(rf"(?<!\w){words}(?!\w)", re.IGNORECASE)
