"""The clues that an earlier run left in its folder, and the documents they name: no model is loaded for them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gemkr.config import EvalConfig, ScoringConfig
from gemkr.errors import ConfigError
from gemkr.evaluation.records import read_records
from gemkr.retrievers.generative import words_of
from gemkr.retrievers.scoring import ClueDocuments
from gemkr.types import Clue

if TYPE_CHECKING:
    from gemkr.retrievers.factory import Sources


def recorded_clues(output: str | Path) -> dict[str, tuple[Clue, ...]]:
    """The clues of each query in `output`/run.jsonl; ConfigError when the run wrote none."""
    path = Path(output) / "run.jsonl"
    if not path.is_file():
        raise ConfigError(f"{path} is not there; run a generative retriever into {output} first")
    clues = {ranking.query_id: ranking.clues for ranking in read_records(path)}
    if not any(clues.values()):
        raise ConfigError(f"{path} holds no clues; run a generative retriever into {output} first")
    return clues


def clue_documents(
    config: EvalConfig, sources: Sources, scoring: ScoringConfig | None = None
) -> ClueDocuments:
    """The documents of clues under `scoring`, or under the configuration's own."""
    scoring = scoring or config.scoring
    breaks = None
    if scoring.whole_words:
        sources.index.check_tokenizer(sources.tokenizer)
        breaks = words_of(sources.tokenizer, sources.index.vocab_size).word_break
    return ClueDocuments(sources.index, scoring, sources.inside_span(scoring.inside_span), breaks)
