"""Encoders: one vector for each query and document. The names that a section `encoder` may have."""

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
