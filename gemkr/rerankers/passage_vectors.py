"""One vector for each passage of a corpus, read once by a text encoder and kept in a file.

The fixed passage side of dense retrieval. Knows texts and an encoder's own reading of them; no queries.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from gemkr.errors import DataError
from gemkr.evaluation.files import require_writable_folder
from gemkr.models.text_encoder import TextEncoder, TextReader
from gemkr.progress import progress_bar
from gemkr.retrievers.classifier_weights import read_weights, write_weights
from gemkr.types import Document, Query

BATCH = 64
NAME = "vectors"

logger = logging.getLogger(__name__)


def passage_vectors(
    path: Path, documents: Sequence[Document], encoder: TextEncoder, reader: TextReader, dtype: torch.dtype
) -> Tensor:
    """float16[N, width], each of length 1: from the file where it is of these documents, this encoder and this precision;
    where there is none, they are read now and written there.

    Raises DataError for a file of other passages or of another encoder. Cost: 100,000 passages of 100 words take an encoder of
    22 M parameters 13 minutes of two cores in bfloat16, nearly three times as long in float32; 2 bytes a number in the file.
    """
    digest = hashlib.sha256(f"{encoder.fingerprint()} {reader.config.max_tokens} {dtype}".encode())
    for document in documents:
        digest.update(document.contents.encode() + b"\0")
    held = read_weights(path, digest.hexdigest())
    if held is None:
        if path.exists():
            raise DataError(
                f"{path} holds vectors of other passages, or read by another encoder, in another precision than {dtype} or to "
                f"another length than {reader.config.max_tokens} tokens; set these back, or set vectors to another file"
            )
        require_writable_folder(path.parent)
        held = {NAME: _read(documents, encoder, reader, dtype)}
        write_weights(path, digest.hexdigest(), held)
    return held[NAME]


def _read(
    documents: Sequence[Document], encoder: TextEncoder, reader: TextReader, dtype: torch.dtype
) -> Tensor:
    """The vectors, passages of about equal lengths together."""
    logger.info("reading %s passages", f"{len(documents):,}")
    vectors = torch.zeros(len(documents), encoder.width, dtype=torch.float16)
    order = sorted(range(len(documents)), key=lambda number: len(documents[number].contents), reverse=True)
    with progress_bar(total=len(order), desc="passages", unit=" passages") as bar:
        for start in range(0, len(order), BATCH):
            numbers = order[start : start + BATCH]
            texts = [torch.from_numpy(reader(Query("", documents[number].contents))) for number in numbers]
            with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                vectors[numbers] = encoder.meaning(texts).half()
            bar.update(len(numbers))
    return vectors
