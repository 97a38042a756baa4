"""Whether a tokenizer makes the same tokens of a text as of its words one by one, read from what the tokenizer says of itself.

A word is what stands between two spaces. Only kinds of tokenizers are named for which this follows from their
construction; all others are taken as a whole (None). Knows no texts.

Byte-pair encoding joins two neighbours at a time, the best pair of the whole text first. Where nothing that a
vocabulary holds reaches over a space, joins in one word never depend on another word.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Any

import numpy as np

SPACE = "▁"
BYTE_PAIRS = 2
"""sentencepiece's number of byte-pair encoding."""
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
PATTERNS = frozenset({GPT2, LLAMA3, QWEN2})
"""Patterns none of whose matches holds a space behind another character, or looks further than the next one, where white space
is a single space between two words."""


class Apart(Enum):
    """Which words are apart: of any letters, or those of ASCII alone."""

    ALL = "all"
    ASCII = "ascii"


def apart_in_json(description: dict[str, Any]) -> Apart | None:
    """For the content of a tokenizer.json, special tokens left out of texts, with a space before the first word."""
    model = description.get("model") or {}
    if model.get("type") != "BPE" or model.get("dropout"):
        return None
    plain = _added_tokens_stay_in_words(description.get("added_tokens") or ())
    if plain is None:
        return None
    steps = list(_steps(description.get("pre_tokenizer"), "pretokenizers"))
    changes = list(_steps(description.get("normalizer"), "normalizers"))
    if steps and all(_cuts_words(step) for step in steps) and steps[-1].get("type") == "ByteLevel":
        cut = any(step.get("use_regex", True) or step.get("type") == "Split" for step in steps)
        return Apart.ALL if cut and all(change.get("type") == "NFC" for change in changes) else None
    if not plain or not _spelled_with_a_sign(steps, changes):
        return None
    pieces = model.get("vocab") or {}
    whole = not model.get("ignore_merges") and not model.get("end_of_word_suffix")
    return Apart.ALL if whole and SPACE in pieces and _no_piece_reaches_over(pieces) else None


def apart_in_sentencepiece(
    model_type: int, charsmap: bytes, pieces: Iterable[str], unknown: str
) -> Apart | None:
    """For a sentencepiece model: its type, the rules by which it rewrites texts, its pieces and the unknown one."""
    held = set(pieces)
    if model_type != BYTE_PAIRS or SPACE not in held - {unknown} or not _no_piece_reaches_over(held):
        return None
    if not charsmap:
        return Apart.ALL
    return Apart.ASCII if _rules_leave_ascii_apart(charsmap) else None


def _no_piece_reaches_over(pieces: Iterable[str]) -> bool:
    """Whether signs for spaces stand only at the beginning of pieces."""
    return not any(SPACE in piece.lstrip(SPACE) for piece in pieces)


def _steps(part: dict[str, Any] | None, inner: str) -> Iterator[dict[str, Any]]:
    """The steps of a normalizer or pre_tokenizer, sequences laid out."""
    if part is None:
        return
    if part.get("type") == "Sequence":
        for each in part.get(inner) or ():
            yield from _steps(each, inner)
    else:
        yield part


def _added_tokens_stay_in_words(added: Iterable[dict[str, Any]]) -> bool | None:
    """None when an added token may take in a space or look at its neighbours; else whether all of them are special, so that texts
    are never cut at them."""
    special = True
    for token in added:
        content = token.get("content") or ""
        if (
            token.get("lstrip")
            or token.get("rstrip")
            or token.get("single_word")
            or content.split() != [content]
        ):
            return None
        special &= bool(token.get("special"))
    return special


def _cuts_words(step: dict[str, Any]) -> bool:
    """Whether a pre-tokenizer step does to a text what it does to its words, each with the space before it."""
    kind = step.get("type")
    if kind == "Split":
        pattern = (step.get("pattern") or {}).get("Regex")
        return pattern in PATTERNS and step.get("behavior") == "Isolated" and not step.get("invert")
    return kind == "Digits" or (kind == "ByteLevel" and not step.get("add_prefix_space"))


def _spelled_with_a_sign(steps: list[dict[str, Any]], changes: list[dict[str, Any]]) -> bool:
    """Whether texts are read as sentencepiece reads them: a sign for each space, and one before the first word."""
    put = {"type": "Prepend", "prepend": SPACE}
    swap = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    if not steps:
        return changes == [put, swap]
    (first, *others) = steps
    always = first.get("prepend_scheme", "always") in ("always", "first")
    return (
        not changes
        and not others
        and first.get("type") == "Metaspace"
        and first.get("replacement") == SPACE
        and always
    )


def _rules_leave_ascii_apart(charsmap: bytes) -> bool:
    """Whether no rule begins or goes on with a space, and every visible ASCII character is rewritten, if at all, by itself into
    visible ones.

    The rules are a trie (a darts-clone double array behind its size) over UTF-8, and the texts that its values point to.
    """
    size = int.from_bytes(charsmap[:4], "little")
    units = np.frombuffer(charsmap[4 : 4 + size], dtype="<u4").astype(np.int64)
    texts = charsmap[4 + size :]
    offsets = (units >> 10) << ((units & (1 << 9)) >> 6)
    labels = units & 0x800000FF

    def children(nodes: np.ndarray, label: int) -> np.ndarray:
        """bool: which of the nodes have a child by this byte."""
        at = nodes ^ offsets[nodes] ^ label
        inside = at < len(units)
        return inside & (labels[np.where(inside, at, 0)] == label)

    nodes = np.arange(len(units))
    if children(nodes[1:], ord(" ")).any() or children(nodes[:1], ord(" ")).any():
        return False
    for letter in range(0x21, 0x7F):
        if not children(nodes[:1], letter)[0]:
            continue
        node = int(offsets[0]) ^ letter
        if any(children(np.array([node]), following)[0] for following in range(1, 0x80)):
            return False
        if units[node] >> 8 & 1:
            text = texts[int(units[node ^ int(offsets[node])]) & 0x7FFFFFFF :].split(b"\0", 1)[0].decode()
            if text.split() != [text] or SPACE in text or not text.isprintable():
                return False
    return True
