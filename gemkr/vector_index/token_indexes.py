"""Indexes over token vectors: the names that a section `index` of a late interaction retriever may have.

They are built as those of `indexes.py` are.
"""

from gemkr.config.kinds import Role

TOKEN_INDEXES = Role(
    "token index",
    "search",
    {
        "exact": "gemkr.vector_index.token_exact:ExactTokenIndex",
        "centroid": "gemkr.vector_index.centroid_index:CentroidIndex",
    },
)
"""Short names of kinds -> "module:Class"."""
