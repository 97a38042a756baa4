"""The one tree of errors that users may catch; its root lives on the ground floor.

Every message is one sentence that names the thing, both values and the way out; the command line prints
it and exits with 1.
"""

from __future__ import annotations

from gemkr.fm_index.errors import FMIndexError, GemkrError

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "DecodingError",
    "FMIndexError",
    "GemkrError",
    "ModelError",
    "ShardError",
    "TokenizerError",
    "VisionError",
    "first_line",
]


def first_line(error: Exception) -> str:
    """The message of another library's error, cut to one line for use inside a sentence."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


class ConfigError(GemkrError):
    """A configuration file or an override that cannot be used."""


class DataError(GemkrError):
    """A corpus, query, qrels or run file with a bad row, or data that do not belong together."""


class TokenizerError(GemkrError):
    """A tokenizer that cannot be loaded or does not belong to an index or a model."""


class VisionError(GemkrError):
    """A picture, a detector, a vision tower or a region store that cannot be used."""


class ModelError(GemkrError):
    """A language model or a prompt that does not fit the rest of the system."""


class DecodingError(GemkrError):
    """Decoding settings or an index that leave nothing to decode."""


class ShardError(GemkrError):
    """A shard of a collection that does not answer, or does not belong to the others."""


class CheckpointError(GemkrError):
    """A checkpoint that is missing, incomplete or made for another model."""
