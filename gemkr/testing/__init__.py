"""Stand-ins for tests, tutorials and benchmarks: language models and encoders without weights, a toy tokenizer, a toy corpus.

All of it is deterministic and small.
"""

from gemkr.testing.encoders import ReversingReranker, WordEncoder, WordTokenEncoder
from gemkr.testing.models import FakeLM, PrefixState, RandomLM, ScriptedLM, TableLM, TableState
from gemkr.testing.texts import ToyTokenizer, toy_corpus

__all__ = [
    "FakeLM",
    "PrefixState",
    "RandomLM",
    "ReversingReranker",
    "ScriptedLM",
    "TableLM",
    "TableState",
    "ToyTokenizer",
    "WordEncoder",
    "WordTokenEncoder",
    "toy_corpus",
]
