"""Readers: an answer to a query from its best passages. The names that a section `reader` may have."""

from gemkr.config.kinds import Role

READERS = Role(
    "reader",
    "answer",
    {"llm": "gemkr.answering.reader:LLMReader", "clues": "gemkr.answering.clues:ClueReader"},
)
"""Short names of kinds -> "module:Class"."""
