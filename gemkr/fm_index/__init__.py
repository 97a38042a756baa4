"""The FM-index over token sequences: exact counts, allowed next tokens and documents of any clue. numpy only."""

from importlib.util import find_spec

if find_spec("gemkr.fm_index._core") is None:
    raise ImportError(
        "gemkr's C++ extension is not built for this Python; in a source checkout run `make install`, or `python setup.py "
        "build_ext --inplace`, and start again"
    )

from gemkr.fm_index.errors import (
    FMIndexError,
    GemkrError,
    IndexBuildError,
    IndexCorruptError,
    IndexFormatError,
    IndexQueryError,
    IndexWriteError,
    TokenizerMismatchError,
)
from gemkr.fm_index.index import FMIndex, Span
from gemkr.fm_index.plan import estimate_build
from gemkr.fm_index.segmented import SegmentedIndex

__all__ = [
    "FMIndex",
    "FMIndexError",
    "GemkrError",
    "IndexBuildError",
    "IndexCorruptError",
    "IndexFormatError",
    "IndexQueryError",
    "IndexWriteError",
    "SegmentedIndex",
    "Span",
    "TokenizerMismatchError",
    "estimate_build",
]
