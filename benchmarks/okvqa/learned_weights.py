"""The weight file of a learned guesser or scorer: weights, and the hash of everything they were learned from.

A file with another hash is refused. Knows tensors by name only.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from gemkr.errors import ConfigError, DataError
from gemkr.files import require_writable_folder, write_atomically
from gemkr.models.weights import load_weights
from gemkr.types import Query


def classes_of(queries: Sequence[Query], least: int) -> list[str]:
    """The answers that at least `least` queries give, in order of appearance; DataError when there is none."""
    counts = Counter(answer for query in queries for answer in dict.fromkeys(query.answers) if answer.strip())
    answers = [answer for answer, count in counts.items() if count >= least]
    if not answers:
        raise DataError(
            f"no answer is given by {least} of the {len(queries)} training queries; give more queries, or lower least_answers"
        )
    return answers


def targets_of(query: Query, numbers: Mapping[str, int]) -> list[int]:
    """The classes of a query's own answers, each once."""
    return [numbers[answer] for answer in dict.fromkeys(query.answers) if answer in numbers]


def origin_of(queries: Sequence[Query], *settings: Any) -> str:
    """SHA-256 of everything that decides the weights: settings (JSON values), and what is learned of each query."""
    digest = hashlib.sha256(json.dumps(settings).encode())
    for query in queries:
        seen = [query.question, query.caption, query.detections, query.answers]
        digest.update(json.dumps(seen).encode())
    return digest.hexdigest()


def read_weights(path: Path, origin: str) -> dict[str, Tensor] | None:
    """The tensors of a weight file; None when there is none, or it was learned from other queries or settings.

    Raises DataError for a file that is not a weight file.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as stream:
            if (stream.metadata() or {}).get("origin") != origin:
                return None
            return {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise DataError(f"{path} is not a weight file of gemkr; delete it") from error


def read_learned(trained: Mapping[str, Tensor], path: Path, origin: str, learned_from: str) -> None:
    """Fill the tensors `trained` from a weight file of that origin.

    Raises ConfigError, naming the command that learns, where there is none, and DataError for a file of another origin,
    which was learned from other `learned_from`.
    """
    held = require_weights(path, origin, learned_from)
    load_weights(trained, held, str(path), remedy="delete it to learn again")


def require_weights(path: Path, origin: str, learned_from: str) -> dict[str, Tensor]:
    """The tensors of a weight file of that origin; raises as `read_learned`."""
    held = read_weights(path, origin)
    if held is None and path.exists():
        raise _of_another_origin(path, learned_from)
    if held is None:
        raise missing_weights(path)
    return held


def missing_weights(path: Path) -> ConfigError:
    """The error where a learned file is missing."""
    return ConfigError(
        f"{path} does not exist, and retrieval never trains; make it first: python -m benchmarks.okvqa.fit CONFIG RETRIEVER"
    )


def learn_weights(
    path: Path, origin: str, learn: Callable[[], Mapping[str, Tensor]], learned_from: str
) -> str:
    """Call `learn` and keep the tensors it returns, unless a file of that origin is there; says what was done.

    A file of another origin is never written over: DataError. Raises DataError too, before anything is learned, for a folder
    that cannot be written.
    """
    if read_weights(path, origin) is not None:
        return f"there already: {path}"
    if path.exists():
        raise _of_another_origin(path, learned_from)
    require_writable_folder(path.parent)
    write_weights(path, origin, {name: tensor.detach() for name, tensor in learn().items()})
    return f"learned: {path}"


def _of_another_origin(path: Path, learned_from: str) -> DataError:
    return DataError(
        f"{path} was learned from other {learned_from}; delete it to learn again, or set weights to another file"
    )


def write_weights(path: Path, origin: str, tensors: Mapping[str, Tensor]) -> None:
    """Write a weight file in one piece, or leave what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"origin": origin}  # one key: safetensors writes several in no fixed order
    write_atomically(path, save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata))
