"""What a checkpoint belongs to, and whether something else belongs to it as well. Knows no tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gemkr.errors import CheckpointError, DataError


@dataclass(frozen=True)
class Origin:
    """What a checkpoint belongs to: `kind` of model, tokenizer fingerprint, data hash, the resolved configuration, and the
    fingerprint of what stayed as it was in the text encoder, None without one."""

    kind: str
    tokenizer: str
    data: str
    config: dict[str, Any] = field(default_factory=dict)
    text_encoder: str | None = None


def require_tokenizer(origin: Origin, fingerprint: str, where: str | Path) -> None:
    """CheckpointError unless the checkpoint was trained with the tokenizer of this fingerprint."""
    if origin.tokenizer != fingerprint:
        raise CheckpointError(
            f"the checkpoint {where} was trained with the tokenizer {origin.tokenizer[:12]}, this model has "
            f"{fingerprint[:12]}; use the tokenizer it was trained with"
        )


def require_text_encoder(origin: Origin, fingerprint: str | None, where: str | Path) -> None:
    """CheckpointError unless the checkpoint was trained behind the frozen encoder weights of this fingerprint; checkpoints
    that tell of none are taken at their word."""
    if origin.text_encoder is not None and fingerprint is not None and origin.text_encoder != fingerprint:
        raise CheckpointError(
            f"the checkpoint {where} was trained behind the text encoder weights {origin.text_encoder[:12]}, this configuration "
            f"loads {fingerprint[:12]}; set model.text_encoder.folder and .weights to those it was trained behind"
        )


def hash_files(paths: list[str | Path]) -> str:
    """Hexadecimal SHA-256 over the contents of files, in order; DataError names one that cannot be read."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            with open(path, "rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        except OSError as error:
            raise DataError(f"the file {path} cannot be read: {error.strerror}; correct its path") from error
    return digest.hexdigest()


def origins_differ(then: Origin, now: Origin, free: frozenset[str]) -> str | None:
    """The first thing in which two origins differ, as 'NAME was A, is B'; keys in `free` may differ. None if equal."""
    for name in ("kind", "tokenizer", "data"):
        before, after = getattr(then, name), getattr(now, name)
        if before != after:
            return f"{name} was {before[:12]}, is {after[:12]}"
    if None not in (then.text_encoder, now.text_encoder) and then.text_encoder != now.text_encoder:
        return f"text_encoder was {then.text_encoder[:12]}, is {now.text_encoder[:12]}"
    before, after = _flat(asdict(then)["config"]), _flat(asdict(now)["config"])
    for key in sorted(set(before) | set(after)):
        if key not in free and before.get(key) != after.get(key):
            return f"{key} was {before.get(key)!r}, is {after.get(key)!r}"
    return None


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return flat
