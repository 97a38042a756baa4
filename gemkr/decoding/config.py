"""Settings of decoding."""

from __future__ import annotations

from dataclasses import dataclass

from gemkr.config.ranges import Exponent, NotNegative, OrInfinite, Positive

ENGINES = ("host", "device", "graph")


@dataclass(frozen=True)
class DecodingConfig:
    """Beam search under the index (docs/decoding.md); the defaults of `reference` are the published settings.

    With `end_at_word` clues end where a word ends, and only such occurrences count; null: where `length_penalty` is 0, for
    clues of free length. `engine`: where index and beams are; "device" puts the index beside the model, and the beams too where
    neither heads nor documents count; "graph" also records a step of such a search as a CUDA graph.
    """

    beam_size: Positive = 10
    groups: Positive = 10
    diversity: NotNegative = 0.5
    max_tokens: Positive = 10
    min_tokens: Positive = 1
    length_penalty: Exponent = 1.5
    word_start: bool = False
    end_at_word: bool | None = None
    allow_eos: bool = True
    stop_at_one_document: bool = False
    document_penalty: OrInfinite = 0.0
    group_by_head: bool = False
    head_words: Positive = 1
    beams_per_head: Positive = 1
    batch_size: Positive = 8
    engine: str = "host"

    @property
    def ends_at_words(self) -> bool:
        """`end_at_word`, decided."""
        return self.length_penalty == 0 if self.end_at_word is None else self.end_at_word
