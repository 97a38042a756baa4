"""Text to token ids and back: sentencepiece models and Hugging Face folders behind one `Tokenizer`.

The only home of BOS, EOS, word-start and special ids. Documents, clues and answers are encoded here without any
special token, normalized (`normalize.py`), and always as if a space stood before them, so that a word has the same
tokens at the start of a text as inside. Knows nothing of indexes; imports no torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from gemkr.errors import TokenizerError
from gemkr.text.fast import FastTokenizer
from gemkr.text.gguf_file import is_gguf, read_gguf_tokenizer
from gemkr.text.normalize import normalize, normalize_with_offsets
from gemkr.text.sentencepieces import SentencePieceTokenizer


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

    def piece_bytes(self, token: int) -> bytes:
        """What a token stands for in a text, as UTF-8, such as b' the'; nothing for special ids. May begin or end inside a
        character."""
        ...

    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 of the vocabulary, the BOS, EOS and unknown ids, the tokens of a probe text, and whether texts are
        normalized.

        Equal for a sentencepiece model alone and for any Hugging Face folder that holds it.
        """
        ...


def load_tokenizer(path: str | Path, *, keep_white_space: bool = False) -> Tokenizer:
    """Load a sentencepiece `.model` file, a `tokenizer.json`, a Hugging Face folder with one of them, or a GGUF file's.

    In a folder `tokenizer.model` goes before `tokenizer.json`; a folder with neither is handed to transformers. Tokens
    that a folder adds to a `tokenizer.model` are left out: they never occur in plain text. With `keep_white_space` texts are
    read as they are written, not normalized.
    Raises TokenizerError when nothing is there or it cannot be read.
    """
    written = _load(Path(path))
    return written if keep_white_space else NormalizedTokenizer(written)


class NormalizedTokenizer:
    """A tokenizer that reads `normalize(text)` in place of each text; offsets count in the text as it was given."""

    def __init__(self, written: Tokenizer) -> None:
        """`written` reads texts as they are written."""
        self.written = written
        self.path, self.vocab_size = written.path, written.vocab_size
        self.bos_id, self.eos_ids = written.bos_id, written.eos_ids
        self.pad_id, self.unk_id = written.pad_id, written.unk_id
        self.special_ids = written.special_ids
        self.decode, self.piece, self.piece_bytes = written.decode, written.piece, written.piece_bytes

    @property
    def word_start(self) -> np.ndarray:
        return self.written.word_start

    def encode(self, text: str) -> list[int]:
        return self.written.encode(normalize(text))

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return self.written.encode_batch([normalize(text) for text in texts])

    def encode_with_offsets(self, text: str) -> tuple[list[int], np.ndarray]:
        normal, places = normalize_with_offsets(text)
        ids, starts = self.written.encode_with_offsets(normal)
        return ids, places[starts].astype(np.int64)

    def fingerprint(self) -> str:
        return hashlib.sha256(f"normalized {self.written.fingerprint()}".encode()).hexdigest()


def as_written(tokenizer: Tokenizer) -> Tokenizer:
    """The same tokenizer, reading texts as they are written: for prompts, whose template may hold line ends, and for the
    vocabulary's fingerprint in a checkpoint."""
    return tokenizer.written if isinstance(tokenizer, NormalizedTokenizer) else tokenizer


def text_read(tokenizer: Tokenizer, text: str) -> str:
    """What a tokenizer reads of a text: the text itself, or the normalized one."""
    return normalize(text) if isinstance(tokenizer, NormalizedTokenizer) else text


def fitted(tokenizer: Tokenizer, fingerprint: str) -> Tokenizer:
    """The tokenizer, normalizing texts or not, as the one with this fingerprint does; itself where neither is that one."""
    written = as_written(tokenizer)
    variants = (tokenizer, written, NormalizedTokenizer(written))
    return next((each for each in variants if each.fingerprint() == fingerprint), tokenizer)


def _load(path: Path) -> Tokenizer:
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
