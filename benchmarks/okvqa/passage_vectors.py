"""The fixed passage side of dense retrieval: the vectors of a corpus that `gemkr embed` has made."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from gemkr.data.documents import DocumentStore
from gemkr.errors import ConfigError, DataError
from gemkr.vector_index.manifest import read_manifest
from gemkr.vector_index.store import open_vectors, vector_plan

REMEDY = "make them with gemkr embed, from a dense retriever's section over this corpus with this encoder, in float16"


def passage_vectors(folder: Path, documents: DocumentStore, width: int) -> tuple[Tensor, str]:
    """float16[N, width] in the order of the corpus, and the fingerprint of the encoder that made them.

    Raises ConfigError where there are none, DataError for those of another corpus or width, or another dtype. That they lie in
    the space of one's own encoder no file can say: both are to be the same pre-trained model.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise ConfigError(f"the passage vectors {folder} are not there; {REMEDY}")
    encoder = str(manifest.get("encoder"))
    vectors = open_vectors(folder, vector_plan(encoder, documents.fingerprint, len(documents), width), REMEDY)
    found = torch.from_numpy(vectors.values.copy())
    if not torch.isfinite(found).all():
        raise DataError(f"the passage vectors {folder} hold numbers that are not finite; {REMEDY}")
    return found, encoder
