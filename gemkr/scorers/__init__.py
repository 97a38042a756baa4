"""Document scorers: score given documents for a query. What ranks inside a clue's span, and what reranking can use."""

from gemkr.config.kinds import Role

SCORERS = Role(
    "document scorer",
    "score",
    {
        "bm25": "gemkr.scorers.bm25:BM25",
        "random": "gemkr.scorers.random_order:RandomOrder",
        "dense": "gemkr.scorers.dense:DenseScorer",
        "cross_encoder": "gemkr.scorers.cross_encoder:CrossEncoderScorer",
        "blend": "gemkr.scorers.blend:Blend",
    },
)
"""Short names of kinds -> "module:Class"."""
