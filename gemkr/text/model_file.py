"""What a sentencepiece model says of its kind: two settings out of its protocol buffer. Knows no texts."""

from __future__ import annotations

from collections.abc import Iterator

UNIGRAM = 1
"""The type of a model that names none; 2 is byte-pair encoding, 3 words, 4 characters."""


def kind_of(proto: bytes) -> tuple[int, bytes]:
    """(type of the model, compiled rules by which it rewrites texts, b"" for none).

    ValueError for what is no message. A few ms for 32,000 pieces.
    """
    kind, rules = UNIGRAM, b""
    for number, settings in _fields(proto):
        if number == 2 and isinstance(settings, bytes):
            kind = next((v for n, v in _fields(settings) if n == 3 and isinstance(v, int)), kind)
        elif number == 3 and isinstance(settings, bytes):
            rules = next((v for n, v in _fields(settings) if n == 2 and isinstance(v, bytes)), rules)
    return kind, rules


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """(number, value) of the fields of a message, in order: int for a variable-length number, bytes for anything else."""
    at, end = 0, len(message)
    while at < end:
        if message[at] == 0x0A and at + 1 < end and message[at + 1] < 0x80:  # a short first field: a piece
            stop = at + 2 + message[at + 1]
            yield 1, message[at + 2 : stop]
            at = stop
            continue
        key, at = _number(message, at)
        value: bytes | int
        if key & 7 == 0:
            value, at = _number(message, at)
        else:
            size = {1: 8, 5: 4}.get(key & 7)
            if size is None:
                if key & 7 != 2:
                    raise ValueError(f"kind {key & 7} of field {key >> 3} is unknown")
                size, at = _number(message, at)
            value = message[at : at + size]
            at += size
        yield key >> 3, value


def _number(message: bytes, at: int) -> tuple[int, int]:
    """(number, where it ends)."""
    value = shift = 0
    while True:
        if at >= len(message):
            raise ValueError("the message is cut short")
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
