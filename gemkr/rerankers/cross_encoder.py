"""Reranking by a cross-encoder: a model that reads question and passage together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gemkr.config.ranges import Share
from gemkr.rerankers.pointwise import PointwiseReranker
from gemkr.scorers.cross_encoder import CrossEncoderScorer

if TYPE_CHECKING:
    from gemkr.sources import Sources


class CrossEncoderReranker(PointwiseReranker):
    """`PointwiseReranker` whose scorer is a cross-encoder."""

    @dataclass(frozen=True, kw_only=True)
    class Config(CrossEncoderScorer.Config):
        """A cross-encoder; `retrieval_weight` is the share of the score that the hits come with, both as in `pointwise` if `scaled`."""

        retrieval_weight: Share = 0.0
        scaled: bool = True

    @classmethod
    def from_config(cls, config: Config, sources: Sources) -> CrossEncoderReranker:
        scorer = CrossEncoderScorer.from_config(config, sources)
        return cls(scorer, sources.documents, retrieval_weight=config.retrieval_weight, scaled=config.scaled)

    @staticmethod
    def input_files(config: Config) -> dict[str, str | None]:
        """The folder."""
        return CrossEncoderScorer.input_files(config)
