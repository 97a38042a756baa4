"""Rerankers: reorder the hits of a ranking. The names that a section `reranker` may have."""

from gemkr.config.kinds import Role

RERANKERS = Role(
    "reranker",
    "rerank",
    {
        "pointwise": "gemkr.rerankers.pointwise:PointwiseReranker",
        "cross_encoder": "gemkr.rerankers.cross_encoder:CrossEncoderReranker",
        "yes_no": "gemkr.rerankers.yes_no:YesNoReranker",
        "listwise": "gemkr.rerankers.listwise:ListwiseReranker",
        "query_likelihood": "gemkr.rerankers.query_likelihood:QueryLikelihoodReranker",
    },
)
"""Short names of kinds -> "module:Class"."""
