"""A sentencepiece model as a `Tokenizer` that reads texts as they are written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from gemkr.errors import TokenizerError
from gemkr.text.model_file import kind_of
from gemkr.text.pieces import PROBE, piece_bytes, vocabulary_fingerprint, word_starts
from gemkr.text.words_apart import Apart, apart_in_sentencepiece


class SentencePieceTokenizer:
    """A sentencepiece model, as LLaMA, Mistral and Gemma use them."""

    def __init__(self, path: str | Path) -> None:
        from sentencepiece import SentencePieceProcessor

        self.path = Path(path)
        try:
            self._model = SentencePieceProcessor(model_file=str(path))
        except (RuntimeError, OSError) as error:
            raise TokenizerError(
                f"the tokenizer {path} is no readable sentencepiece model ({error})"
            ) from error
        model = self._model
        self.vocab_size = int(model.get_piece_size())
        self.bos_id = _valid(model.bos_id())
        self.unk_id = _valid(model.unk_id())
        eos, pad = _valid(model.eos_id()), _valid(model.pad_id())
        if eos is None:
            raise TokenizerError(f"the tokenizer {path} has no end-of-sequence piece; a clue could never end")
        self.eos_ids = (eos,)
        self.pad_id = next(i for i in (pad, self.unk_id, eos) if i is not None)
        self.special_ids = frozenset(
            i
            for i in range(self.vocab_size)
            if model.is_control(i) or model.is_unknown(i) or model.is_unused(i)
        )

    @cached_property
    def word_start(self) -> np.ndarray:
        return word_starts(self._pieces(), "▁", self.special_ids)

    @cached_property
    def apart(self) -> Apart | None:
        """Which words may be tokenized one by one."""
        try:
            kind, rules = kind_of(self._model.serialized_model_proto())
        except ValueError:
            return None
        unknown = "" if self.unk_id is None else self.piece(self.unk_id)
        return apart_in_sentencepiece(kind, rules, self._pieces(), unknown)

    def encode(self, text: str) -> list[int]:
        return self._model.encode(text)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return self._model.encode(list(texts), num_threads=1)

    def encode_with_offsets(self, text: str) -> tuple[list[int], np.ndarray]:
        mapping = self._model.encode(text, return_type="offset_mapping")
        starts = [start for start, _ in mapping["offsets"]]
        return list(mapping["ids"]), np.asarray([*starts, len(text)], dtype=np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        return self._model.decode([int(i) for i in ids if int(i) not in self.special_ids])

    def piece(self, token: int) -> str:
        return self._model.id_to_piece(int(token))

    def piece_bytes(self, token: int) -> bytes:
        return b"" if token in self.special_ids else piece_bytes(self.piece(token), "▁")

    def fingerprint(self) -> str:
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        return vocabulary_fingerprint(
            self._pieces(), (self.bos_id, *self.eos_ids, self.unk_id), self.encode(PROBE)
        )

    def _pieces(self) -> list[str]:
        return self._model.id_to_piece(list(range(self.vocab_size)))


def _valid(token: int) -> int | None:
    return token if token >= 0 else None
