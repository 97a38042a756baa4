"""gemkr: an LLM writes a knowledge clue that is a real substring of your corpus, and so finds the documents.

Importing this package is light: names are loaded when first touched (PEP 562), so no torch until a
name that needs it.
"""

from __future__ import annotations

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "FMIndex": "gemkr.fm_index",
    "Span": "gemkr.fm_index",
    "Query": "gemkr.types",
    "Document": "gemkr.types",
    "Clue": "gemkr.types",
    "Hit": "gemkr.types",
    "Ranking": "gemkr.types",
    "GemkrError": "gemkr.errors",
    "load_tokenizer": "gemkr.text.tokenizer",
    "read_corpus": "gemkr.data.corpus",
    "GenerativeRetriever": "gemkr.retrievers.generative.retriever",
    "generate_clues": "gemkr.decoding.beam",
    "load": "gemkr.loaded",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'gemkr' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
