"""Encoders: one vector for each query and document. The names that a section `encoder` may have."""

from gemkr.config.kinds import Role

ENCODERS = Role(
    "encoder",
    "encode_documents",
    {"sentence_transformers": "gemkr.models.hf.sentence_transformers:SentenceTransformerEncoder"},
)
"""Short names of kinds -> "module:Class"."""
