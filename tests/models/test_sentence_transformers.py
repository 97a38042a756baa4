"""Encoders and cross-encoders from local folders: agree with the library and with the formula, and say what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_encoder import save_tiny_encoder
from transformers import AutoModel, AutoTokenizer, BertConfig, BertForSequenceClassification

from gemkr.errors import ModelError
from gemkr.models.hf.sentence_transformers import CrossEncoderModel, SentenceTransformerEncoder
from gemkr.types import Document, Query

WORDS = ["what", "is", "tea", "coffee", "a", "drink", "find", "passage", ":"]
TEXTS = ["a drink", "tea is a drink", "what is coffee"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_encoder(tmp_path_factory.mktemp("encoder") / "e", WORDS)


def encoder(folder: Path, **settings: object) -> SentenceTransformerEncoder:
    return SentenceTransformerEncoder(SentenceTransformerEncoder.Config(folder=str(folder), **settings))


def mean_of_states(folder: Path, text: str) -> np.ndarray:
    """The twin: the mean of the states of one text alone, of length 1."""
    tokens = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    with torch.no_grad():
        states = AutoModel.from_pretrained(folder)(**tokens).last_hidden_state[0]
    mean = states.mean(dim=0)
    return (mean / mean.norm()).numpy()


def test_a_plain_folder_gives_the_mean_of_its_states(folder: Path) -> None:
    ours = encoder(folder)
    vectors = ours.encode_documents([Document("a", TEXTS[0]), Document("b", "a drink", title="tea is")])
    assert vectors.shape == (2, ours.width)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors[0], mean_of_states(folder, TEXTS[0]), atol=1e-5)
    np.testing.assert_allclose(vectors[1], mean_of_states(folder, "tea is. a drink"), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert ours.encode_documents([]).shape == (0, ours.width)


def test_queries_with_captions_and_instructions(folder: Path) -> None:
    queries = [
        Query("1", "what is tea", caption="a drink"),
        Query("2", "what is tea", instruction="find a passage :"),
    ]
    plain = encoder(folder).encode_queries(queries)
    np.testing.assert_allclose(plain[0], mean_of_states(folder, "what is tea"), atol=1e-5)
    np.testing.assert_allclose(plain[1], mean_of_states(folder, "find a passage : what is tea"), atol=1e-5)
    other = encoder(folder, caption=True, instruction_prompt="a {instruction} ").encode_queries(queries)
    np.testing.assert_allclose(other[0], mean_of_states(folder, "what is tea a drink"), atol=1e-5)
    np.testing.assert_allclose(other[1], mean_of_states(folder, "a find a passage : what is tea"), atol=1e-5)


def test_the_models_own_prompts_and_similarity(folder: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), local_files_only=True)
    model.prompts = {"query": "find ", "document": "passage "}
    model.similarity_fn_name = "dot"
    model.save(str(tmp_path / "own"))
    ours = encoder(tmp_path / "own")
    (query,) = ours.encode_queries([Query("1", "tea")])
    (document,) = ours.encode_documents([Document("a", "tea")])
    np.testing.assert_allclose(query / np.linalg.norm(query), mean_of_states(folder, "find tea"), atol=1e-5)
    assert abs(np.linalg.norm(document) - 1) > 0.01
    assert ours.fingerprint != encoder(folder).fingerprint


def test_the_fingerprint_follows_what_decides_a_vector(folder: Path, tmp_path: Path) -> None:
    assert encoder(folder).fingerprint == encoder(folder, batch_size=2).fingerprint
    assert encoder(folder).fingerprint != encoder(folder, max_tokens=5).fingerprint
    other = save_tiny_encoder(tmp_path / "other", WORDS, layers=1)
    assert encoder(folder).fingerprint != encoder(other).fingerprint


def test_encoders_that_cannot_be_used(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="none is not there; give a local folder"):
        encoder(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="cannot be loaded"):
        encoder(tmp_path / "empty")
    with pytest.raises(ModelError, match=r"no \{instruction\} in it"):
        encoder(folder, instruction_prompt="find")
    with pytest.raises(ModelError, match="'q' has no question"):
        encoder(folder).encode_queries([Query("q", image="photo")])


def test_a_cross_encoder_scores_pairs(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    size = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    for labels in (1, 2):
        config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=40, num_labels=labels, **size)
        model = BertForSequenceClassification(config).eval()
        model.save_pretrained(tmp_path / str(labels))
        tokenizer.save_pretrained(tmp_path / str(labels))
    with pytest.raises(ModelError, match="has 2 outputs, one is needed"):
        CrossEncoderModel(str(tmp_path / "2"))
    ours = CrossEncoderModel(str(tmp_path / "1"))
    scores = ours.score("what is tea", TEXTS)
    model = BertForSequenceClassification.from_pretrained(tmp_path / "1").eval()
    with torch.no_grad():
        expected = [model(**tokenizer("what is tea", t, return_tensors="pt")).logits.item() for t in TEXTS]
    assert np.allclose(scores, 1 / (1 + np.exp(-np.array(expected))), atol=1e-5)
    assert ours.score("what", []).shape == (0,)


def test_precision(folder: Path) -> None:
    documents = [Document(str(number), text) for number, text in enumerate(TEXTS)]
    exact, half = encoder(folder), encoder(folder, precision="bf16")
    vectors = half.encode_documents(documents)
    assert vectors.dtype == np.float32
    assert 0 < np.abs(vectors - exact.encode_documents(documents)).max() < 0.02
    assert half.fingerprint != exact.fingerprint
    with pytest.raises(ModelError, match="the precision 'int4' is unknown; use fp32, bf16, fp16"):
        encoder(folder, precision="int4")
