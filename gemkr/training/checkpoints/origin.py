"""What a checkpoint belongs to, and whether something else belongs to it as well. Knows no tensors."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gemkr.data.corpus import corpus_files
from gemkr.errors import CheckpointError, DataError

Fingerprint = str | Sequence[float]
"""Of frozen weights: their hash, or a sample of their values, which stays the same in another precision."""
BASES = {
    "llm": ("LLM", "model.llm", ("model", "llm")),
    "vlm": ("VLM", "model.folder", ("model", "folder")),
    "tower": ("vision tower", "model.tower", ("model", "tower", "weights")),
    "text_encoder": (
        "text encoder",
        "model.text_encoder.folder and .weights",
        ("model", "text_encoder", "folder"),
    ),
    "encoder": ("encoder", "the encoder's folder", ("encoder", "folder")),
}
"""Parts of a model whose frozen weights no checkpoint holds: what they are called, the settings that choose them, and the one
among these that is a path."""
ROUNDING, TINY = 0.01, 1e-6
"""Of a sample's values: more than bfloat16 (2^-8) and float16's smallest steps (2^-24) can change. A model tuned so lightly
that every value of the sample stays within it passes for the same."""

ADDED = {
    "optimizer.eps": 1e-8,
    "optimizer.decay": "cosine",
    "model.lora.dora": False,
    "positives": "each",
    "negatives.draw": "first",
    "by_length": True,
    "loss.direct": False,
    "loss.least": 0.01,
    "encoder.document_picture": "image",
}
"""Settings that checkpoints of earlier versions do not record, with what held there."""


@dataclass(frozen=True)
class Origin:
    """What a checkpoint belongs to: `kind` of model, tokenizer fingerprint, data hash, the resolved configuration, and what
    distinguishes the frozen weights under it from others (`Writer.bases`)."""

    kind: str
    tokenizer: str
    data: str
    config: dict[str, Any] = field(default_factory=dict)
    bases: Mapping[str, Fingerprint] = field(default_factory=dict)

    def setting(self, *names: str) -> str | None:
        """The text that the configuration has under these names, one inside the other; None where it has none."""
        value: Any = self.config
        for name in names:
            value = value.get(name) if isinstance(value, Mapping) else None
        return value if isinstance(value, str) else None

    @property
    def owner(self) -> str:
        """The model that the checkpoint belongs to, for messages: by its path, else by its tokenizer."""
        llm = self.setting("model", "llm") or self.setting("model", "folder")
        return f"an LLM with the tokenizer {self.tokenizer[:12]}" if llm is None else f"the LLM {llm}"


def require_tokenizer(origin: Origin, fingerprint: str, where: str | Path) -> None:
    """CheckpointError unless the checkpoint was trained with the tokenizer of this fingerprint."""
    if origin.tokenizer != fingerprint:
        tokenizer = origin.setting("model", "tokenizer")
        raise CheckpointError(
            f"the checkpoint {where} belongs to {origin.owner}{f' and the tokenizer {tokenizer}' if tokenizer else ''}, this "
            "configuration's model has another tokenizer; set model.llm and model.tokenizer to what it was trained with"
        )


def require_bases(origin: Origin, bases: Mapping[str, Fingerprint], where: str | Path) -> None:
    """CheckpointError unless the checkpoint was trained on these frozen weights; where one side has no record,
    the configuration is trusted."""
    name = _other_base(origin.bases, bases)
    if name is not None:
        called, settings, place = BASES[name]
        path = origin.setting(*place)
        raise CheckpointError(
            f"the checkpoint {where} was trained on the {called} {f'{path} ' if path else ''}{_short(origin.bases[name])}, this "
            f"configuration loads one {_short(bases[name])}; set {settings} to what it was trained on"
        )


def _other_base(then: Mapping[str, Fingerprint], now: Mapping[str, Fingerprint]) -> str | None:
    """The first part whose frozen weights are recorded on both sides and are not the same."""
    for name in BASES:
        if name in then and name in now and not _same(then[name], now[name]):
            return name
    return None


def _same(then: Fingerprint, now: Fingerprint) -> bool:
    """Hashes equal, or samples that differ by no more than rounding to half precision does."""
    if isinstance(then, str) or isinstance(now, str):
        return then == now
    return len(then) == len(now) and all(
        math.isclose(a, b, rel_tol=ROUNDING, abs_tol=TINY) for a, b in zip(then, now)
    )


def _short(fingerprint: Fingerprint) -> str:
    """What a message shows of a fingerprint."""
    if isinstance(fingerprint, str):
        return f"of hash {fingerprint[:12]}"
    return "with " + ", ".join(f"{value:.4g}" for value in fingerprint[:3]) + ", ..."


def hash_files(paths: list[str | Path]) -> str:
    """Hexadecimal SHA-256 over the contents of files, in order; of a folder, over the names and contents of its `.txt` files.

    DataError names one that cannot be read.
    """
    digest = hashlib.sha256()
    parts = [(given, file) for given in paths for file in corpus_files(given)]
    for folder, path in parts:
        if path != Path(folder):
            digest.update(str(path.relative_to(folder)).encode(errors="surrogateescape"))
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
    name = _other_base(then.bases, now.bases)
    if name is not None:
        return f"{name} was {_short(then.bases[name])}, is {_short(now.bases[name])}"
    before, after = _flat(asdict(then)["config"]), _flat(asdict(now)["config"])
    for key in sorted(set(before) | set(after)):
        then_value, now_value = (values.get(key, ADDED.get(key)) for values in (before, after))
        if key not in free and then_value != now_value:
            return f"{key} was {then_value!r}, is {now_value!r}"
    return None


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return flat
