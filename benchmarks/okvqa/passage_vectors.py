"""One vector for each passage of a corpus, read once by a text encoder and kept in a file.

The fixed passage side of dense retrieval. An interrupted reading goes on where it stopped. Knows texts and an encoder's own
reading of them; no queries.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.okvqa.learned_weights import read_weights, write_weights
from gemkr.errors import DataError
from gemkr.files import lock, require_writable_folder
from gemkr.models.hf.text_encoder import TextEncoder, TextReader
from gemkr.progress import progress_bar
from gemkr.types import Document, Query

BATCH = 64
NAME = "vectors"

logger = logging.getLogger(__name__)


def passage_vectors(
    path: Path, documents: Sequence[Document], encoder: TextEncoder, reader: TextReader, dtype: torch.dtype
) -> Tensor:
    """float16[N, width], each of length 1: from the file where it is of these documents, this encoder and this precision;
    where there is none, they are read now and written there.

    Raises DataError for a file of other passages or of another encoder, and while another process reads into it. Cost: 100,000
    passages of 100 words take an encoder of 22 M parameters 13 minutes of two cores in bfloat16, nearly three times as long
    in float32; 2 bytes a number in the file, and as much beside it until all is read.
    """
    digest = hashlib.sha256(f"{encoder.fingerprint()} {reader.config.max_tokens} {dtype}".encode())
    for document in documents:
        digest.update(document.contents.encode() + b"\0")
    origin = digest.hexdigest()
    held = read_weights(path, origin)
    if held is None:
        if path.exists():
            raise DataError(
                f"{path} holds vectors of other passages, or read by another encoder, in another precision than {dtype} or to "
                f"another length than {reader.config.max_tokens} tokens; set these back, or set vectors to another file"
            )
        require_writable_folder(path.parent)
        with _ReadSoFar(path.with_name(path.name + ".part"), origin, encoder.width) as part:
            held = {NAME: _read(documents, encoder, reader, dtype, part)}
            write_weights(path, origin, held)
            part.remove()
    return held[NAME]


def _read(
    documents: Sequence[Document],
    encoder: TextEncoder,
    reader: TextReader,
    dtype: torch.dtype,
    part: _ReadSoFar,
) -> Tensor:
    """The vectors, passages of about equal lengths together, the longest first; those of `part` are not read again."""
    logger.info("reading %s passages, %s are known", f"{len(documents):,}", f"{len(part.rows):,}")
    order = sorted(range(len(documents)), key=lambda number: len(documents[number].contents), reverse=True)
    vectors = torch.zeros(len(documents), encoder.width, dtype=torch.float16)
    known = len(part.rows)
    vectors[order[:known]] = torch.from_numpy(part.rows)
    with progress_bar(total=len(order), initial=known, desc="passages", unit=" passages") as bar:
        for start in range(known, len(order), BATCH):
            numbers = order[start : start + BATCH]
            texts = [torch.from_numpy(reader(Query("", documents[number].contents))) for number in numbers]
            with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                rows = encoder.meaning(texts).half()
            part.add(rows.numpy())
            vectors[numbers] = rows
            bar.update(len(numbers))
    return vectors


class _ReadSoFar:
    """A file of vectors in the order of reading, behind a line that names their origin; one process at a time writes it."""

    def __init__(self, path: Path, origin: str, width: int) -> None:
        """`rows` float16[n, width] are those of whole batches that are there already; of another origin none is taken."""
        self.path = path
        head = origin.encode() + b"\n"
        with self._translated():
            self._stream = lock(path)
            data = path.read_bytes()
            size = BATCH * width * np.dtype(np.float16).itemsize
            batches = max(0, len(data) - len(head)) // size if data.startswith(head) else 0
            self._stream.truncate(len(head) + batches * size if batches else 0)
            if not batches:
                self._stream.write(head)
        kept = data[len(head) : len(head) + batches * size]
        self.rows = np.frombuffer(kept, np.float16).reshape(-1, width).copy()

    def __enter__(self) -> _ReadSoFar:
        return self

    def __exit__(self, *_: object) -> None:
        with self._translated():
            self._stream.close()

    def add(self, rows: np.ndarray) -> None:
        """Append float16[n, width]; handed to the operating system when this returns."""
        with self._translated():
            self._stream.write(rows.tobytes())
            self._stream.flush()

    def remove(self) -> None:
        """Delete the file: its contents are stored elsewhere."""
        with self._translated():
            self.path.unlink()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """DataError for what the system refuses."""
        try:
            yield
        except OSError as error:
            raise DataError(
                f"{self.path} cannot be written ({error.strerror}); free or choose another place for the vectors"
            ) from error
