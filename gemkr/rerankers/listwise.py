"""Reranking by a question to a language model about several hits at once: which number helps most?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from gemkr.config.ranges import Range
from gemkr.errors import ModelError
from gemkr.rerankers.asking import Asked, AskingConfig, asking_files
from gemkr.rerankers.candidates import Candidate, candidates_of
from gemkr.rerankers.pointwise import PointwiseReranker
from gemkr.text.tokenizer import Tokenizer
from gemkr.types import Document, Query

if TYPE_CHECKING:
    from gemkr.sources import Sources

KIND = "listwise"


class ListwiseScorer:
    """Shows a query up to `window` numbered documents in one prompt; the logits of their numbers say which helps most.

    Documents that fit into one window have the softmax of these logits as scores. More are put in order by windows that move
    from the end to the start by half a window, each ordered by its logits, so that what is best moves up; the score is then
    the share of the documents that do not stand above. Scores depend on the order in which the documents are given.
    `asked.answers` are the tokens of the numbers 1 to `window`.
    """

    def __init__(self, asked: Asked, documents: Sequence[Document], *, max_prompt_tokens: int = 512) -> None:
        self.asked, self.documents, self.max_prompt_tokens = asked, documents, max_prompt_tokens
        self.window = len(asked.answers)

    def score(self, query: Query, docs: np.ndarray) -> np.ndarray:
        """float32[n] for document numbers int64[n], best first as far as is known; DataError for one of which nothing can be
        read, ModelError where a prompt has no room for them. Costs one prompt for each window."""
        asked = self.asked
        shown = candidates_of(
            query, self.documents, docs, KIND, pictures=asked.sees_documents, tidied=asked.tidied
        )
        if len(shown) <= self.window:
            return _softmax(self._logits(query, shown)) if shown else np.zeros(0, np.float32)
        order = np.arange(len(shown))
        for start in windows(len(shown), self.window):
            part = order[start : start + self.window]
            logits = self._logits(query, [shown[i] for i in part])
            order[start : start + self.window] = part[np.argsort(-logits, kind="stable")]
        scores = np.zeros(len(shown), np.float32)
        scores[order] = 1 - np.arange(len(shown), dtype=np.float32) / len(shown)
        return scores

    def _logits(self, query: Query, shown: Sequence[Candidate]) -> np.ndarray:
        """float64[n] of the numbers of n documents."""
        return self.asked.logits([self.prompt(query, shown)])[0, : len(shown)]

    def prompt(self, query: Query, shown: Sequence[Candidate]) -> Any:
        """The prompt over numbered documents, as `list_prompt` makes it."""
        return list_prompt(self.asked.prompts, self.asked.tokenizer, query, shown, self.max_prompt_tokens)


class ListwiseReranker(PointwiseReranker):
    """`PointwiseReranker` whose scorer shows a language model several hits at once."""

    reads_pictures = True

    @dataclass(frozen=True, kw_only=True)
    class Config(AskingConfig):
        """As `AskingConfig`; a prompt shows `window` hits, and more are ordered by overlapping windows. Without a
        `model.prompt.template`, the packaged `listwise` is used."""

        window: Annotated[int, Range(2, 99)] = 5

    @classmethod
    def from_config(cls, config: Config, sources: Sources) -> ListwiseReranker:
        """Raises as `Asked.load` does."""
        asked = Asked.load(
            config,
            sources,
            KIND,
            number_words(config.window),
            "lower window (numbers above 9 are often several tokens), or let the template end in an opening bracket",
            limit=None,
        )
        scorer = ListwiseScorer(asked, sources.documents, max_prompt_tokens=config.max_prompt_tokens)
        return cls(scorer, sources.documents, retrieval_weight=config.retrieval_weight, scaled=config.scaled)

    @staticmethod
    def input_files(config: Config) -> dict[str, str | None]:
        """Every path that the model is read from."""
        return asking_files(config, KIND)


def windows(count: int, window: int) -> list[int]:
    """Where windows over more than `window` places start, the last places first: by half a window each, and at 0."""
    step = max(window // 2, 1)
    return [*range(count - window, 0, -step), 0]


def list_prompt(
    prompts: Callable[..., Any],
    tokenizer: Tokenizer,
    query: Query,
    shown: Sequence[Candidate],
    most: int,
) -> Any:
    """The prompt over numbered documents, each text cut to an equal share of the `most` tokens that the rest leaves; `prompts` as
    `prompts_of` makes it. ModelError where there is no room."""
    room = most - prompts(query, passage=numbered([""] * len(shown))).text_length
    if room < len(shown):
        raise ModelError(
            f"a prompt of {most} tokens has no room for {len(shown)} passages beside the query {query.query_id!r} and the "
            "template; raise max_prompt_tokens or lower window"
        )
    share = room // len(shown)
    shown = [replace(one, text=cut(tokenizer, one.text, share)) for one in shown]
    images = [image for one in shown for image in one.images]
    return prompts(query, passage=numbered([one.passage for one in shown]), images=images)


def number_words(window: int) -> list[str]:
    """`1` to `window`: the answers that a model chooses among."""
    return [str(number) for number in range(1, window + 1)]


def numbered(texts: Sequence[str]) -> str:
    """`(1) first (2) second`."""
    return " ".join(f"({number}) {text}".strip() for number, text in enumerate(texts, 1))


def cut(tokenizer: Tokenizer, text: str, most: int) -> str:
    """As many whole words of a text as `most` tokens hold; the last one is cut if what is shown of it is longer than all before it, as in
    languages written without spaces."""
    tokens, starts = tokenizer.encode_with_offsets(text)
    if len(tokens) <= most:
        return text
    end = int(starts[most])
    head = text[:end]
    if not text[end].isspace():
        whole, _, begun = head.rpartition(" ")
        head = whole if len(begun) <= len(whole) else head
    return head.strip()


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max())
    return (powers / powers.sum()).astype(np.float32)
