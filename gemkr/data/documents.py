"""Random access to the documents of a corpus, by number and by id, for ranking and for reports.

They lie in a file that is mapped into memory (`documents_file`): an unnamed temporary one, or one that is kept beside an index of the
corpus (`kept_documents`). Knows nothing of tokens or scores.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import overload

import numpy as np

from gemkr.data.corpus import BadRows, read_corpus
from gemkr.data.documents_file import DocumentsFile, open_documents, write_documents
from gemkr.data.kept_documents import open_kept, place_beside, read_and_keep, stamp_of
from gemkr.errors import DataError
from gemkr.types import Document

READ = 1024


class DocumentStore(Sequence[Document]):
    """The documents of a corpus: `store[3]`, `store.by_id("a7")`, `store.number("a7")`, iteration in order.

    Document numbers are positions in the corpus and agree with those of an FM-index built from the same file
    with the same treatment of bad rows; `require_same_documents` checks it.
    """

    def __init__(self, documents: Iterable[Document]) -> None:
        """Copy the documents; raises DataError for a duplicate id, no documents, or a full temporary folder."""
        try:
            with tempfile.TemporaryFile() as stream:
                write_documents(stream, documents, "")
                file = open_documents(stream)
        except OSError as error:
            raise DataError(
                f"the texts do not fit into the temporary folder {tempfile.gettempdir()} ({error.strerror}); "
                "set TMPDIR to a folder with more space"
            ) from error
        self._hold(file, None)

    def _hold(self, file: DocumentsFile, kept: Path | None) -> None:
        self._file, self._texts, self._kept = file, file.texts, kept
        self.doc_ids: Sequence[str] = file.texts.ids

    @classmethod
    def open(
        cls, path: str | Path, *, skip_bad_rows: BadRows | None = None, index: str | Path | None = None
    ) -> DocumentStore:
        """Read a corpus file (`gemkr.data.corpus.read_corpus`) once, from start to end.

        The documents of a large one are kept beside `index`, a file or folder that was made of it, where that can be: the next start
        maps them, as long as the corpus stays as it is (`kept_documents`).
        """
        path = Path(path)
        stamp = None if index is None else stamp_of(path)
        if index is None or stamp is None:
            return cls(read_corpus(path, skip_bad_rows=skip_bad_rows))
        store, place = cls.__new__(cls), place_beside(index)
        if (found := open_kept(place, stamp)) is not None:
            store._hold(found, place)
            return store
        bad = None if skip_bad_rows is None else BadRows()
        made = read_and_keep(path, place, stamp, read_corpus(path, skip_bad_rows=bad), lambda: not bad)
        if made is None:
            return cls(read_corpus(path, skip_bad_rows=skip_bad_rows))
        if skip_bad_rows is not None and bad is not None:
            skip_bad_rows.rows += bad.rows
        store._hold(made[0], place if made[1] else None)
        return store

    @classmethod
    def open_indexed(
        cls, path: str | Path, doc_ids: Sequence[str], *, index: str | Path | None = None
    ) -> DocumentStore:
        """Read the corpus file that an index with these ids was built from, skipping the rows it skipped; `index`: where it is, as
        for `open`.

        Raises DataError as `require_same_documents` does.
        """
        bad = BadRows()
        store = cls.open(path, skip_bad_rows=bad, index=index)
        store.require_same_documents(doc_ids, bad)
        return store

    def __len__(self) -> int:
        return len(self.doc_ids)

    @overload
    def __getitem__(self, doc: int) -> Document: ...

    @overload
    def __getitem__(self, doc: slice) -> list[Document]: ...

    def __getitem__(self, doc: int | slice) -> Document | list[Document]:
        """The document with a number (IndexError outside [0, len)), or the documents of a slice.

        DataError where its texts, kept by an earlier start, are damaged; they are deleted then.
        """
        if isinstance(doc, slice):
            return [self[i] for i in range(*doc.indices(len(self)))]
        if not 0 <= doc < len(self):
            raise IndexError(f"document {doc} is outside of [0, {len(self)})")
        return self._intact(doc, self._file.document(doc))

    def __iter__(self) -> Iterator[Document]:
        for start in range(0, len(self), READ):
            found = self._file.read(start, min(start + READ, len(self)))
            yield from map(self._intact, count(start), found)

    def _intact(self, doc: int, document: Document | None) -> Document:
        if document is None:
            place = tempfile.gettempdir()
            if self._kept is not None:
                place = f"{self._kept}, where the corpus was kept and which was deleted now"
                with suppress(OSError):
                    self._kept.unlink()
            raise DataError(f"document {doc} is damaged in {place}; start again")
        return document

    def __contains__(self, doc_id: object) -> bool:
        return isinstance(doc_id, str) and self._texts.number(doc_id) is not None

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the documents: ids, titles, texts and image ids, in order. About a second per gigabyte."""
        bounds, digest = self._texts.bounds, hashlib.sha256("\n".join(self.doc_ids).encode())
        pictures = bounds[3::3] - bounds[2::3]  # bytes of image ids, which are not among the texts here
        before = np.cumsum(pictures) - pictures
        ends = np.zeros(2 * len(self) + 1, np.int64)
        ends[1::2], ends[2::2] = bounds[1::3] - before, bounds[2::3] - before
        digest.update(ends)
        start, images = 0, {}
        with memoryview(self._texts.bytes) as texts:
            for doc in np.flatnonzero(pictures).tolist():
                stop, after = bounds[3 * doc + 2 : 3 * doc + 4].tolist()
                digest.update(texts[start:stop])
                images[doc], start = bytes(texts[stop:after]).decode(), after
            digest.update(texts[start : bounds[-1]])
        digest.update(repr(images).encode())
        return digest.hexdigest()

    def number(self, doc_id: str) -> int:
        """The number of a document id, O(log n); raises DataError when the corpus does not hold it."""
        found = self._texts.number(doc_id)
        if found is None:
            raise DataError(
                f"the document id {doc_id!r} is not among the {len(self)} documents of the corpus; use the corpus that "
                "the ids were made for"
            )
        return found

    def by_id(self, doc_id: str) -> Document:
        """The document with an id; raises DataError when the corpus does not hold it."""
        return self[self.number(doc_id)]

    def contents(self, doc: int) -> str:
        """What is indexed and shown of document number `doc`: its title and its text."""
        return self[doc].contents

    def require_same_documents(self, doc_ids: Sequence[str], passed_over: BadRows | None = None) -> None:
        """Raise DataError unless an index with these ids (in its order) holds exactly these documents.

        The error names the first of the bad rows that were `passed_over`.
        """
        require_same_ids(doc_ids, self.doc_ids, passed_over)


def require_same_ids(theirs: Sequence[str], ours: Sequence[str], passed_over: BadRows | None = None) -> None:
    """Raise DataError unless an index with the ids `theirs` holds exactly the documents of a corpus with the ids `ours`."""
    if len(theirs) != len(ours):
        bad = f" and {len(passed_over)} bad rows ({passed_over.rows[0]})" if passed_over else ""
        raise DataError(
            f"the index holds {len(theirs)} documents, the corpus {len(ours)}{bad}; use the corpus that it was built from"
        )
    for number, (other, own) in enumerate(zip(theirs, ours)):
        if other != own:
            raise DataError(
                f"document {number} is {other!r} in the index and {own!r} in the corpus; use the corpus that the "
                "index was built from"
            )


def allowed_documents(doc_ids: Sequence[str], allowed: Collection[str]) -> np.ndarray:
    """bool[N]: which documents are among the allowed ids; O(N). DataError for a name in place of a set of ids."""
    if isinstance(allowed, str):
        raise DataError(
            f"allowed must be a set of document ids, it is the text {allowed!r}; look a pool up by its name first"
        )
    ids = allowed if isinstance(allowed, (set, frozenset, dict)) else frozenset(allowed)
    return np.fromiter((doc_id in ids for doc_id in doc_ids), dtype=bool, count=len(doc_ids))
