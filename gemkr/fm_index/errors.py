"""The root of the project's error tree and the errors of the index. Knows nothing else of gemkr."""

from __future__ import annotations


class GemkrError(Exception):
    """Root of every error that gemkr raises on purpose: one sentence that names the thing and the way out."""


class FMIndexError(GemkrError):
    """Anything that goes wrong with an FM-index."""


class IndexBuildError(FMIndexError):
    """The documents, ids or parameters handed to a build cannot make an index."""


class IndexQueryError(FMIndexError, ValueError):
    """A span, document number or array does not fit this index."""


class IndexWriteError(FMIndexError):
    """The index file could not be written; whatever stood at the path before still stands there."""


class IndexFormatError(FMIndexError):
    """The file is not an index, is cut short, or has a format version that this gemkr does not read."""


class IndexCorruptError(FMIndexError):
    """A part of the file does not hold what was written; the message names the section, the header or the padding."""


class TokenizerMismatchError(FMIndexError):
    """The index was built with another tokenizer than the one in use."""
