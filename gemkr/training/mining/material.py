"""What clues are mined from: a corpus file with its index and its tokenizer, or a collection, which has both."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from gemkr.collection.documents import CollectionDocuments
from gemkr.collection.opening import holds_collection, index_here, open_collection
from gemkr.collection.sharded_documents import ShardedDocuments
from gemkr.data.documents import DocumentStore
from gemkr.errors import DataError
from gemkr.fm_index import FMIndex, SegmentedIndex
from gemkr.text.index_tokenizer import require_same_texts, tokenizer_of
from gemkr.text.tokenizer import Tokenizer, load_tokenizer

MinedIndex: TypeAlias = FMIndex | SegmentedIndex
MinedDocuments: TypeAlias = DocumentStore | CollectionDocuments | ShardedDocuments


def mining_material(
    corpus: Path, index: Path | None = None, tokenizer: Path | None = None
) -> tuple[MinedIndex, MinedDocuments, Tokenizer]:
    """Index, documents and tokenizer, that belong together.

    Of a collection or a folder of shards, those of its newest generation, whatever becomes of it later; `tokenizer`: where it is
    now, if it was moved. The index is searched in this process, so forks may share it. Raises DataError, FMIndexError and
    TokenizerError.
    """
    if holds_collection(corpus):
        if index is not None and index.resolve() != corpus.resolve():
            raise DataError(f"the corpus {corpus} is a collection, which is its own index; leave {index} out")
        opened = open_collection(corpus, tokenizer=tokenizer)
        found, documents, codes = index_here(opened), opened.documents, opened.tokenizer
    else:
        if index is None or tokenizer is None:
            raise DataError(
                f"the corpus {corpus} is no collection; name its index (--index) and its tokenizer (--tokenizer)"
            )
        if holds_collection(index):
            raise DataError(f"{index} is a collection, not an index file; name it as the corpus (--corpus)")
        found = FMIndex.load(index)
        codes = tokenizer_of(found, load_tokenizer(tokenizer))
        documents = DocumentStore.open_indexed(corpus, found.doc_ids, index=index)
    require_same_texts(found, documents.contents, codes)
    return found, documents, codes
