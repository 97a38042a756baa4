"""A `tokenizer.json` as a `Tokenizer` that reads texts as they are written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from gemkr.errors import TokenizerError
from gemkr.text.pieces import PROBE, piece_bytes, vocabulary_fingerprint, word_starts
from gemkr.text.words_apart import apart_in_json


class FastTokenizer:
    """A `tokenizer.json` (LLaMA 3, Qwen, ...), with the special tokens that the files beside it name."""

    def __init__(self, path: Path, description: str, named: dict[str, str] | None = None) -> None:
        """`path` is the file or folder that `description`, the text of a tokenizer.json, was read from; `named` the special
        tokens as a tokenizer_config.json names them, None for the one that lies there."""
        try:
            from tokenizers import Tokenizer as Engine
        except ImportError as error:
            raise TokenizerError(
                f"the tokenizer {path} needs the package tokenizers; pip install 'gemkr[model]'"
            ) from error

        self.path = path
        try:
            self._engine = Engine.from_str(description)
        except Exception as error:  # the engine raises bare Exception for whatever it cannot read
            raise TokenizerError(f"the tokenizer {path} is no readable tokenizer.json ({error})") from error
        engine = self._engine
        engine.no_padding()
        engine.no_truncation()
        engine.encode_special_tokens = True
        vocabulary = engine.get_vocab(with_added_tokens=True)
        self.vocab_size = max(vocabulary.values(), default=-1) + 1
        if named is None:
            named = _named_specials(path if path.is_dir() else path.parent)
        self.bos_id = _look_up(vocabulary, named.get("bos_token"), "<s>", "<|begin_of_text|>")
        eos = _look_up(vocabulary, named.get("eos_token"), "</s>", "<|end_of_text|>", "<|endoftext|>")
        if eos is None:
            raise TokenizerError(
                f"the tokenizer {path} has no end-of-sequence token; name it as eos_token in the tokenizer_config.json "
                "beside it"
            )
        self.eos_ids = (eos,)
        self.unk_id = _look_up(vocabulary, named.get("unk_token"), "<unk>")
        pad = _look_up(vocabulary, named.get("pad_token"), "<pad>")
        self.pad_id = next(i for i in (pad, self.unk_id, eos) if i is not None)
        added = {i for i, token in engine.get_added_tokens_decoder().items() if token.special}
        self.special_ids = frozenset(
            added | {i for i in (self.bos_id, eos, self.unk_id, pad) if i is not None}
        )
        said = json.loads(description)
        self._marker = _space_marker(said)
        self.apart = apart_in_json(said)
        self._added = {i: token.content for i, token in engine.get_added_tokens_decoder().items()}

    @cached_property
    def word_start(self) -> np.ndarray:
        return word_starts(self._pieces(), self._marker, self.special_ids)

    def encode(self, text: str) -> list[int]:
        return self._engine.encode(self._spaced(text), add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        spaced = [self._spaced(text) for text in texts]
        encoded = self._engine.encode_batch_fast(spaced, add_special_tokens=False)
        return [one.ids for one in encoded]

    def encode_with_offsets(self, text: str) -> tuple[list[int], np.ndarray]:
        spaced = self._spaced(text)
        encoded = self._engine.encode(spaced, add_special_tokens=False)
        starts = np.asarray([start for start, _ in encoded.offsets] + [len(spaced)], dtype=np.int64)
        return encoded.ids, np.maximum(starts - (len(spaced) - len(text)), 0)

    def decode(self, ids: Iterable[int]) -> str:
        wanted = [int(i) for i in ids if int(i) not in self.special_ids]
        return self._engine.decode(wanted, skip_special_tokens=False).removeprefix(" ")

    def piece(self, token: int) -> str:
        piece = self._engine.id_to_token(int(token))
        if piece is None:
            raise IndexError(f"token {token} is outside of the vocabulary [0, {self.vocab_size})")
        return piece

    def piece_bytes(self, token: int) -> bytes:
        if token in self.special_ids:
            return b""
        added = self._added.get(int(token))
        return piece_bytes(self.piece(token), self._marker) if added is None else added.encode()

    def fingerprint(self) -> str:
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        return vocabulary_fingerprint(
            self._pieces(), (self.bos_id, *self.eos_ids, self.unk_id), self.encode(PROBE)
        )

    def _pieces(self) -> list[str]:
        return [self._engine.id_to_token(i) or "" for i in range(self.vocab_size)]

    def _spaced(self, text: str) -> str:
        """Byte-level vocabularies know no space before the first word by themselves, the others do."""
        return f" {text}" if self._marker == "Ġ" and text and not text[0].isspace() else text


def _look_up(vocabulary: dict[str, int], *names: str | None) -> int | None:
    return next((vocabulary[name] for name in names if name is not None and name in vocabulary), None)


def _named_specials(folder: Path) -> dict[str, str]:
    """bos_token, eos_token, ... as the configuration files of a Hugging Face folder name them."""
    named: dict[str, str] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        file = folder / name
        if not file.is_file():
            continue
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise TokenizerError(f"{file} is not valid JSON ({error})") from error
        for key, value in values.items():
            content = value.get("content") if isinstance(value, dict) else value
            if key.endswith("_token") and isinstance(content, str):
                named[key] = content
    return named


def _space_marker(description: dict[str, Any]) -> str | None:
    """How a vocabulary spells a leading space: 'Ġ' (byte-level), '▁' (sentencepiece style) or not at all."""
    parts = json.dumps([description.get(key) for key in ("normalizer", "pre_tokenizer", "decoder")])
    if '"ByteLevel"' in parts:
        return "Ġ"
    if '"Metaspace"' in parts or json.dumps("▁") in parts:
        return "▁"
    return None
