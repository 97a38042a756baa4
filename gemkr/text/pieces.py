"""What both kinds of tokenizers make of the pieces of a vocabulary: word starts, bytes, a fingerprint."""

from __future__ import annotations

import hashlib
import json
import re
from functools import lru_cache

import numpy as np

PROBE = "The 324 m Tour  Eiffel\t(1889) isn't in 北京 — naïve Ωmega, it's 😀."
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def word_starts(pieces: list[str], marker: str | None, special_ids: frozenset[int]) -> np.ndarray:
    if marker is None:
        starts = np.fromiter((not piece.startswith("##") for piece in pieces), dtype=bool, count=len(pieces))
    else:
        starts = np.fromiter((piece.startswith(marker) for piece in pieces), dtype=bool, count=len(pieces))
    starts[np.fromiter(special_ids, dtype=np.int64, count=len(special_ids))] = False
    starts.flags.writeable = False
    return starts


def vocabulary_fingerprint(pieces: list[str], special: tuple[int | None, ...], probe: list[int]) -> str:
    digest = hashlib.sha256()
    for part in (pieces, special, probe):
        digest.update(json.dumps(part).encode())
    return digest.hexdigest()


def piece_bytes(piece: str, marker: str | None) -> bytes:
    """What a piece stands for in a text, as UTF-8, the space before it included; `marker` as in `word_starts`."""
    if marker == "Ġ":
        table = _byte_of_letter()
        return b"".join(bytes([table[c]]) if c in table else c.encode() for c in piece)
    byte = _BYTE.fullmatch(piece)
    if byte is not None:
        return bytes([int(byte[1], 16)])
    if marker == "▁":
        return piece.replace("▁", " ").encode()
    return piece[2:].encode() if piece.startswith("##") else f" {piece}".encode()


@lru_cache(maxsize=1)
def _byte_of_letter() -> dict[str, int]:
    """The byte that each letter of a byte-level vocabulary stands for (GPT-2's table)."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + i): byte for i, byte in enumerate(hidden)}
