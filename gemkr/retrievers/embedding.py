"""What retrievers that read vectors share: encoding a corpus in blocks (`gemkr embed`), and ranking queries by an index of vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gemkr.data.documents import DocumentStore, allowed_documents
from gemkr.data.queries import batches
from gemkr.errors import DataError
from gemkr.files import lock
from gemkr.interfaces import Allowed, Encoder, TokenEncoder, TokenVectorIndex, VectorIndex
from gemkr.progress import progress_bar
from gemkr.retrievers.generative.shares import from_one_share
from gemkr.types import Document, Hit, Query, Ranking
from gemkr.vector_index.manifest import MANIFEST, part_folder
from gemkr.vector_index.segment_store import Parts, name_of

LOCK = ".lock"
BLOCK = 1024
"""Documents encoded between two saves."""
REMEDY = "make them with gemkr embed CONFIG NAME"
ANEW = "delete it, or choose another folder"


def remedy_for(folder: str | Path, setting: str, parts: Parts | None = None) -> str:
    """What helps where vectors cannot be opened: `gemkr embed` makes those that are missing, and replaces none. Where all of `folder`
    are there, of a corpus or of the segments `parts`, it is those of another encoder or corpus, or damaged ones, that stand in its way.
    `setting` names the folder in the retriever's section."""
    folder = Path(folder)
    places = [folder] if parts is None else [folder / name_of(segment) for segment, _ in parts]
    if not all((place / MANIFEST).exists() for place in places):
        return REMEDY
    return f"delete {folder}, or set {setting} to another folder, then {REMEDY}"


@dataclass(frozen=True)
class Embedded:
    """Documents encoded now, documents whose vectors were there, whether an index over them was built now, and the ids of those that
    have no vector and are never found."""

    encoded: int
    there: int
    index_built: bool
    empty: tuple[str, ...] = ()


def blocks_of(
    documents: DocumentStore, start: int = 0, *, progress: bool = False
) -> Iterator[list[Document]]:
    """The documents from number `start` on in blocks, with a bar that says how long the rest will take."""
    with progress_bar(
        desc="embedding", total=len(documents), initial=start, unit=" documents", disable=not progress
    ) as bar:
        for first in range(start, len(documents), BLOCK):
            block = documents[first : first + BLOCK]
            yield block
            bar.update(len(block))


def write_missing(
    folder: str | Path,
    writer_of: Callable[[], Any],
    encoder: Encoder | TokenEncoder,
    documents: DocumentStore,
    *,
    progress: bool,
) -> int:
    """Encode the documents whose vectors are not in the folder of a corpus yet, and finish it; how many were there. `writer_of` opens it
    (a `VectorWriter` or `TokenWriter`). DataError as `only_writer`, and of the writer."""
    with only_writer(folder):
        writer = writer_of()
        there: int = writer.done
        for block in blocks_of(documents, there, progress=progress):
            writer.add(encoder.encode_documents(block))
        writer.finish()
    return there


@contextmanager
def only_writer(folder: str | Path) -> Iterator[None]:
    """Keep other processes from writing the vectors `folder` of a corpus until they are finished; DataError where one is at it."""
    folder, stream = Path(folder), None
    part = part_folder(folder)
    try:
        if not (folder / MANIFEST).exists():
            part.mkdir(parents=True, exist_ok=True)
            stream = lock(part / LOCK)
    except DataError as error:
        raise DataError(
            f"another process is writing the vectors {folder}; wait until it has ended"
        ) from error
    except OSError as error:
        raise DataError(
            f"the vectors {folder} cannot be written ({error.strerror}); choose another folder"
        ) from error
    try:
        yield
    finally:
        if stream is not None:
            for place in (part, folder):  # finished ones have their name now
                with suppress(OSError):
                    (place / LOCK).unlink()
            with suppress(OSError):  # where nothing was begun
                part.rmdir()
            stream.close()


def rankings_of(
    encoder: Encoder | TokenEncoder,
    index: VectorIndex | TokenVectorIndex,
    doc_ids: Sequence[str],
    queries: Iterable[Query],
    k: int,
    allowed: Allowed,
    batch_size: int,
) -> Iterator[Ranking]:
    """One ranking of at most `k` hits per query, in order: what `index` finds, among `allowed` documents, for the vectors that the
    encoder of the same kind gives of `batch_size` queries at a time. `doc_ids[i]` names document i."""
    mask = None if allowed is None else allowed_documents(doc_ids, allowed)

    def answer(batch: Sequence[Query], vectors: Any) -> Iterator[Ranking]:
        scores, docs = index.search(vectors, k, mask)
        for query, its_scores, its_docs in zip(batch, scores.tolist(), docs.tolist(), strict=True):
            found = zip(its_scores, its_docs, strict=True)
            hits = tuple(Hit(doc_ids[doc], score) for score, doc in found if doc >= 0)
            yield Ranking(query.query_id, hits)

    for batch in batches(queries, batch_size):
        yield from from_one_share(index, partial(answer, batch, encoder.encode_queries(batch)))
