"""Tokenizers: the two kinds of files agree with each other's contract, offsets, fingerprints, clear errors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from toy_text import TEXTS, documents, train_byte_level, train_sentencepiece

from gemkr.errors import DataError, TokenizerError
from gemkr.fm_index import FMIndex
from gemkr.fm_index.errors import TokenizerMismatchError
from gemkr.text import tokenization
from gemkr.text.index_tokenizer import require_same_texts, tokenizer_of
from gemkr.text.normalize import normalize
from gemkr.text.tokenization import tokenize_corpus
from gemkr.text.tokenizer import Tokenizer, as_written, fitted, load_tokenizer
from gemkr.text.word_tokens import TextEncoder
from gemkr.types import Document

HARD = [
    *TEXTS,
    "",
    "😀",
    "naïve 😀 wörld",
    "<s> is no special token </s> <|end_of_text|>",
    "two  spaces\tand\nlines",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizers")
    train_sentencepiece(folder / "toy.model")
    train_byte_level(folder / "bytes")
    return folder


@pytest.fixture(scope="module", params=["toy.model", "bytes"])
def tokenizer(folder: Path, request: pytest.FixtureRequest) -> Tokenizer:
    return load_tokenizer(folder / request.param)


@pytest.mark.parametrize("text", HARD)
def test_round_trip_without_special_tokens(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert not set(ids) & tokenizer.special_ids
    assert all(0 <= i < tokenizer.vocab_size for i in ids)
    assert tokenizer.decode(ids) == normalize(text)
    assert tokenizer.decode([*tokenizer.eos_ids, *ids, *tokenizer.eos_ids]) == normalize(text)
    assert as_written(tokenizer).decode(as_written(tokenizer).encode(text)) == text
    assert b"".join(map(tokenizer.piece_bytes, ids)).decode() == (f" {normalize(text)}" if ids else "")


def test_batch_equals_single(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode_batch(HARD) == [tokenizer.encode(text) for text in HARD]


@pytest.mark.parametrize("text", HARD)
def test_offsets_cover_the_text(tokenizer: Tokenizer, text: str) -> None:
    ids, starts = tokenizer.encode_with_offsets(text)
    assert ids == tokenizer.encode(text)
    assert starts.dtype == np.int64
    assert len(starts) == len(ids) + 1
    assert starts[-1] == len(text)
    assert (np.diff(starts) >= 0).all()


def test_offsets_highlight_a_word(tokenizer: Tokenizer) -> None:
    text = "A naïve 😀 pony tail is blue."
    ids, starts = tokenizer.encode_with_offsets(text)
    word = tokenizer.encode("pony tail")
    at = next(i for i in range(len(ids)) if ids[i : i + len(word)] == word)
    assert text[starts[at] : starts[at + len(word)]].strip() == "pony tail"


def test_texts_are_read_without_odd_white_space_and_composed(tokenizer: Tokenizer) -> None:
    plain = tokenizer.encode("The naïve owl hunts voles")
    for text in ("The naïve owl\nhunts voles", " The nai\u0308ve\u3000owl \r\n hunts\tvoles\u2028"):
        assert tokenizer.encode(text) == tokenizer.encode_batch([text])[0] == plain
        ids, starts = tokenizer.encode_with_offsets(text)
        assert ids == plain
        word = tokenizer.encode("hunts voles")
        at = next(i for i in range(len(ids)) if ids[i : i + len(word)] == word)
        assert text[starts[at] : starts[at + len(word)]].split() == ["hunts", "voles"]
    written = as_written(tokenizer)
    assert written.encode("The owl\nhunts") != tokenizer.encode("The owl\nhunts")
    assert written.encode("The owl hunts") == tokenizer.encode("The owl hunts")
    assert as_written(written) is written


def test_an_index_tells_how_texts_were_read(tokenizer: Tokenizer) -> None:
    written = as_written(tokenizer)
    assert written.fingerprint() != tokenizer.fingerprint()
    assert fitted(tokenizer, written.fingerprint()) is written
    assert fitted(written, tokenizer.fingerprint()).fingerprint() == tokenizer.fingerprint()
    assert fitted(tokenizer, "another") is tokenizer
    texts = ["two  owls\nhunt"]
    for built in (written, tokenizer):
        index = FMIndex.build(built.encode_batch(texts), tokenizer=built)
        for given in (written, tokenizer):
            read = tokenizer_of(index, given)
            assert read.encode(texts[0]) == index.extract(0).tolist()
            require_same_texts(index, texts.__getitem__, read)
    other = FMIndex.build([[1]], tokenizer=Other())
    with pytest.raises(TokenizerMismatchError):
        tokenizer_of(other, tokenizer)


class Other:
    vocab_size = 2

    def fingerprint(self) -> str:
        return "another"


def test_a_word_has_the_same_tokens_at_the_start_and_inside(tokenizer: Tokenizer) -> None:
    word = tokenizer.encode("Tokyo")
    assert tokenizer.encode("Tokyo is large")[: len(word)] == word
    assert tokenizer.encode("is Tokyo")[-len(word) :] == word


def test_word_starts(tokenizer: Tokenizer) -> None:
    starts = tokenizer.word_start
    assert starts.dtype == bool
    assert starts.shape == (tokenizer.vocab_size,)
    assert not starts[list(tokenizer.special_ids)].any()
    ids = tokenizer.encode("surfboard giraffe")
    assert starts[ids[0]]
    assert sum(bool(starts[t]) for t in ids) == 2
    with pytest.raises(ValueError, match="read-only"):
        starts[0] = True


def test_special_ids_are_valid(tokenizer: Tokenizer) -> None:
    assert tokenizer.eos_ids
    assert set(tokenizer.eos_ids) <= tokenizer.special_ids
    assert tokenizer.bos_id in tokenizer.special_ids
    assert 0 <= tokenizer.pad_id < tokenizer.vocab_size
    assert tokenizer.piece(tokenizer.encode("Tokyo")[0])[0] in "▁Ġ"


def test_the_fingerprint_belongs_to_the_vocabulary_not_to_the_place(folder: Path, tmp_path: Path) -> None:
    alone = load_tokenizer(folder / "toy.model").fingerprint()
    home = tmp_path / "llama"
    home.mkdir()
    shutil.copy(folder / "toy.model", home / "tokenizer.model")
    assert load_tokenizer(home).fingerprint() == alone
    (home / "tokenizer_config.json").write_text(json.dumps({"pad_token": "<pad>", "add_bos_token": True}))
    shutil.copy(folder / "bytes" / "tokenizer.json", home / "tokenizer.json")
    assert load_tokenizer(home).fingerprint() == alone
    other = train_sentencepiece(tmp_path / "other.model", vocab_size=400)
    assert load_tokenizer(other).fingerprint() != alone
    assert load_tokenizer(folder / "bytes").fingerprint() != alone
    assert len(alone) == 64


def test_a_tiktoken_file_named_tokenizer_model_gives_way_to_tokenizer_json(
    folder: Path, tmp_path: Path
) -> None:
    home = tmp_path / "llama3"
    shutil.copytree(folder / "bytes", home)
    (home / "tokenizer.model").write_text("IQ== 0\nIg== 1\n")
    assert load_tokenizer(home).fingerprint() == load_tokenizer(folder / "bytes").fingerprint()


def test_a_folder_of_the_old_kind_is_converted(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    model = json.loads((folder / "bytes" / "tokenizer.json").read_text())["model"]
    home = tmp_path / "gpt2"
    home.mkdir()
    (home / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    (home / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    names = {
        "tokenizer_class": "GPT2Tokenizer",
        "bos_token": "<|end_of_text|>",
        "eos_token": "<|end_of_text|>",
    }
    (home / "tokenizer_config.json").write_text(json.dumps({**names, "unk_token": "<|end_of_text|>"}))
    (home / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    old, new = load_tokenizer(home), load_tokenizer(folder / "bytes")
    assert old.encode(TEXTS[5]) == new.encode(TEXTS[5])
    assert old.eos_ids == new.eos_ids


def test_tokenizers_that_cannot_be_loaded(tmp_path: Path) -> None:
    (tmp_path / "bad.model").write_bytes(b"\x00\x01garbage")
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    for path, reason in [
        (tmp_path / "none.model", "does not exist"),
        (tmp_path / "bad.model", "no readable sentencepiece model"),
        (tmp_path / "tokenizer.json", "no readable tokenizer.json"),
        (tmp_path / "empty", "holds no tokenizer"),
    ]:
        with pytest.raises(TokenizerError, match=reason) as caught:
            load_tokenizer(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_tokenized_corpus(tokenizer: Tokenizer) -> None:
    seen: list[tuple[int, int]] = []
    corpus = tokenize_corpus(documents(), tokenizer, progress=lambda *done: seen.append(done))
    assert corpus.tokens.dtype == np.uint16
    assert corpus.offsets.dtype == np.int64
    assert corpus.doc_ids == [document.doc_id for document in documents()]
    assert [corpus.document(i).tolist() for i in range(len(corpus))] == tokenizer.encode_batch(TEXTS)
    assert seen[-1] == (len(TEXTS), len(corpus.tokens))


@pytest.mark.parametrize("by_words", [True, False], ids=["thread", "processes"])
def test_any_number_of_processes_gives_the_same(
    tokenizer: Tokenizer, by_words: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TextEncoder, "by_words", property(lambda encoder: by_words))
    monkeypatch.setattr(tokenization, "CHUNK_CHARACTERS", 200)
    many = [Document(str(i), " ".join(TEXTS) + f" {i}") for i in range(24)]
    one = tokenize_corpus(many, tokenizer, processes=1)
    two = tokenize_corpus(many, tokenizer, processes=2)
    assert np.array_equal(one.tokens, two.tokens)
    assert np.array_equal(one.offsets, two.offsets)
    assert (one.doc_ids, one.corpus_hash) == (two.doc_ids, two.corpus_hash)
    assert one.tokens.size > 1 << 11


def test_what_stops_the_reading_stops_the_tokenizing(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenization, "CHUNK_CHARACTERS", 200)

    def broken() -> Iterator[Document]:
        yield from (Document(str(i), " ".join(TEXTS)) for i in range(24))
        raise DataError("row 25 is bad")

    with pytest.raises(DataError, match="row 25"):
        tokenize_corpus(broken(), tokenizer, processes=2)


def test_the_corpus_hash_tells_texts_and_ids_apart(tokenizer: Tokenizer) -> None:
    hashes = {
        tokenize_corpus([Document("a", "b"), Document("c", "d")], tokenizer).corpus_hash,
        tokenize_corpus([Document("a", "bc"), Document("c", "d")], tokenizer).corpus_hash,
        tokenize_corpus([Document("c", "d"), Document("a", "b")], tokenizer).corpus_hash,
        tokenize_corpus([Document("ab", "b"), Document("c", "d")], tokenizer).corpus_hash,
    }
    assert len(hashes) == 4


@pytest.mark.shared
def test_the_llama_tokenizer(shared_data: Path) -> None:
    tokenizer = load_tokenizer(shared_data / "llama_tokenizer" / "tokenizer.model")
    assert (tokenizer.vocab_size, tokenizer.bos_id, tokenizer.eos_ids, tokenizer.unk_id) == (
        32_000,
        1,
        (2,),
        0,
    )
    assert tokenizer.encode("Hello") == [15043]
    assert tokenizer.word_start[15043]
