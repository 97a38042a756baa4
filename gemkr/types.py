"""The nouns that cross module borders: queries, documents, clues, hits, runs and qrels.

Plain immutable values. They know nothing of files, models or indexes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gemkr.fm_index import Span


@dataclass(frozen=True, slots=True)
class Query:
    """One information need: a question, a picture, or both.

    `image` is an image id (the key of pictures and of region stores), never a path. `instruction` says in words what is looked
    for, to encoders that read one. `answers` and `positives` (gold `doc_id`s) are known for training and evaluation only.
    `pool` names the part of the corpus that may answer (a local pool of M-BEIR); None means all of it.
    """

    query_id: str
    question: str = ""
    image: str | None = None
    instruction: str | None = None
    caption: str | None = None
    detections: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    positives: tuple[str, ...] = ()
    pool: str | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """One document of the corpus: a text, a picture, or both; `doc_id` is the outside name, always a string.

    `image` is an image id, as in `Query`.
    """

    doc_id: str
    text: str = ""
    title: str = ""
    image: str | None = None

    @property
    def contents(self) -> str:
        """What is indexed and shown: the title, a full stop, the text."""
        return f"{self.title}. {self.text}" if self.title else self.text


@dataclass(frozen=True, slots=True)
class Clue:
    """A token sequence that the model wrote and that occurs in the corpus.

    `log_prob` is the sum of the model's log-probabilities of its tokens (and of the end token, where the
    model itself ended the clue), normalised over the full vocabulary (natural logarithm), diversity
    penalties not included. `span` holds the rows of its
    occurrences; `count` of them end where a clue may end, with a word for example (None: not known, all count).
    `score` is what the beam search ranked by (length-normalised, penalties included).
    """

    tokens: tuple[int, ...]
    text: str
    log_prob: float
    score: float
    span: Span
    count: int | None = None

    @property
    def occurrences(self) -> int:
        """How often the clue stands in the corpus and ends where it may."""
        return self.span.count if self.count is None else self.count


@dataclass(frozen=True, slots=True)
class Evidence:
    """One clue inside one document: `document tokens[start:stop]` are the clue's tokens."""

    text: str
    log_prob: float
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Hit:
    """One retrieved document with its score (higher is better) and the clues found in it.

    `document` is the document itself where the retriever has loaded the corpus (`gemkr.load`), `matches` what each vector of the
    query found in it, where that was asked of a retriever by late interaction; neither is part of a run file, and hits are equal
    without them.
    """

    doc_id: str
    score: float
    evidence: tuple[Evidence, ...] = ()
    document: Document | None = field(default=None, compare=False, repr=False)
    matches: tuple[TokenMatch, ...] = field(default=(), compare=False, repr=False)

    @property
    def text(self) -> str:
        """The document's text; "" where the document is not loaded."""
        return self.document.text if self.document else ""

    @property
    def title(self) -> str:
        """The document's title; "" where the document is not loaded."""
        return self.document.title if self.document else ""


@dataclass(frozen=True, slots=True)
class QueryVector:
    """What one vector of a query stands for: a token's text, or a part of its picture: `box` (left, top, right, bottom) in shares of
    its width and height. `patch`: one of many small parts."""

    text: str = ""
    box: tuple[float, float, float, float] | None = None
    patch: bool = False


@dataclass(frozen=True, slots=True)
class TokenMatch:
    """What a query's vector found in a document: its best token, `document.contents[start:stop]` (empty for a marker or a picture), and
    their inner product. A document's MaxSim is the sum of the scores."""

    vector: QueryVector
    start: int
    stop: int
    score: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """The answer to one query: hits, best first; for generative retrievers also all clues written.

    `searched` is the share of the corpus that was looked at: less than 1 where shards were lost and partial answers wanted.
    """

    query_id: str
    hits: tuple[Hit, ...]
    clues: tuple[Clue, ...] = ()
    searched: float = 1.0


@dataclass(frozen=True, slots=True)
class ReadPassage:
    """A passage that an answer was read from: its weight before reading, and its share of the answer's probability."""

    doc_id: str
    weight: float
    share: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What a reader answers to one query.

    `doc_id` is the passage that the answer rests on, None where it was given without passages. `log_prob` (natural
    logarithm) is the answer's probability over all `passages`; `others` are further answers with theirs, best first.
    `features` are what a confidence is computed from; `confidence` is the probability that the answer is right, and
    `abstains` whether that is too little to give it: both None where the reader is not calibrated.
    """

    query_id: str
    text: str
    doc_id: str | None
    log_prob: float
    passages: tuple[ReadPassage, ...] = ()
    others: tuple[tuple[str, float], ...] = ()
    features: Mapping[str, float] = field(default_factory=dict)
    confidence: float | None = None
    abstains: bool | None = None


Run = Mapping[str, Sequence[Hit]]
"""query_id -> hits, best first."""

Qrels = Mapping[str, Mapping[str, int]]
"""query_id -> {doc_id: relevance}; relevance > 0 is relevant."""
