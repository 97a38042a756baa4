"""Encoders of queries and documents: of one vector each, and of one for each token. The names that a section `encoder` may have."""

from gemkr.config.kinds import Role

ENCODERS = Role(
    "encoder",
    "encode_documents",
    {
        "sentence_transformers": "gemkr.models.hf.sentence_transformers:SentenceTransformerEncoder",
        "clip_sf": "gemkr.models.uniir.clip_sf:ClipScoreFusionEncoder",
        "clip_ff": "gemkr.models.uniir.clip_ff:ClipFeatureFusionEncoder",
        "blip_sf": "gemkr.models.uniir.blip_sf:BlipScoreFusionEncoder",
        "blip_ff": "gemkr.models.uniir.blip_ff:BlipFeatureFusionEncoder",
        "vlm": "gemkr.models.hf.vlm:VlmEncoder",
    },
)
"""Short names of kinds -> "module:Class"."""

TOKEN_ENCODERS = Role(
    "token encoder",
    "encode_documents",
    {
        "preflmr": "gemkr.models.flmr.encoder:PreFLMREncoder",
        "multi_vector": "gemkr.models.hf.multi_vector:MultiVectorTokenEncoder",
    },
)
"""The same of encoders for late interaction."""

ALL_ENCODERS = Role("encoder", "encode_documents", {**ENCODERS.known, **TOKEN_ENCODERS.known})
"""What contrastive training trains."""
