"""Text to token ids and back: sentencepiece models and Hugging Face folders behind one `Tokenizer`.

The only home of BOS, EOS, word-start and special ids. Documents, clues and answers are encoded here without any
special token, and always as if a space stood before them, so that a word has the same tokens at the start of a text
as inside. Knows nothing of indexes; imports no torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from gemkr.errors import TokenizerError
from gemkr.text.gguf_file import is_gguf, read_gguf_tokenizer

PROBE = "The 324 m Tour  Eiffel\t(1889) isn't in 北京 — naïve Ωmega, it's 😀."


class Tokenizer(Protocol):
    """What indexing, training, decoding and reports need of a tokenizer.

    `path` is where it can be loaded from again; `pad_id` is any valid id to fill rows with, always masked.
    `word_start` is bool[vocab_size]: the token begins a word; special tokens never do. `special_ids` never come out of
    `encode` and are never shown by `decode` (the unknown token is among them, though `encode` may emit it).
    """

    path: Path
    vocab_size: int
    bos_id: int | None
    eos_ids: tuple[int, ...]
    pad_id: int
    unk_id: int | None
    special_ids: frozenset[int]

    @property
    def word_start(self) -> np.ndarray: ...

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens."""
        ...

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text."""
        ...

    def encode_with_offsets(self, text: str) -> tuple[list[int], np.ndarray]:
        """Ids of the n tokens and int64[n + 1] of character offsets.

        Tokens [i, j) stand at `text[starts[i]:starts[j]]`, white space before the first word included; the last
        offset is `len(text)`.
        """
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """The text of some tokens, without special tokens and without the space before the first word."""
        ...

    def piece(self, token: int) -> str:
        """The vocabulary's own name of a token, such as '▁the' or 'Ġthe'."""
        ...

    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 of the vocabulary, the BOS, EOS and unknown ids and the tokens of a probe text.

        Equal for a sentencepiece model alone and for any Hugging Face folder that holds it.
        """
        ...


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Load a sentencepiece `.model` file, a `tokenizer.json`, a Hugging Face folder with one of them, or a GGUF file's.

    In a folder `tokenizer.model` goes before `tokenizer.json`; a folder with neither is handed to transformers. Tokens
    that a folder adds to a `tokenizer.model` are left out: they never occur in plain text.
    Raises TokenizerError when nothing is there or it cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        model, fast = path / "tokenizer.model", path / "tokenizer.json"
        if model.is_file() and (_is_sentencepiece(model) or not fast.is_file()):
            return SentencePieceTokenizer(model)
        if fast.is_file():
            return FastTokenizer(fast, _read(fast))
        return FastTokenizer(path, _convert(path))
    if not path.is_file():
        raise TokenizerError(
            f"the tokenizer {path} does not exist; give a sentencepiece .model file or a Hugging Face folder"
        )
    if is_gguf(path):
        return FastTokenizer(path, *read_gguf_tokenizer(path))
    return FastTokenizer(path, _read(path)) if path.suffix == ".json" else SentencePieceTokenizer(path)


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
        return _word_starts(self._pieces(), "▁", self.special_ids)

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

    def fingerprint(self) -> str:
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        return _fingerprint(self._pieces(), (self.bos_id, *self.eos_ids, self.unk_id), self.encode(PROBE))

    def _pieces(self) -> list[str]:
        return self._model.id_to_piece(list(range(self.vocab_size)))


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
        self._marker = _space_marker(json.loads(description))

    @cached_property
    def word_start(self) -> np.ndarray:
        return _word_starts(self._pieces(), self._marker, self.special_ids)

    def encode(self, text: str) -> list[int]:
        return self._engine.encode(self._spaced(text), add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        encoded = self._engine.encode_batch([self._spaced(text) for text in texts], add_special_tokens=False)
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

    def fingerprint(self) -> str:
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        return _fingerprint(self._pieces(), (self.bos_id, *self.eos_ids, self.unk_id), self.encode(PROBE))

    def _pieces(self) -> list[str]:
        return [self._engine.id_to_token(i) or "" for i in range(self.vocab_size)]

    def _spaced(self, text: str) -> str:
        """Byte-level vocabularies know no space before the first word by themselves, the others do."""
        return f" {text}" if self._marker == "Ġ" and text and not text[0].isspace() else text


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise TokenizerError(f"the tokenizer {path} cannot be read ({error})") from error


def _convert(path: Path) -> str:
    """The tokenizer.json of a folder of an older kind (vocab.json and merges.txt): transformers converts it."""
    if not any((path / name).is_file() for name in ("vocab.json", "vocab.txt", "tokenizer_config.json")):
        raise TokenizerError(
            f"the folder {path} holds no tokenizer; it needs a tokenizer.model or a tokenizer.json"
        )
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(path, local_files_only=True).backend_tokenizer.to_str()
    except (OSError, ValueError, KeyError, ImportError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise TokenizerError(f"transformers cannot read the tokenizer in {path} ({reason})") from error


def _is_sentencepiece(path: Path) -> bool:
    try:
        SentencePieceTokenizer(path)
    except TokenizerError:
        return False
    return True


def _valid(token: int) -> int | None:
    return token if token >= 0 else None


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


def _word_starts(pieces: list[str], marker: str | None, special_ids: frozenset[int]) -> np.ndarray:
    if marker is None:
        starts = np.fromiter((not piece.startswith("##") for piece in pieces), dtype=bool, count=len(pieces))
    else:
        starts = np.fromiter((piece.startswith(marker) for piece in pieces), dtype=bool, count=len(pieces))
    starts[np.fromiter(special_ids, dtype=np.int64, count=len(special_ids))] = False
    starts.flags.writeable = False
    return starts


def _fingerprint(pieces: list[str], special: tuple[int | None, ...], probe: list[int]) -> str:
    digest = hashlib.sha256()
    for part in (pieces, special, probe):
        digest.update(json.dumps(part).encode())
    return digest.hexdigest()
