"""Training clues: the passages whose slices answer a question.

For each query and answer: the passages that hold the answer (the gold ones where they are known), the best of them
by BM25 of question, caption and answer, and of each passage a slice of the document's own tokens (`slices`). `short` is the
answer alone, `long` goes on until the slice is unique in the corpus. Deterministic; no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice, repeat

import numpy as np

from gemkr.config.ranges import Natural, Positive, require_ranges
from gemkr.data.clues import FORMS, MinedClue
from gemkr.decoding.config import DecodingConfig
from gemkr.errors import DataError
from gemkr.fm_index import Span
from gemkr.scorers.bm25 import BM25
from gemkr.text.normalize import normalize
from gemkr.text.tokenizer import Tokenizer
from gemkr.training.mining.material import MinedDocuments, MinedIndex
from gemkr.training.mining.passages import CACHED_ANSWERS, Passage, PassageReader, answer_pattern, spellings
from gemkr.training.mining.quotes import shared_runs
from gemkr.training.mining.slices import Slicer
from gemkr.types import Query

ANCHORS = ("answer", "opening", "question")
FURTHER, AHEAD = (1, 2, 4, 8), 16
"""Documents that are read together when the first ones gave too few clues, and from then on."""


@dataclass(frozen=True, slots=True)
class MiningSettings:
    """What to mine.

    forms: any of short, long. per_question: passages per query, spread over its answers. max_tokens: longest slice.
    anchor: long slices begin with the `answer`, or are the `opening` of the passage that holds it. With `question`,
    clues are what the question quotes of its gold passages, whole words that occur at most `common` times, rarest
    first: as they stand there (short), or grown from there on (long).
    full: long slices take all of `max_tokens` (the paper's ten), not just what makes them unique.
    common: an answer with more occurrences than this is looked for among `candidates` passages that BM25 ranks
    first, a rarer one among all that hold it. patience: passages in a row that give nothing new before a query is done
    (short clues of common answers soon repeat themselves).
    """

    forms: tuple[str, ...] = FORMS
    per_question: Positive = 4
    max_tokens: Positive = DecodingConfig.max_tokens
    anchor: str = "answer"
    full: bool = False
    common: Natural = 2000
    candidates: Positive = 200
    patience: Positive = 50

    def __post_init__(self) -> None:
        unknown = [form for form in self.forms if form not in FORMS]
        if unknown or not self.forms:
            raise DataError(
                f"unknown form of clue {', '.join(unknown)!r}; known forms are {', '.join(FORMS)}"
            )
        if self.anchor not in ANCHORS:
            raise DataError(f"unknown anchor {self.anchor!r}; known anchors are {', '.join(ANCHORS)}")
        require_ranges(self, DataError)


class Miner:
    """Mines clues from one corpus, its index and its tokenizer."""

    def __init__(
        self,
        index: MinedIndex,
        documents: MinedDocuments,
        tokenizer: Tokenizer,
        bm25: BM25,
        settings: MiningSettings | None = None,
    ) -> None:
        """Raises DataError unless index, corpus and BM25 hold the same documents."""
        documents.require_same_documents(index.doc_ids)
        if len(bm25) != len(documents):
            raise DataError(
                f"BM25 holds {len(bm25)} documents and the corpus {len(documents)}; build it from the corpus"
            )
        self._index, self.documents, self._tokenizer = index, documents, tokenizer
        self._bm25, self.settings = bm25, settings or MiningSettings()
        self.passages = PassageReader(index, documents, tokenizer)
        self._slicer = Slicer(index, documents, tokenizer, self.settings.max_tokens, self.settings.full)
        self._holders = lru_cache(CACHED_ANSWERS)(self._find_holders)

    def mine(self, query: Query) -> list[MinedClue]:
        """The clues of one query, at most `per_question` passages times the forms; empty when no passage fits.

        Answers alternate, each with its next best passage. A query whose gold passages hold none of its
        answers gets the openings of those passages.
        Raises DataError for a gold passage that is not in the corpus.
        """
        gold = self.gold(query)
        if self.settings.anchor == "question":
            return self._quotes(query, gold)
        ranked = [(a, self.rank(query, a, gold)) for a in dict.fromkeys(query.answers) if a.strip()]
        clues: list[MinedClue] = []
        seen: set[tuple[str, tuple[int, ...]]] = set()
        used = failures = 0
        for answer, doc in self._holders_ahead(round_robin(ranked)):
            if used == self.settings.per_question or failures == self.settings.patience:
                break
            held = () if doc is None else self._clues_in(query, answer, doc)
            found = [clue for clue in held if (clue.form, clue.tokens) not in seen]
            seen.update((clue.form, clue.tokens) for clue in found)
            clues += found
            used += bool(found)
            failures = 0 if found else failures + 1
        if not clues and len(gold) and "long" in self.settings.forms:
            openings = [self._opening(query, int(doc), None) for doc in gold[: self.settings.per_question]]
            clues = [clue for clue in openings if clue is not None]
        return clues

    def gold(self, query: Query) -> np.ndarray:
        """int64[n]: the gold passages of a query; DataError for one that is not in the corpus."""
        return np.array([self.documents.number(d) for d in dict.fromkeys(query.positives)], dtype=np.int64)

    def quoted(self, query: Query, gold: np.ndarray) -> list[tuple[Passage, int, int, int]]:
        """The slices (passage, start, stop, occurrences) of gold passages that the question quotes, whole words, the rarest
        first."""
        question = np.asarray(self._tokenizer.encode(query.question), dtype=np.int64)
        found: dict[tuple[int, ...], tuple[Passage, int, int, int]] = {}
        for doc in gold.tolist():
            passage = self.passages.read(doc)
            for start, stop in shared_runs(question, np.array(passage.tokens, dtype=np.int64)):
                inside = [i for i in range(start, stop) if self._slicer.is_start(passage, i)]
                first = inside[0] if inside else stop
                ends = range(min(stop, first + self.settings.max_tokens), first, -1)
                last = next((i for i in ends if passage.is_border(i)), first)
                tokens = tuple(passage.tokens[first:last])
                if passage.slice_text(first, last) and tokens not in found:
                    found[tokens] = passage, first, last, self._index.search(tokens).count
        return sorted(found.values(), key=lambda place: place[3])

    def _quotes(self, query: Query, gold: np.ndarray) -> list[MinedClue]:
        """Clues of what the question quotes, the rarest first; each of a passage's tokens in one of them."""
        clues: list[MinedClue | None] = []
        used: set[tuple[int, int]] = set()
        for passage, start, stop, count in self.quoted(query, gold):
            covered = {(passage.doc, i) for i in range(start, stop)}
            if count > self.settings.common or used & covered:
                continue
            used |= covered
            if "short" in self.settings.forms:
                clues.append(self._slicer.cut(query, None, passage, "short", start, stop, count))
            if "long" in self.settings.forms:
                clues.append(self._slicer.grow(query, None, passage, start, stop))
            if len(clues) >= self.settings.per_question * len(self.settings.forms):
                break
        return [clue for clue in clues if clue is not None]

    def rank(self, query: Query, answer: str, gold: np.ndarray) -> np.ndarray:
        """Passages that hold the answer, best first: int64[n], ties by document number."""
        text = f"{self._bm25.query_text(query)} {answer}"
        docs = gold
        if not len(gold):
            docs = self._holders(answer)
            if docs is None:
                docs = self._bm25.top(text, self.settings.candidates)[0]
        return docs[np.lexsort((docs, -self._bm25.score_text(text, docs)))]

    def _find_holders(self, answer: str) -> np.ndarray | None:
        """All documents in which the answer's tokens occur; None when there are too many, or none, to go by tokens."""
        spans = self._spans(answer)
        if not 0 < sum(span.count for span in spans) <= self.settings.common:
            return None
        lo, hi = np.array([(span.lo, span.hi) for span in spans], dtype=np.int64).T.copy()
        return np.unique(self._index.documents_many(lo, hi)[1]).astype(np.int64)

    def occurrences(self, answer: str) -> int:
        """How often the answer's tokens stand in the corpus, in the usual spellings."""
        return sum(span.count for span in self._spans(answer))

    def _spans(self, answer: str) -> list[Span]:
        spelled = {tuple(self._tokenizer.encode(form)) for form in spellings(answer)}
        return [span for span in map(self._index.search, sorted(spelled)) if span]

    def holds(self, answer: str, doc: int) -> bool:
        """Whether a document holds an answer as whole words."""
        return answer_pattern(answer).search(normalize(self.passages.text(doc))) is not None

    def _holders_ahead(self, pairs: Iterator[tuple[str, int]]) -> Iterator[tuple[str, int | None]]:
        """Pairs of an answer and a document, None in place of one that does not hold it; those that do are read some at a time, first as
        many as may be enough."""
        sizes = chain([self.settings.per_question], FURTHER, repeat(AHEAD))
        while ahead := list(islice(pairs, next(sizes))):
            found = [(answer, doc if self.holds(answer, doc) else None) for answer, doc in ahead]
            self.passages.read_ahead(doc for _, doc in found if doc is not None)
            yield from found

    def _clues_in(self, query: Query, answer: str, doc: int) -> list[MinedClue]:
        passage = self.passages.read(doc)
        places = passage.places(answer)
        clues = []
        if "short" in self.settings.forms:
            clues.append(self._slicer.short(query, answer, passage, places))
        if "long" in self.settings.forms:
            if self.settings.anchor == "opening":
                clues.append(self._opening(query, doc, answer))
            else:
                clues.append(self._slicer.long(query, answer, passage, places))
        return [clue for clue in clues if clue is not None]

    def _opening(self, query: Query, doc: int, answer: str | None) -> MinedClue | None:
        return self._slicer.grow(query, answer, self.passages.read(doc), 0, 1)


def round_robin(ranked: list[tuple[str, np.ndarray]]) -> Iterator[tuple[str, int]]:
    """First each answer's best passage, then each one's second best, and so on."""
    for rank in range(max((len(docs) for _, docs in ranked), default=0)):
        for answer, docs in ranked:
            if rank < len(docs):
                yield answer, int(docs[rank])
