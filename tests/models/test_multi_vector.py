"""Token encoders of sentence-transformers: folders of a ColBERT give the vectors that the library gives."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from sentence_transformers.sentence_transformer.modules import Normalize
from tiny_encoder import save_tiny_encoder
from tiny_flmr import MARKED

from gemkr.errors import ModelError
from gemkr.interfaces import TokenVectors
from gemkr.models.hf.multi_vector import MultiVectorTokenEncoder
from gemkr.retrievers.late_interaction import LateInteractionRetriever
from gemkr.types import Document, Query
from gemkr.vector_index.token_exact import ExactTokenIndex

QUERIES = [Query("a", "a red cat"), Query("b", "which one", instruction="find a photo of the house")]
DOCUMENTS = [
    Document("a", "the blue bird, one."),
    Document("none"),
    Document("b", "a boat of the dog", "tree"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ColBERT: a marker for each side, queries filled up to 12 tokens, punctuation left out of documents."""
    folder = tmp_path_factory.mktemp("colbert")
    save_tiny_encoder(folder / "bert", MARKED)
    expansion = {"strategy": "fixed", "attend": False, "length": 12}
    first = Transformer(str(folder / "bert"), query_expansion=expansion, document_length=9)
    torch.manual_seed(0)
    project = Dense(
        24, 8, bias=False, activation_function=torch.nn.Identity(), module_input_name="token_embeddings"
    )
    modules = [
        first,
        project,
        MultiVectorMask(skiplist_words=[",", "."]),
        Normalize(module_input_name="token_embeddings"),
    ]
    model = MultiVectorEncoder(modules=modules, prompts={"query": "[unused0] ", "document": "[unused1] "})
    model.save(str(folder / "colbert"))
    return folder


def encoder(folder: Path, name: str = "colbert", **settings: object) -> MultiVectorTokenEncoder:
    config = MultiVectorTokenEncoder.Config(folder=str(folder / name), **settings)
    return MultiVectorTokenEncoder.from_config(config, None)


def test_vectors_are_those_of_the_library(folder: Path) -> None:
    own, theirs = encoder(folder), MultiVectorEncoder(str(folder / "colbert"), local_files_only=True)
    texts = ["a red cat", "find a photo of the house which one"]
    for found, expected in (
        (own.encode_queries(QUERIES), theirs.encode_query(texts, convert_to_numpy=True)),
        (own.encode_documents(DOCUMENTS[::2]), theirs.encode_document([d.contents for d in DOCUMENTS[::2]], convert_to_numpy=True)),
    ):  # fmt: skip
        assert np.diff(found.offsets).tolist() == [len(vectors) for vectors in expected]
        np.testing.assert_allclose(found.values, np.concatenate(expected), atol=1e-5)
    assert np.diff(own.encode_queries(QUERIES).offsets).tolist() == [12, 12]
    assert np.diff(own.encode_documents(DOCUMENTS).offsets)[1] == 0
    assert own.width == 8


def test_a_plain_folder_is_given_the_same_projection_every_time(folder: Path) -> None:
    one, other = encoder(folder, "bert"), encoder(folder, "bert")
    assert one.width == 128
    assert one.fingerprint == other.fingerprint
    assert one.fingerprint != encoder(folder, "bert", document_tokens=5).fingerprint


def test_texts_are_cut_where_it_is_asked_for(folder: Path) -> None:
    short = encoder(folder, query_tokens=7, document_tokens=6)
    assert np.diff(short.encode_queries(QUERIES).offsets).tolist() == [7, 7]
    assert np.diff(
        short.encode_documents([Document("d", "a red cat of the big green house")]).offsets
    ).tolist() == [6]


def test_vectors_are_described(folder: Path) -> None:
    """In the order of the vectors: spelled tokens of queries, masks among them; characters of a document, without marker and points."""
    own = encoder(folder)
    spelled = [vector.text for vector in own.describe_query(QUERIES[0])]
    ends = spelled.index("[SEP]")
    assert (spelled[0], spelled[ends - 3 : ends]) == ("[CLS]", ["a", "red", "cat"])
    assert spelled[ends + 1 :] == ["[MASK]"] * (11 - ends)
    for document in [
        *DOCUMENTS,
        Document("long", "a red cat of the big green house which is small", "tree,"),
    ]:
        places = own.describe_document(document)
        assert len(places) == len(own.encode_documents([document]).values)
        words = [document.contents[start:stop] for start, stop in places.tolist()]
        found = [word for word in words if word]
        assert found == re.findall(r"\w+", document.contents)[: len(found)]
        assert len(found) >= (2 if words else 0)
    assert own.describe_document(DOCUMENTS[1]).shape == (0, 2)


def test_a_hit_is_explained_by_its_tokens(folder: Path) -> None:
    own = encoder(folder)
    values = own.encode_documents(DOCUMENTS)
    tokens = TokenVectors(values.values.astype(np.float16), values.offsets)
    retriever = LateInteractionRetriever(own, ExactTokenIndex(tokens), [d.doc_id for d in DOCUMENTS])
    assert retriever.explains
    for query, ranking in zip(QUERIES, retriever.retrieve(QUERIES, 3), strict=True):
        assert [hit.doc_id for hit in ranking.hits] in (["a", "b"], ["b", "a"])
        for hit in ranking.hits:
            document = next(d for d in DOCUMENTS if d.doc_id == hit.doc_id)
            (matches,) = retriever.explain(query, [document])
            assert len(matches) == 12
            assert sum(match.score for match in matches) == pytest.approx(hit.score, abs=0.01)
            products = own.encode_queries([query]).values @ own.encode_documents([document]).values.T
            places = own.describe_document(document)[products.argmax(axis=1)]
            assert [(match.start, match.stop) for match in matches] == [tuple(p) for p in places.tolist()]
    assert retriever.explain(QUERIES[0], [DOCUMENTS[1]]) == [()]
    assert retriever.explain(QUERIES[0], []) == []


def test_what_cannot_be_read(folder: Path) -> None:
    with pytest.raises(ModelError, match="the query 'q' has no question, and this encoder reads texts only"):
        encoder(folder).encode_queries([Query("q", " ", image="one")])
    with pytest.raises(ModelError, match=r"the multi-vector folder .* is not there"):
        encoder(folder, "none")


def test_a_tokenizer_that_cannot_pad_is_named(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "colbert", tmp_path / "colbert")
    for file in tmp_path.rglob("tokenizer_config.json"):
        file.write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "mask_token": "[MASK]"}))
    for file in tmp_path.rglob("special_tokens_map.json"):
        file.unlink()
    with pytest.raises(ModelError, match=r"the tokenizer of the multi-vector folder .* has no padding token"):
        encoder(tmp_path)


def test_precision(folder: Path) -> None:
    exact, half = encoder(folder), encoder(folder, precision="bf16")
    vectors = half.encode_documents(DOCUMENTS)
    expected = exact.encode_documents(DOCUMENTS)
    np.testing.assert_array_equal(vectors.offsets, expected.offsets)
    assert vectors.values.dtype == np.float32
    assert 0 < np.abs(vectors.values - expected.values).max() < 0.03
    assert half.fingerprint != exact.fingerprint
    with pytest.raises(ModelError, match="the precision 'int4' is unknown; use fp32, bf16, fp16"):
        encoder(folder, precision="int4")
