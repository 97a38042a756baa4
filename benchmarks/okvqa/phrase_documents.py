"""Which documents hold a phrase, by the same word matching that judges answers; for a fixed list of phrases.

Knows documents by number. Not for free text: each phrase must be named when the table is built.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import numpy as np

from gemkr.data.qrels import words
from gemkr.types import Document

END = ""
"""Where a phrase ends in the trie of words; no word is empty."""


class PhraseDocuments:
    """The documents that hold each of a set of phrases: `documents["tennis racket"]` -> int64[n], ascending.

    A document holds a phrase exactly when `AnswerMatcher([phrase], "word")` finds it in its contents. Reads the corpus
    once: about 6 s for 12,000 phrases in 100,000 passages of 100 words; memory is 4 bytes per (phrase, document).
    """

    def __init__(self, documents: Iterable[Document], phrases: Iterable[str]) -> None:
        """Look for all phrases in all documents. A phrase without a word (blank, or signs alone) has no document."""
        forms = {phrase: tuple(words(phrase)) for phrase in phrases}
        trie: dict = {}
        numbers: dict[tuple[str, ...], int] = {}
        for form in forms.values():
            if form and form not in numbers:
                numbers[form] = len(numbers)
                node = trie
                for word in form:
                    node = node.setdefault(word, {})
                node[END] = numbers[form]
        found = [array("i") for _ in numbers]
        for doc, document in enumerate(documents):
            for number in _phrases_in(trie, words(document.contents)):
                found[number].append(doc)
        empty = np.empty(0, dtype=np.int64)
        arrays = [np.frombuffer(docs, dtype=np.int32) if docs else empty for docs in found]
        self._docs = {phrase: arrays[numbers[form]] if form else empty for phrase, form in forms.items()}

    def __getitem__(self, phrase: str) -> np.ndarray:
        """int64[n] document numbers, ascending; KeyError for a phrase that the table was not built for."""
        return self._docs[phrase].astype(np.int64)


def _phrases_in(trie: dict, text: list[str]) -> set[int]:
    """The phrases that begin at any word of a text."""
    found = set()
    for start, word in enumerate(text):
        node = trie.get(word)
        at = start + 1
        while node is not None:
            if END in node:
                found.add(node[END])
            node = node.get(text[at]) if at < len(text) else None
            at += 1
    return found
