"""Settings of one evaluation, and of anything else that retrieves over a corpus."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from gemkr.answering.config import CLOSED_BOOK, AnswerConfig
from gemkr.config.paths import FilePath
from gemkr.config.ranges import Natural, Positive, Seed
from gemkr.config.section import Section
from gemkr.config.service import ServiceConfig
from gemkr.config.shards import ShardsConfig
from gemkr.errors import ConfigError
from gemkr.retrievers.compose import RETRIEVERS, answers_new_questions, check_sections
from gemkr.sources import Sources
from gemkr.vision.config import DetectorConfig

FIRST_EDITION = {
    **dict.fromkeys(
        ("retriever", "baselines"),
        "name the sections to evaluate, the main one first: evaluate: [gemkr, bm25]",
    ),
    **dict.fromkeys(
        ("model", "index", "decoding", "scoring", "ensemble", "form", "max_prompt_tokens"),
        "these settings stand in the section of the retriever: retrievers: {gemkr: {kind: generative, index: ..., model: ..., "
        "decoding: ..., scoring: ...}}",
    ),
    **dict.fromkeys(
        ("opponents", "answer_expert", "learned_scorer"),
        "retrievers of benchmarks/okvqa have sections of their own: retrievers: {name: {kind: benchmarks.okvqa.module:Class, ...}}",
    ),
}
"""Keys of configurations of the first edition, and what to write now."""


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """One evaluation: `gemkr eval CONFIG` retrieves, scores and reports.

    `retrievers` has a section for each retriever, `evaluate` names those to evaluate (all of them where it is left out): the
    first is the one that the report shows and the others are tested against. The run of a retriever goes into the folder of
    its name in `output`. `images` and `regions` are those of the queries; `detector` finds the regions of pictures that are given
    with a question (`gemkr ask`), by default as those of `regions` were found. `pools` names files of document ids, one
    a line, `.jsonl` files of documents (M-BEIR's local candidates), or `.jsonl` files of many pools with names of their own
    (`gemkr queries --pools`): a query whose `pool` is one of these names is answered from its documents alone (without `pools`, every query from the whole
    corpus). Relevance comes from `qrels`, else from answers
    under `match` (`recall@k` and `pseudo_recall@k` name their own). `groups` are lists of data sets, which figures are also given of, each
    set counting alike: a query's data set is what stands before the first ":" in its id. `cards` is the number of queries that the report shows one by one; with `clue_control`, the clues of the first
    retriever are also ranked with a random document of each, which shows their share of the ranking. With `answer`, a reader
    answers the queries from the passages found. `serve` is for `gemkr serve`. With
    `partial`, a shard of the corpus that dies is left out, and answers say which share was searched; else they fail with its name;
    `shards` says what searches them.
    """

    corpus: FilePath
    retrievers: dict[str, Annotated[Section, RETRIEVERS]]
    evaluate: tuple[str, ...] = ()
    queries: FilePath | None = None
    images: FilePath | None = None
    regions: FilePath | None = None
    detector: DetectorConfig | None = None
    output: FilePath | None = None
    partial: bool = False
    shards: ShardsConfig = ShardsConfig()
    pools: dict[str, FilePath] = field(default_factory=dict)
    qrels: FilePath | None = None
    match: str | None = None
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    metrics: tuple[str, ...] = ("P@5", "S@1", "S@5", "S@10", "MRR@10", "D@10")
    k: Positive = 10
    limit: Positive | None = None
    clue_control: bool = True
    cards: Natural = 60
    answer: AnswerConfig | None = None
    serve: ServiceConfig = ServiceConfig()
    seed: Seed = 0

    def __post_init__(self) -> None:
        """Raises ConfigError for incompatible sections, and names in `evaluate` that have no section."""
        check_sections(self.retrievers)
        for key, names in (("evaluate", self.evaluate), ("serve.retrievers", self.serve.retrievers)):
            for name in names:
                if name not in self.retrievers:
                    raise ConfigError(
                        f"{key} names {name!r}, which has no section in retrievers; there are {', '.join(self.retrievers)}"
                    )
        if self.answer is not None:
            self._check_answer(self.answer)

    def _check_answer(self, answer: AnswerConfig) -> None:
        if CLOSED_BOOK in self.retrievers:
            raise ConfigError(
                f"no retriever can be called {CLOSED_BOOK!r} beside answer, which takes it for no passages; rename it"
            )
        for name in answer.of:
            if name != CLOSED_BOOK and name not in self.retrievers:
                raise ConfigError(
                    f"answer.of names {name!r}, which has no section in retrievers, so that the reader has no passages from it; "
                    f"there are {', '.join(self.retrievers)}, and {CLOSED_BOOK} for none"
                )
        if answer.depth > self.k:
            raise ConfigError(f"answer.depth {answer.depth} is more than the {self.k} hits of a run; raise k")

    @staticmethod
    def explain_unknown(key: str) -> str | None:
        """The replacement of a key of the first edition."""
        if key not in FIRST_EDITION:
            return None
        return f"{key!r} is a key of the first edition; {FIRST_EDITION[key]}"

    @property
    def evaluated(self) -> tuple[str, ...]:
        """The names of the retrievers to evaluate, each once, the main one first."""
        return tuple(dict.fromkeys(self.evaluate)) or tuple(self.retrievers)

    @property
    def served(self) -> tuple[str, ...]:
        """The names of the retrievers that the service answers with, each once, the default first."""
        chosen = tuple(dict.fromkeys(self.serve.retrievers))
        return chosen or tuple(
            name
            for name in dict.fromkeys((*self.evaluated, *self.retrievers))
            if answers_new_questions(name, self.retrievers)
        )

    @property
    def answered(self) -> tuple[str, ...]:
        """Whose passages are read, each once, the main one first; `closed_book` stands for none. () without `answer`."""
        if self.answer is None:
            return ()
        return tuple(dict.fromkeys(self.answer.of)) or self.evaluated[:1]

    def sources(self) -> Sources:
        """The material that the retrievers are built from."""
        return Sources(
            self.corpus,
            self.retrievers,
            queries=self.queries,
            limit=self.limit,
            images=self.images,
            regions=self.regions,
            output=self.output,
            partial=self.partial,
            shards=self.shards,
        )

    def require(self, key: str) -> str:
        """A setting that a command requires; ConfigError where it is missing."""
        value = getattr(self, key)
        if value is None:
            raise ConfigError(f"{key} is missing; set {key}")
        return value
